"""Recognising a machine from the texts that systems and drivers print."""

import json

from metainf.catalog import detect
from metainf.catalog.detect import (
    match_accelerators,
    match_cpu,
    parse_amd_smi,
    parse_cpuinfo,
    parse_meminfo,
    parse_nvidia_smi,
    parse_rocm_smi,
    parse_vectors,
)

CPUINFO = "".join(
    f"processor\t: {n}\nmodel name\t: AMD EPYC 9654 96-Core Processor\nphysical id\t: {n // 2}\n\n"
    for n in range(4)
)


def test_cpuinfo_and_meminfo() -> None:
    assert parse_cpuinfo(CPUINFO) == ("AMD EPYC 9654 96-Core Processor", 4, 2)
    assert parse_cpuinfo("") == (None, 0, 1)
    assert parse_meminfo("MemTotal:       33554432 kB\nMemFree: 1 kB\n") == 32
    assert parse_meminfo("nothing") is None


def test_known_cpu_keeps_this_machines_memory() -> None:
    found = match_cpu("AMD EPYC 9654 96-Core Processor", 384, 2, 1536.0)
    assert (found.device.name, found.count, found.device.memory_gib) == ("epyc-9654", 2, 768)
    assert match_cpu("Intel(R) Xeon(R) Platinum 8480+", 112, 1, 64).device.name == "xeon-8480"


def test_unknown_cpu_is_given_as_it_says() -> None:
    found = match_cpu("Mystery CPU @ 2.00GHz", 8, 1, 16)
    assert (found.device.name, found.device.kind) == ("Mystery CPU @ 2.00GHz", "cpu")
    assert found.device.memory_bandwidth_gb_per_s is None


def test_an_unknown_cpu_bears_its_vector_instructions() -> None:
    told = "processor: 0\nmodel name: AMD EPYC\nflags\t\t: fpu sse2 {}\n"
    assert parse_vectors(told.format("avx2")) == "AVX2"
    assert parse_vectors(told.format("avx2 avx512f")) == "AVX-512"
    assert parse_vectors(told.format("avx2 avx512f avx512_bf16 amx_tile")) == "AMX"
    assert parse_vectors("Features\t: fp asimd") == "NEON" and parse_vectors("") is None
    found = match_cpu("AMD EPYC", 2, 1, 24, "AVX2").device
    assert (found.name, found.arch, found.kind) == ("AMD EPYC (AVX2)", "AVX2", "cpu")
    assert match_cpu("AMD EPYC 9654 96-Core Processor", 96, 1, 64, "AVX-512").device.name == "epyc-9654"


def test_nvidia_smi() -> None:
    found = parse_nvidia_smi("NVIDIA A100-SXM4-80GB, 81920\n" * 2 + "NVIDIA GeForce RTX 3060, 12288\n")
    matched = match_accelerators(found, "NVIDIA")
    assert [(h.device.name, h.count) for h in matched] == [("a100-80-sxm", 2), ("rtx-3060-12", 1)]
    assert parse_nvidia_smi("") == []


def test_amd_tools() -> None:
    rocm = {"card0": {"Card Series": "AMD Instinct MI300X", "VRAM Total Memory (B)": str(192 * 2**30)}}
    assert parse_rocm_smi(json.dumps(rocm)) == [("AMD Instinct MI300X", 192.0)]
    row = {"asic": {"market_name": "AMD Instinct MI300X"}, "vram": {"size": {"value": 196592, "unit": "MB"}}}
    for text in (json.dumps([row]), json.dumps({"gpu_data": [row, row]})):
        matched = match_accelerators(parse_amd_smi(text), "AMD")
        assert {h.device.name for h in matched} == {"mi300x"}
    for parse in (parse_rocm_smi, parse_amd_smi):
        assert parse("not json") == []
        assert parse("[]") == []


def test_unknown_accelerator_keeps_what_the_driver_says() -> None:
    (found,) = match_accelerators([("Mystery 9000", 40.2)], "NVIDIA")
    assert (found.device.name, found.device.memory_gib, found.device.fp16_tflops) == (
        "Mystery 9000",
        40,
        None,
    )


def test_this_machine_is_recognised() -> None:
    found = detect()
    assert found
    assert found[-1].device.kind in {"cpu", "apu"}
