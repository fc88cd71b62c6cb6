"""A device that the catalogue does not know, from a small TOML file."""

import tomllib
from pathlib import Path

from metainf.domain import BadInput, Device

KEYS = {
    "name": "text, required",
    "title": "text",
    "vendor": "text",
    "kind": "gpu, cpu, tpu, npu or apu",
    "arch": "text",
    "memory_gib": "capacity as sold, 80 for an 80 GB card, required",
    "memory_bandwidth_gb_per_s": "1e9 bytes per second, required",
    "fp32_tflops": "dense",
    "fp16_tflops": "dense",
    "bf16_tflops": "dense",
    "fp8_tflops": "dense",
    "int8_tops": "dense",
    "fp4_tflops": "dense",
    "scaleup_gb_per_s": "link between devices, one direction",
    "host_link_gb_per_s": "one direction",
    "tdp_w": "watts",
    "compute_capability": "text such as 9.0 or gfx942",
    "release": "text such as 2024-11",
    "typical_per_node": "whole number",
    "source": "where the figures come from",
    "attestation": "trusted execution environment that can prove what it runs, such as SEV-SNP",
}
REQUIRED = ("name", "memory_gib", "memory_bandwidth_gb_per_s")
EXPECTED = "; ".join(f"{key} ({meaning})" for key, meaning in KEYS.items())


def read_device(path: Path) -> Device:
    """Device of a TOML file with the keys of `KEYS` at top level or under [device].

    Raises BadInput naming what is unknown, missing or wrong, with every key and its unit.
    """
    return read_machine(path)[0]


def read_machine(path: Path) -> tuple[Device, str | None]:
    """The same, and what the file says of a trusted execution environment."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read device file {path.name}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} is not TOML: {error}") from None
    rows = found.get("device", found)
    if not isinstance(rows, dict):
        raise BadInput(f"{path.name}: expected one [device] table; expected keys: {EXPECTED}")
    unknown = sorted(set(rows) - set(KEYS))
    missing = [key for key in REQUIRED if key not in rows]
    if unknown or missing:
        what = [f"unknown {', '.join(unknown)}"] if unknown else []
        what += [f"missing {', '.join(missing)}"] if missing else []
        raise BadInput(f"device file {path.name}: {'; '.join(what)}; expected keys: {EXPECTED}")
    try:
        attestation = rows.get("attestation")
        if attestation is not None and (not isinstance(attestation, str) or not attestation.strip()):
            raise BadInput(f"attestation: expected text, found {attestation!r:.40}")
        facts = {key: value for key, value in rows.items() if key != "attestation"}
        return Device.of(facts | {"source": rows.get("source", f"device file {path.name}")}), attestation
    except BadInput as error:
        raise BadInput(f"device file {path.name}: {error}; expected keys: {EXPECTED}") from None
