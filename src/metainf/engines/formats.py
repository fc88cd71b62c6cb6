"""Bits per weight and per cached element of the number formats engines name.

GGUF: llama.cpp's quantize README, Llama 2 7B column (bits per weight over the whole file).
Block formats count their scales: NVFP4 one FP8 scale per 16 values, MXFP4 one per 32, 4-bit groups of
128 one FP16 scale and zero point, Q8_0 and Q4_0 one FP16 scale per 32.
"""

from metainf.domain import KvQuantization, Method, Model, Precision, WeightQuantization

_DTYPE_BITS = {"fp32": 32.0, "float32": 32.0, "tf32": 32.0, "float": 32.0}
_DTYPE_BITS |= dict.fromkeys(("fp16", "float16", "half", "bf16", "bfloat16", "auto"), 16.0)

_BITS = {
    "fp8": 8.0,
    "int8": 8.0,
    "w8a8": 8.0,
    "int8dq": 8.0,
    "int8wo": 8.0,
    "fp8dq": 8.0,
    "bitsandbytes": 4.5,
    "nf4": 4.5,
    "awq": 4.25,
    "gptq": 4.25,
    "int4": 4.25,
    "int4wo": 4.25,
    "nvfp4": 4.5,
    "mxfp4": 4.25,
    "mxfp8": 8.25,
    "q8_0": 8.5,
    "q6_k": 6.56,
    "q5_k_m": 5.68,
    "q4_k_m": 4.84,
    "q4_0": 4.5,
    "q4_1": 5.0,
    "f16": 16.0,
    "bf16": 16.0,
    "f32": 32.0,
    "u8": 8.0,
    "u4": 4.0,
}

GGUF_FORMATS = ("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")


def canonical(text: str) -> str:
    """One spelling per format: `fp8_e4m3` and `modelopt_fp8` are `fp8`, `modelopt_fp4` is `nvfp4`."""
    name = text.lower().replace("-", "_")
    aliases = {"modelopt_fp4": "nvfp4", "modelopt": "nvfp4", "awq_marlin": "awq", "gptq_marlin": "gptq"}
    if name in aliases:
        return aliases[name]
    return "fp8" if "fp8" in name and name not in ("mxfp8", "fp8dq") else name


def is_gguf(text: str) -> bool:
    """True for a llama.cpp file type such as Q4_K_M, IQ4_XS, F16."""
    name = text.upper()
    return name in ("F16", "BF16", "F32") or name.startswith(("Q2_", "Q3_", "Q4_", "Q5_", "Q6_", "Q8_", "IQ"))


def format_bits(text: str) -> float | None:
    """Bits per weight of a named format, or None where it is not in the table."""
    return _BITS.get(canonical(text))


def weight_bits(model: Model, method: Method) -> float | None:
    """Bits per weight of a model under a method; None where the format is unknown to us."""
    quantized = method.get(WeightQuantization)
    if quantized is not None:
        return quantized.bits or format_bits(quantized.format)
    precision = method.get(Precision)
    if precision is not None:
        return _DTYPE_BITS.get(precision.dtype.lower())
    if model.quantization is not None:
        return format_bits(model.quantization)
    return _DTYPE_BITS.get((model.dtype or "bfloat16").lower())


def kv_bits(method: Method) -> float | None:
    """Bits per cached element; 16 where the method does not quantize the cache."""
    quantized = method.get(KvQuantization)
    return 16.0 if quantized is None else format_bits(quantized.format)


def checkpoint_format(model: Model) -> str | None:
    """The quantized format the model's own checkpoint is stored in, in canonical spelling."""
    if model.quantization is None:
        return None
    return canonical(model.quantization)
