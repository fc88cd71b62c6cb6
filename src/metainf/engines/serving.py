"""What the launch commands of the serving engines share: data types, context length, warnings."""

import math

from metainf.domain import Hardware, Method, Model, NotSupported, Workload
from metainf.engines.compatibility import check

_DTYPES = {
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp16": "float16",
    "float16": "float16",
    "half": "float16",
    "fp32": "float32",
    "float32": "float32",
    "auto": "auto",
}


def dtype_name(dtype: str) -> str:
    """The PyTorch name of a number format; NotSupported for one that servers do not load."""
    name = _DTYPES.get(dtype.lower())
    if name is None:
        raise NotSupported(f"no server loads dtype {dtype}; they load {', '.join(sorted(_DTYPES))}")
    return name


def known_context_tokens(workload: Workload) -> int | None:
    """Longest request in tokens where the workload states both maxima, else None."""
    sides = (workload.input_tokens, workload.output_tokens)
    maxima = [side.max for side in sides if side is not None and side.max is not None]
    return math.ceil(sum(maxima)) if len(maxima) == 2 else None


def finding_notes(method: Method, model: Model, workload: Workload, hardware: Hardware) -> list[str]:
    """One line per row of the compatibility table that applies."""
    return [f"{item.effect}: {item.why} [{item.source}]" for item in check(method, model, workload, hardware)]
