"""Recognise this machine. Parsers are pure functions of text; only `detect` touches the machine."""

import json
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from metainf.catalog.devices import devices, lookup
from metainf.domain import Device, Hardware

CORES = re.compile(
    r"\b\d+-core\b|\bprocessor\b|\bcpu\b|@.*$|\((?:r|tm)\)|\bplatinum\b|\bgold\b", re.IGNORECASE
)

VECTORS = {
    "amx_tile": "AMX", "avx512_bf16": "AVX-512 BF16", "avx512f": "AVX-512", "avx2": "AVX2", "sve": "SVE",
    "asimd": "NEON",
}  # fmt: skip
"""Vector instructions by their flag, the widest first."""


def detect() -> list[Hardware]:
    """Hardware of this machine: NVIDIA and AMD accelerators (where a driver answers), then the CPU.

    An accelerator that the catalogue does not know is given with what its driver says, nothing more.
    """
    return [*_nvidia(), *_amd(), *_cpu()]


def parse_cpuinfo(text: str) -> tuple[str | None, int, int]:
    """(model name, logical cores, sockets) of /proc/cpuinfo."""
    names = re.findall(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    cores = len(re.findall(r"^processor\s*:", text, re.MULTILINE))
    sockets = len(set(re.findall(r"^physical id\s*:\s*(\d+)", text, re.MULTILINE)))
    return (names[0].strip() if names else None), cores, max(sockets, 1)


def parse_vectors(text: str) -> str | None:
    """The widest vector instructions in the flags of /proc/cpuinfo; None where it tells none that count."""
    flags = set(
        re.findall(r"[\w.]+", " ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)))
    )
    return next((name for flag, name in VECTORS.items() if flag in flags), None)


def parse_meminfo(text: str) -> float | None:
    """Memory in GiB of /proc/meminfo."""
    match = re.search(r"^MemTotal:\s*(\d+)\s*kB", text, re.MULTILINE)
    return int(match[1]) / 2**20 if match else None


def parse_rocm_smi(text: str) -> list[tuple[str, float | None]]:
    """(name, memory in GiB) of each GPU in `rocm-smi --showproductname --showmeminfo vram --json`."""
    found = []
    for card in _json(text).values() if isinstance(_json(text), dict) else ():
        if not isinstance(card, dict):
            continue
        name = card.get("Card Series") or card.get("Card series") or card.get("Card Model")
        memory = card.get("VRAM Total Memory (B)")
        if name:
            found.append((str(name), int(memory) / 2**30 if memory else None))
    return found


def parse_amd_smi(text: str) -> list[tuple[str, float | None]]:
    """(name, memory in GiB) of each GPU in `amd-smi static --asic --vram --json`."""
    rows = _json(text)
    rows = rows.get("gpu_data", []) if isinstance(rows, dict) else rows
    found = []
    for row in rows if isinstance(rows, list) else ():
        name = row.get("asic", {}).get("market_name")
        size = row.get("vram", {}).get("size")
        value = size.get("value") if isinstance(size, dict) else size
        if name:
            found.append((str(name), float(value) / 1024 if isinstance(value, int | float) else None))
    return found


def match_accelerators(found: list[tuple[str, float | None]], vendor: str) -> list[Hardware]:
    """Group equal (name, memory in GiB) pairs and match each to a catalogue device."""
    counts: dict[tuple[str, int | None], int] = {}
    for name, memory in found:
        pair = (name, None if memory is None else round(memory))
        counts[pair] = counts.get(pair, 0) + 1
    return [
        Hardware(device=_device(name, memory, vendor), count=count, nodes=1)
        for (name, memory), count in counts.items()
    ]


def match_cpu(
    name: str | None, cores: int, sockets: int, memory_gib: float | None, vectors: str | None = None
) -> Hardware:
    """The CPU as hardware. `memory_gib` is this machine's, for the catalogue gives only what it can hold.

    Virtual machines often tell no more than a family ("AMD EPYC"), whose members differ by their vector
    instructions and with these by a factor: an unknown processor bears them in its name.
    """
    known = None if name is None else lookup(name) or lookup(" ".join(CORES.sub(" ", name).split()))
    facts: dict[str, Any] = {"name": name or "cpu", "kind": "cpu", "source": "the operating system"}
    if vectors is not None:
        facts |= {"name": f"{facts['name']} ({vectors})", "arch": vectors}
    device = Device.of(facts) if known is None else devices()[known]
    memory = None if memory_gib is None else round(memory_gib / sockets, 1)
    own = device.model_copy(update={"memory_gib": memory})
    return Hardware(device=own, count=sockets, nodes=1, platform=f"{cores} logical cores" if cores else None)


def _device(name: str, memory: int | None, vendor: str) -> Device:
    stated = name if memory is None or re.search(r"\d\s?GB", name) else f"{name} {memory}GB"
    known = lookup(stated) or lookup(name)
    if known is not None:
        return devices()[known]
    facts = {"name": name, "vendor": vendor, "kind": "gpu", "memory_gib": memory, "source": "its driver"}
    return Device.of({key: value for key, value in facts.items() if value is not None})


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _nvidia() -> list[Hardware]:
    """GPUs that NVML reports; none where nvidia-ml-py (extra `nvidia`) or a driver is absent."""
    try:
        import pynvml
    except ImportError:
        return _nvidia_smi()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        found: list[tuple[str, float | None]] = [
            (str(pynvml.nvmlDeviceGetName(h)), float(pynvml.nvmlDeviceGetMemoryInfo(h).total) / 2**30)
            for h in handles
        ]
    finally:
        pynvml.nvmlShutdown()
    return match_accelerators(found, "NVIDIA")


def parse_nvidia_smi(text: str) -> list[tuple[str, float | None]]:
    """(name, memory in GiB) of `nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits`."""
    found: list[tuple[str, float | None]] = []
    for line in text.strip().splitlines():
        name, _, memory = line.rpartition(",")
        if name:
            found.append((name.strip(), int(memory) / 1024 if memory.strip().isdigit() else None))
    return found


def _nvidia_smi() -> list[Hardware]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    return match_accelerators(parse_nvidia_smi(_output(query)), "NVIDIA")


def _amd() -> list[Hardware]:
    found = parse_amd_smi(_output(["amd-smi", "static", "--asic", "--vram", "--json"]))
    if not found:
        found = parse_rocm_smi(_output(["rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json"]))
    return match_accelerators(found, "AMD")


def cpu_name() -> str | None:
    """What this machine's processor calls itself; None where nothing tells."""
    if platform.system() == "Darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]).strip() or None
    return parse_cpuinfo(_read("/proc/cpuinfo"))[0] or platform.processor() or None


def _cpu() -> list[Hardware]:
    name = cpu_name()
    if platform.system() == "Darwin":
        size = _output(["sysctl", "-n", "hw.memsize"]).strip()
        return [match_cpu(name, 0, 1, int(size) / 2**30 if size.isdigit() else None)]
    text = _read("/proc/cpuinfo")
    _, cores, sockets = parse_cpuinfo(text)
    return [match_cpu(name, cores, sockets, parse_meminfo(_read("/proc/meminfo")), parse_vectors(text))]


def _read(path: str) -> str:
    file = Path(path)
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def _output(command: list[str]) -> str:
    """What a command prints; nothing where it is absent, fails or takes more than ten seconds."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
