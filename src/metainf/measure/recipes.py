"""The names that people type for methods: `baseline`, `static-8`, `prefix+lookup`, `kv-q8_0`, `all`. Pure.

Words joined with + are one method. What is not named is held still: batching is continuous, and the prefix
cache is off where the engine has a switch for it, since most engines have it on by default.
"""

import json
import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from metainf.domain import (
    AttentionBackend,
    BadInput,
    Batching,
    ChunkedPrefill,
    Compile,
    KvQuantization,
    Method,
    Parallelism,
    Precision,
    PrefixCache,
    Speculative,
    Technique,
    UnknownName,
    WeightQuantization,
)
from metainf.engines.formats import format_bits
from metainf.engines.measurable import Measurable
from metainf.engines.serving import ServingEngine

CHUNK_TOKENS = 256
PLAIN = "baseline"
FORMATS = (
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_0", "q5_1", "q4_k_m", "q4_0", "q4_1", "iq4_nl",
    "int8", "int4", "fp8", "awq", "gptq", "nvfp4", "mxfp4",
)  # fmt: skip
PRECISIONS = ("bf16", "fp16", "fp32")
NAMES = {
    PLAIN: "one request at a time, nothing else",
    "static-N": "batches of N, each waited for (without N: all that are in flight)",
    "continuous-N": "requests join and leave a running batch of at most N (without N: all in flight)",
    "chunked-N": f"prompts are read in pieces of N tokens (without N: {CHUNK_TOKENS})",
    "prefix": "the prefix cache is on",
    "lookup": "tokens are guessed from the text so far (n-grams)",
    "draft:MODEL": "tokens are guessed by a small model, or by this one in another format (draft:Q4_0)",
    "FORMAT": f"weights in another format: {', '.join(FORMATS)}",
    "kv-FORMAT": "the key-value cache in another format, such as kv-q8_0",
    "kv": "the key-value cache in the engine's 8-bit format",
    "dtype-NAME": f"arithmetic in another format: {', '.join(PRECISIONS)}",
    "flash": "flash attention",
    "tp-N": "each layer is split over N ranks (tensor parallelism)",
    "pp-N": "the layers are dealt out to N ranks (pipeline parallelism)",
    "eager": "nothing is compiled: no speed, but starts in seconds where compiling takes minutes",
    "all": "continuous batching, chunks, prefix cache and lookup together",
}
"""Words of a recipe, with what they mean."""
SENSIBLE = (
    PLAIN, "continuous", "static", "chunked", "prefix", "lookup", "prefix+lookup", "chunked+prefix", "all",
    "baseline+prefix", "baseline+lookup", "static+prefix", "static+lookup", "flash",
)  # fmt: skip
"""What may well be best on some load."""
SENSIBLE_WEIGHTS, WITH_WEIGHTS = ("q8_0", "q4_0"), ("", "+static", "+prefix", "+lookup", "+prefix+lookup")
SENSIBLE_CACHES = ("q8_0", "u8", "fp8")
DRAWN_PLAINLY: tuple[Technique, ...] = (Precision(dtype="fp32"), AttentionBackend(name="plain"))
"""The unaccelerated way to draw."""
ALIASES = {"none": PLAIN, "ngram": "lookup", "prompt-lookup": "lookup", "prefix-cache": "prefix"}
ALL = ("continuous", "chunked", "prefix", "lookup")
LEAST_OF_ALL = 3
_KNOWN = (
    PLAIN, "static-8", "continuous-8", "chunked-256", "prefix", "lookup", "draft:", "kv", "kv-q8_0", "flash",
    "tp-2", "pp-2", "eager", "all",
)  # fmt: skip
COUNTED = re.compile(r"(static|continuous|chunked)(?:-(\d+))?")
SPREAD = re.compile(r"(tp|pp)-([1-9]\d*)")


def methods_of(
    text: str, engine: ServingEngine, read: Callable[[str], str] | None = None
) -> list[tuple[str, Method]]:
    """The methods that a text names, each with a name to show.

    A text is a recipe, a Method as JSON, or `@file` with a Method, a list of them, or the answer of
    `metainf select --json` (of which those of the engine are taken). `read` gives the text of a file. Raises
    BadInput and UnknownName.
    """
    return named_methods(text, engine, read, lambda words: recipe(words, engine))


def named_methods(
    text: str,
    engine: Measurable,
    read: Callable[[str], str] | None,
    recipe_of: Callable[[str], Method],
) -> list[tuple[str, Method]]:
    """As `methods_of`, with recipes as `recipe_of` reads them."""
    if text.startswith("@"):
        if read is None:
            raise BadInput(f"expected a recipe or a method as JSON here, found the file {text[1:]}")
        return methods_in_file(text[1:], read(text[1:]), engine)
    if text.lstrip().startswith("{"):
        method = Method.parse(text)
        return [(method_name(method), method)]
    return [(text, recipe_of(text))]


def recipe(text: str, engine: ServingEngine) -> Method:
    """The method of one recipe. UnknownName with near misses for a word that is none."""
    typed = [ALIASES.get(word.strip().lower(), word.strip()) for word in text.split("+")]
    found: dict[str, Technique] = {}
    for word in chain.from_iterable(_spelled(each, engine) for each in typed):
        technique = _technique(word)
        if found.setdefault(technique.kind, technique) != technique:
            raise BadInput(f"{text}: expected one {technique.kind.replace('_', ' ')}, found two that differ")
    for kind, still in (("batching", Batching()), ("prefix_cache", PrefixCache(enabled=False))):
        if kind not in found and isinstance(still, engine.offers):
            found[kind] = still
    return Method(engine=engine.name, techniques=tuple(found.values()))


def sensible(engine: ServingEngine, weights: bool) -> list[str]:
    """Recipes worth a try with an engine, the unaccelerated first; with `weights` also other formats of
    GGUF weights."""
    found = list(SENSIBLE)
    if weights:
        found += [name + more for name in SENSIBLE_WEIGHTS for more in WITH_WEIGHTS]
    found += _small_cache(engine)
    unique: dict[str, str] = {}
    for text in found:
        method = recipe(text, engine)
        if all(isinstance(technique, engine.offers) for technique in method.techniques):
            unique.setdefault(method.id, text)
    return list(unique.values())


def is_plain(method: Method) -> bool:
    """Whether nothing accelerates: one at a time, no guessing, weights and cache as they are; of what draws
    neither a number format nor an attention kernel."""
    if set(method.techniques) == set(DRAWN_PLAINLY):
        return True
    batching, prefix = method.get(Batching), method.get(PrefixCache)
    others = [t for t in _told(method) if not isinstance(t, (Batching, PrefixCache))]
    off = prefix is None or not prefix.enabled
    return batching is not None and batching.mode == "none" and off and not others


def method_name(method: Method) -> str:
    """A short name for a method that was given as data."""
    words = []
    for technique in method.techniques:
        said = technique.model_dump(mode="json", exclude_none=True)
        kind = said.pop("kind").replace("_", " ")
        if said.pop("enabled", True) is False:
            continue
        inner = " ".join(str(v) for k, v in said.items() if k not in ("bits", "activation_bits"))
        words.append(inner if kind == "batching" and inner else f"{kind} {inner}".strip())
    return " + ".join(words) or method.engine


def recipe_name(method: Method, engine: ServingEngine, in_flight: int | None = None) -> str:
    """The recipe that gives this method back, such as `static-8` or `all+q8_0`, else its `method_name`.

    Batches of as many requests as are `in_flight` are named without their size. The engine's version is not
    part of the name, nor is that nothing was compiled.
    """
    asked = Method(engine=method.engine, techniques=_told(method))
    batching = method.get(Batching)
    if batching is not None and batching.mode != "none" and batching.max_sequences == in_flight:
        others = tuple(t for t in asked.techniques if t is not batching)
        bare = batching.model_copy(update={"max_sequences": None})
        asked = Method(engine=method.engine, techniques=(*others, bare))
    words = [word for technique in asked.techniques if (word := _word(technique))]
    words.sort(key=_rank)
    parts = _all(engine)
    held = {word.partition("-")[0] for word in words} | {"continuous"}
    whole = [word for word in words if word not in parts]
    if len(parts) >= LEAST_OF_ALL and held >= set(parts):
        words = ["all", *whole]
    elif len(words) > 1 and "continuous" in words:
        words.remove("continuous")
    text = "+".join(words)
    try:
        same = bool(text) and recipe(text, engine) == asked
    except (BadInput, UnknownName):
        same = False
    return text if same else method_name(method)


def _told(method: Method) -> tuple[Technique, ...]:
    """The techniques but for compiling that is switched off."""
    return tuple(t for t in method.techniques if not (isinstance(t, Compile) and not t.enabled))


def _word(technique: Technique) -> str | None:
    """The word of a recipe for one technique; None where silence says it."""
    found: str | None = None
    if isinstance(technique, Batching):
        count = "" if technique.max_sequences is None else f"-{technique.max_sequences}"
        found = PLAIN if technique.mode == "none" else f"{technique.mode}{count}"
    elif isinstance(technique, ChunkedPrefill):
        found = "chunked" if technique.tokens == CHUNK_TOKENS else f"chunked-{technique.tokens}"
    elif isinstance(technique, PrefixCache):
        found = "prefix" if technique.enabled else None
    elif isinstance(technique, Speculative):
        found = "lookup" if technique.draft_model is None else f"draft:{technique.draft_model}"
    elif isinstance(technique, WeightQuantization):
        found = technique.format
    elif isinstance(technique, KvQuantization):
        found = f"kv-{technique.format}"
    elif isinstance(technique, Precision):
        found = f"dtype-{technique.dtype}"
    elif isinstance(technique, AttentionBackend):
        found = technique.name
    elif isinstance(technique, Parallelism):
        found = f"pp-{technique.pipeline}" if (technique.pipeline or 1) > 1 else f"tp-{technique.tensor}"
    return found


def _rank(word: str) -> int:
    """Where a word stands in a recipe: batching, chunks, prefix cache, guessing, formats."""
    first = (PLAIN, "static", "continuous", "chunked", "prefix", "lookup", "draft:")
    return next((place for place, start in enumerate(first) if word.startswith(start)), len(first))


def _technique(word: str) -> Technique:
    name = word.lower()
    if (counted := COUNTED.fullmatch(name)) is not None:
        return _counted(counted[1], counted[2])
    if (spread := SPREAD.fullmatch(name)) is not None:
        tensor, degree = spread[1] == "tp", int(spread[2])
        return Parallelism(tensor=degree if tensor else 1, pipeline=1 if tensor else degree)
    if name == PLAIN:
        return Batching(mode="none")
    if name == "prefix":
        return PrefixCache(enabled=True)
    if name == "lookup":
        return Speculative(algorithm="ngram")
    if name == "flash":
        return AttentionBackend(name="flash")
    if name == "eager":
        return Compile(enabled=False)
    if name == "draft":
        raise BadInput("draft: expected the small model's name or file, such as draft:small.gguf, found none")
    if name.startswith("draft:"):
        return Speculative(algorithm="draft", draft_model=word[len("draft:") :] or None)
    if name in FORMATS:
        return WeightQuantization(format=name, bits=format_bits(name))
    if name.startswith("kv-") and name[3:]:
        return KvQuantization(format=name[3:])
    if name.startswith("dtype-") and name[6:] in PRECISIONS:
        return Precision(dtype=name[6:])
    raise UnknownName("method", word, (*_KNOWN, *ALIASES, *FORMATS))


def _counted(kind: str, digits: str | None) -> Technique:
    count = None if digits is None else int(digits)
    if count == 0:
        raise BadInput(f"{kind}-0: expected a number of at least 1")
    if kind == "chunked":
        return ChunkedPrefill(tokens=count or CHUNK_TOKENS)
    return Batching(mode="static" if kind == "static" else "continuous", max_sequences=count)


def _spelled(word: str, engine: ServingEngine) -> Sequence[str]:
    """The words that a word of many engines stands for with this one; an engine without an 8-bit cache
    refuses it by name when it is to be launched."""
    if word.lower() == "all":
        return _all(engine)
    return (_small_cache(engine) or [f"kv-{SENSIBLE_CACHES[0]}"]) if word.lower() == "kv" else (word,)


def _small_cache(engine: ServingEngine) -> list[str]:
    """The engine's 8-bit cache; empty where it has none."""
    return [f"kv-{name}" for name in SENSIBLE_CACHES if name in engine.words.caches][:1]


def _all(engine: ServingEngine) -> Sequence[str]:
    """What `all` means to an engine: of its parts those that it offers."""
    return [word for word in ALL if isinstance(_technique(word), engine.offers)]


def methods_in_file(name: str, text: str, engine: Measurable) -> list[tuple[str, Method]]:
    """Methods of an engine in a JSON text: one, a list, or an answer of `metainf select --json`."""
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{name}: expected JSON, found something else ({error})") from None
    if isinstance(found, dict) and "ranked" in found:
        found = [each.get("method") for each in found["ranked"]]
    methods = [Method.of(each) for each in (found if isinstance(found, list) else [found])]
    unique = {method.id: method for method in methods if method.engine == engine.name}
    if not unique:
        engines = ", ".join(sorted({method.engine for method in methods})) or "no method at all"
        raise BadInput(f"{name}: expected a method of {engine.name}, found {engines}: name another --engine")
    return [(method_name(method), method) for method in unique.values()]
