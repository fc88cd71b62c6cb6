"""What a device can compute, read from its compute capability or architecture.

Sources: vLLM's quantization hardware table (docs.vllm.ai, v0.15.1, features/quantization) and its FP8
page (v0.32.0): FP8 arithmetic from compute capability 8.9 and on MI300 and later.
"""

from typing import Literal

from metainf.domain import Device

Maker = Literal["nvidia", "amd", "intel", "apple", "cpu", "other"]

AMD_FP8 = ("CDNA3", "CDNA4", "RDNA4")
AMD_SERVING = ("CDNA2", "CDNA3", "CDNA4", "RDNA3", "RDNA4")
AMD_FP4 = ("CDNA4",)


def capability(device: Device) -> tuple[int, int] | None:
    """CUDA compute capability such as (8, 9), None where the device has none or it is unknown."""
    text = device.compute_capability
    if text is None:
        return None
    major, _, minor = text.partition(".")
    return (int(major), int(minor or 0)) if major.isdigit() and (minor or "0").isdigit() else None


def maker(device: Device) -> Maker:
    """Whose software stack drives the device; processors are `cpu` whoever makes them."""
    if device.kind == "cpu":
        return "cpu"
    vendor = (device.vendor or "").lower()
    if vendor == "nvidia" or (not vendor and capability(device) is not None):
        return "nvidia"
    if vendor in ("amd", "intel", "apple"):
        return vendor  # type: ignore[return-value]
    return "other"


def at_least(device: Device, major: int, minor: int = 0) -> bool:
    """True for an NVIDIA device of at least this compute capability."""
    found = capability(device)
    return maker(device) == "nvidia" and found is not None and found >= (major, minor)


def _arch(device: Device, families: tuple[str, ...]) -> bool:
    arch = (device.arch or "").upper().replace(" ", "")
    return maker(device) == "amd" and arch in families


def computes_bf16(device: Device) -> bool:
    """bfloat16 arithmetic in hardware."""
    return at_least(device, 8) or _arch(device, AMD_SERVING) or maker(device) in ("cpu", "intel", "other")


def computes_fp8(device: Device) -> bool:
    """FP8 matrix arithmetic: compute capability 8.9, MI300 and later, RDNA4."""
    return at_least(device, 8, 9) or _arch(device, AMD_FP8)


def computes_int8(device: Device) -> bool:
    """INT8 weights and activations: Turing and later, and processors."""
    return at_least(device, 7, 5) or maker(device) == "cpu"


def computes_nvfp4(device: Device) -> bool:
    """NVFP4 matrix arithmetic: NVIDIA Blackwell."""
    return at_least(device, 10)


def reads_awq(device: Device) -> bool:
    """4-bit AWQ weights: NVIDIA from Turing; no AMD kernels in the table."""
    return at_least(device, 7, 5)


def serves_cuda_stack(device: Device) -> bool:
    """Devices the large PyTorch servers have kernels for."""
    return at_least(device, 7) or _arch(device, AMD_SERVING)


def is_data_centre_amd(device: Device) -> bool:
    """Instinct MI300 and later."""
    return _arch(device, ("CDNA3", "CDNA4"))
