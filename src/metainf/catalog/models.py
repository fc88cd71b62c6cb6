"""Models by name. A row's `group` is the key of its architecture: equal decoder shapes and a vocabulary
within 5 %. Llama-3-8B, Llama-3.1-8B and their fine-tunes are one group, for what is measured on one says
what the other will show; so are DeepSeek-R1, V3, V3.1 and V3.2."""

from functools import cache, lru_cache
from pathlib import Path

from metainf.catalog.names import key, may_be_file, split_format, stem
from metainf.catalog.tables import Entries, table
from metainf.domain import BadInput, Model, UnknownName


@cache
def models() -> Entries[Model]:
    """Every model of the catalogue by its name (`organisation/checkpoint`)."""
    return Entries("models", Model.of)


@cache
def names_by_key() -> dict[str, str]:
    """Comparison key of every name and alias -> catalogue name."""
    found: dict[str, str] = {}
    for row in table("models"):
        for alias in (row["name"], *row.get("aliases", ())):
            found.setdefault(key(alias), row["name"])
    return found


@cache
def names_by_stem() -> dict[str, str]:
    """Stem of every name and alias -> the unquantized entry with the shortest name."""
    rows = sorted(table("models"), key=lambda row: (row.get("quantization") is not None, len(row["name"])))
    found: dict[str, str] = {}
    for row in rows:
        for alias in (row["name"], *row.get("aliases", ())):
            found.setdefault(key(stem(alias)), row["name"])
    return found


@lru_cache(maxsize=4096)
def lookup(name: str) -> tuple[str, str | None] | None:
    """(catalogue name, number format that the given name adds to it) of a known name, else None."""
    known = names_by_key()
    if name in models():
        return name, None
    if found := known.get(key(name)):
        return found, None
    plain, number_format = split_format(name)
    if found := known.get(key(plain)) or names_by_stem().get(key(stem(plain))):
        return found, number_format
    return None


def find_model(name_or_path: str) -> Model:
    """The model of that name, or the one that a file or folder describes.

    A name may be a catalogue name or alias in any case, with or without its organisation. A name of
    an unlisted tuning gives the entry of the same checkpoint family; one of an unlisted number format
    (`nvidia/X-NVFP4`) gives X with `quantization` set. A path may be a Hugging Face folder or
    config.json, a diffusers folder or a GGUF file.

    Raises UnknownName with near misses, or BadInput for a file that cannot be understood.
    """
    if not name_or_path.strip():
        raise BadInput("expected the name of a model or a path, found an empty text")
    if (made_up := of_our_own(name_or_path)) is not None:
        return made_up
    if may_be_file() and (name_or_path.endswith((".json", ".gguf")) or Path(name_or_path).exists()):
        from metainf.catalog.files import read_model

        return read_model(Path(name_or_path))
    found = lookup(name_or_path)
    if found is None:
        known = [alias for row in table("models") for alias in (row["name"], *row.get("aliases", ()))]
        raise UnknownName("model", name_or_path, known)
    model = models()[found[0]]
    number_format = found[1]
    if number_format is None or number_format in PLAIN_FORMATS or model.quantization is not None:
        return model
    return model.model_copy(update={"quantization": number_format})


def of_our_own(name: str) -> Model | None:
    """A model that ships with its weights, or an architecture with random ones; None for other names."""
    from metainf.catalog.architectures import architecture
    from metainf.catalog.digits import digits

    if name in digits():
        return digits()[name].model
    found = architecture(name)
    return None if found is None else found.model


PLAIN_FORMATS = frozenset({"bf16", "fp16", "fp32", "f16", "f32", "gguf"})


@lru_cache(maxsize=8192)
def model_group(name: str) -> str:
    """Key of the architecture behind a name, the same for every alias, tuning and number format.

    A name that the catalogue does not know is its own group (less tuning and format words).
    """
    found = lookup(name)
    return str(models().row(found[0])["group"]) if found else stem(name)
