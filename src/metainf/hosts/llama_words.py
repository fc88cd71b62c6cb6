"""The words of `llama-server` that the llama.cpp host takes, and the field of the library each one sets.

Names and meanings as of llama.cpp's tools/server/README.md and common/arg.cpp; the library does not parse
them itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metainf.domain import BadInput
from metainf.domain.errors import near_misses

AUTO_SLOTS = 4  # what llama-server opens where -np is absent, over one shared context


@dataclass(frozen=True)
class Word:
    """`path` is the field it sets; `read` turns its value into the field's; a flag has a `value` instead."""

    path: str
    read: Callable[[str], Any] | None = None
    value: Any = None


def settings(argv: Sequence[str], table: Mapping[str, Word]) -> Iterator[tuple[str, Any]]:
    """(field, value) of each word. BadInput names the nearest words for one that is not in the table."""
    rest = iter(argv)
    for name in rest:
        word = table.get(name)
        if word is None:
            close = ", ".join(near_misses(name, table)) or "none is close to it"
            raise BadInput(f"llama.cpp host: unknown word {name!r}: nearest known: {close}")
        if word.read is None:
            yield word.path, word.value
            continue
        text = next(rest, None)
        if text is None:
            raise BadInput(f"llama.cpp host: expected a value after {name}, found the end of the command")
        try:
            yield word.path, word.read(text)
        except (ValueError, KeyError) as error:
            raise BadInput(f"llama.cpp host: {name} does not take {text!r}: {error}") from None


def choice(values: Mapping[str, Any]) -> Callable[[str], Any]:
    """A reader of one of a few names; ValueError names them."""

    def read(text: str) -> Any:
        if text.lower() not in values:
            raise ValueError(f"it takes {', '.join(values)}")
        return values[text.lower()]

    return read


def members(enum: Any, prefix: str) -> dict[str, Any]:
    """An enumeration's members by their lower-case names without a prefix, `-` for `_`."""
    found = {n.removeprefix(prefix).lower(): value for n, value in enum.__members__.items()}
    return found | {name.replace("_", "-"): value for name, value in found.items()}


def words(library: Any) -> dict[str, Word]:
    """Every word that the host takes, from `xllamacpp`'s own enumerations."""
    kinds = choice(members(library.ggml_type, "GGML_TYPE_"))
    table = _plain() | _flags() | _loading(library)
    table |= _named("-ctk --cache-type-k", Word("cache_type_k", kinds))
    table |= _named("-ctv --cache-type-v", Word("cache_type_v", kinds))
    table |= _named("-ctkd --cache-type-k-draft", Word("speculative.draft.cache_type_k", kinds))
    table |= _named("-ctvd --cache-type-v-draft", Word("speculative.draft.cache_type_v", kinds))
    flash = library.llama_flash_attn_type
    attention = {
        "on": flash.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": flash.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        "auto": flash.LLAMA_FLASH_ATTN_TYPE_AUTO,
    }
    table |= _named("-fa --flash-attn", Word("flash_attn_type", choice(attention)))
    split = choice(members(library.llama_split_mode, "LLAMA_SPLIT_MODE_"))
    table |= _named("-sm --split-mode", Word("split_mode", split))
    kinds_of_draft = members(library.common_speculative_type, "COMMON_SPECULATIVE_TYPE_")
    kinds_of_draft.pop("count", None)
    one = choice(kinds_of_draft)
    table["--spec-type"] = Word("speculative.types", lambda text: [one(part) for part in text.split(",")])
    return table


def _plain() -> dict[str, Word]:
    """Words with a number or a text."""
    rows: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
        ("-m --model", "model.path", str),
        ("-a --alias", "model_alias", lambda text: set(text.split(","))),
        ("-md --model-draft --spec-draft-model", "speculative.draft.mparams.path", str),
        ("-c --ctx-size", "n_ctx", int),
        ("-b --batch-size", "n_batch", int),
        ("-ub --ubatch-size", "n_ubatch", int),
        ("-np --parallel", "n_parallel", _slots),
        ("-cram --cache-ram", "cache_ram_mib", int),
        ("--cache-reuse", "n_cache_reuse", int),
        ("-sps --slot-prompt-similarity", "slot_prompt_similarity", float),
        ("-ngl --gpu-layers --n-gpu-layers", "n_gpu_layers", _layers),
        ("-ngld --gpu-layers-draft --spec-draft-ngl", "speculative.draft.n_gpu_layers", _layers),
        ("-mg --main-gpu", "main_gpu", int),
        ("-t --threads", "cpuparams.n_threads", int),
        ("-tb --threads-batch", "cpuparams_batch.n_threads", int),
        ("--poll", "cpuparams.poll", int),
        ("--threads-http", "n_threads_http", int),
        ("-lv --verbosity --log-verbosity", "verbosity", int),
        ("--host", "hostnames", lambda text: text.split(",")),
        ("--port", "port", int),
        ("-n --predict --n-predict", "n_predict", int),
        ("-s --seed", "sampling.seed", int),
        ("--spec-draft-n-max --draft --draft-n --draft-max", "speculative.draft.n_max", int),
        ("--spec-draft-n-min --draft-min --draft-n-min", "speculative.draft.n_min", int),
        ("--spec-draft-p-min --draft-p-min", "speculative.draft.p_min", float),
        ("--spec-ngram-simple-size-n", "speculative.ngram_simple.size_n", int),
        ("--spec-ngram-simple-size-m", "speculative.ngram_simple.size_m", int),
        ("--spec-ngram-simple-min-hits", "speculative.ngram_simple.min_hits", int),
        ("--spec-ngram-map-k-size-n", "speculative.ngram_map_k.size_n", int),
        ("--spec-ngram-map-k-size-m", "speculative.ngram_map_k.size_m", int),
        ("--spec-ngram-map-k-min-hits", "speculative.ngram_map_k.min_hits", int),
        ("--spec-ngram-map-k4v-size-n", "speculative.ngram_map_k4v.size_n", int),
        ("--spec-ngram-map-k4v-size-m", "speculative.ngram_map_k4v.size_m", int),
        ("--spec-ngram-map-k4v-min-hits", "speculative.ngram_map_k4v.min_hits", int),
        ("--spec-ngram-mod-n-match", "speculative.ngram_mod.n_match", int),
        ("--spec-ngram-mod-n-min", "speculative.ngram_mod.n_min", int),
        ("--spec-ngram-mod-n-max", "speculative.ngram_mod.n_max", int),
    )
    return {name: Word(path, read) for names, path, read in rows for name in names.split()}


def _flags() -> dict[str, Word]:
    """Words that stand alone."""
    rows = (
        ("-cb --cont-batching", "cont_batching", True),
        ("-nocb --no-cont-batching", "cont_batching", False),
        ("--cache-prompt", "cache_prompt", True),
        ("--no-cache-prompt", "cache_prompt", False),
        ("--cache-idle-slots", "cache_idle_slots", True),
        ("--no-cache-idle-slots", "cache_idle_slots", False),
        ("-kvu --kv-unified", "kv_unified", True),
        ("-no-kvu --no-kv-unified", "kv_unified", False),
        ("-kvo --kv-offload", "no_kv_offload", False),
        ("-nkvo --no-kv-offload", "no_kv_offload", True),
        ("--metrics", "endpoint_metrics", True),
        ("--slots", "endpoint_slots", True),
        ("--no-slots", "endpoint_slots", False),
        ("--props", "endpoint_props", True),
        ("--warmup", "warmup", True),
        ("--no-warmup", "warmup", False),
        ("--repack", "no_extra_bufts", False),
        ("-nr --no-repack", "no_extra_bufts", True),
        ("--swa-full", "swa_full", True),
        ("--context-shift", "ctx_shift", True),
        ("--no-context-shift", "ctx_shift", False),
        ("--jinja", "use_jinja", True),
        ("--no-jinja", "use_jinja", False),
    )
    return {name: Word(path, value=value) for names, path, value in rows for name in names.split()}


def _loading(library: Any) -> dict[str, Word]:
    """How the weights come into memory."""
    modes = library.llama_load_mode
    fit = choice({"on": True, "off": False})
    return {
        "--mmap": Word("load_mode", value=modes.LLAMA_LOAD_MODE_MMAP),
        "--no-mmap": Word("load_mode", value=modes.LLAMA_LOAD_MODE_NONE),
        "--mlock": Word("load_mode", value=modes.LLAMA_LOAD_MODE_MLOCK),
    } | _named("-fit --fit", Word("fit_params", fit))


def _named(names: str, word: Word) -> dict[str, Word]:
    return dict.fromkeys(names.split(), word)


def _slots(text: str) -> int:
    count = -1 if text == "auto" else int(text)
    if count == 0 or count < -1:
        raise ValueError("it takes a count of one or more, or auto")
    return count


def _layers(text: str) -> int:
    return {"auto": -1, "all": -2}[text] if text in ("auto", "all") else int(text)
