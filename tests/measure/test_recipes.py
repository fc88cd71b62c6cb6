"""The names that people type for methods."""

import json

import pytest

from metainf.domain import (
    BadInput,
    Batching,
    ChunkedPrefill,
    Compile,
    KvQuantization,
    Method,
    Parallelism,
    PrefixCache,
    Speculative,
    UnknownName,
    WeightQuantization,
)
from metainf.engines import engine
from metainf.measure.batches import launched, one_sequence, sized
from metainf.measure.recipes import is_plain, method_name, methods_of, recipe, recipe_name
from metainf.measure.serving import serving_engine

LLAMA = serving_engine(engine("llama.cpp"))
OFF = PrefixCache(enabled=False)


@pytest.mark.parametrize(
    ("text", "techniques"),
    [
        ("baseline", (Batching(mode="none"), OFF)),
        ("none", (Batching(mode="none"), OFF)),
        ("static-8", (Batching(mode="static", max_sequences=8), OFF)),
        ("continuous-16", (Batching(mode="continuous", max_sequences=16), OFF)),
        ("continuous", (Batching(), OFF)),
        ("chunked-64", (Batching(), OFF, ChunkedPrefill(tokens=64))),
        ("chunked", (Batching(), OFF, ChunkedPrefill(tokens=256))),
        ("prefix", (Batching(), PrefixCache())),
        ("lookup", (Batching(), OFF, Speculative(algorithm="ngram"))),
        ("draft:small.gguf", (Batching(), OFF, Speculative(algorithm="draft", draft_model="small.gguf"))),
        ("Q8_0", (Batching(), OFF, WeightQuantization(format="q8_0", bits=8.5))),
        ("kv-q8_0", (Batching(), OFF, KvQuantization(format="q8_0"))),
        ("tp-2", (Batching(), OFF, Parallelism(tensor=2, pipeline=1))),
        ("pp-3", (Batching(), OFF, Parallelism(tensor=1, pipeline=3))),
        ("static-4+prefix", (Batching(mode="static", max_sequences=4), PrefixCache())),
        (
            "all+q4_0",
            (
                Batching(), PrefixCache(), ChunkedPrefill(tokens=256), Speculative(algorithm="ngram"),
                WeightQuantization(format="q4_0", bits=4.5),
            ),
        ),
    ],
)  # fmt: skip
def test_recipes(text: str, techniques: tuple[object, ...]) -> None:
    assert recipe(text, LLAMA) == Method(engine="llama.cpp", techniques=techniques)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("baselin", "did you mean baseline"),
        ("contnuous-8", "continuous-8"),
        ("q8", "did you mean q8_0"),
        ("looukp", "lookup"),
        ("", "unknown method"),
    ],
)
def test_unknown_words_name_near_ones(text: str, words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        recipe(text, LLAMA)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("static-8+continuous", "expected one batching"),
        ("static-0", "at least 1"),
        ("draft", "expected the small model"),
        ("{}", "engine"),
        ("@list", "expected JSON"),
        ("@other", "found vllm"),
    ],
)
def test_nonsense_is_refused(text: str, words: str) -> None:
    files = {"list": "no json", "other": '{"engine": "vllm"}'}
    with pytest.raises(BadInput, match=words):
        methods_of(text, LLAMA, files.__getitem__)


def test_methods_as_data() -> None:
    own = Method(engine="llama.cpp", techniques=(Batching(mode="static", max_sequences=2), PrefixCache()))
    assert methods_of(own.canonical(), LLAMA) == [("static 2 + prefix cache", own)]
    other = {"engine": "vllm", "techniques": []}
    ranked = {"ranked": [{"method": json.loads(own.canonical())}, {"method": other}]}
    assert methods_of("@answer", LLAMA, lambda _: json.dumps(ranked)) == [(method_name(own), own)]


def test_what_is_plain() -> None:
    assert is_plain(recipe("baseline", LLAMA))
    assert not any(is_plain(recipe(text, LLAMA)) for text in ("continuous", "static-4", "baseline+q8_0"))


def test_batches_as_an_engine_is_started_for_them() -> None:
    static, none = recipe("static", LLAMA), recipe("baseline", LLAMA)
    assert sized(static, 6).get(Batching) == Batching(mode="static", max_sequences=6)
    assert sized(recipe("static-4", LLAMA), 6).get(Batching) == Batching(mode="static", max_sequences=4)
    assert launched(sized(static, 6)).get(Batching) == Batching(mode="continuous", max_sequences=6)
    assert sized(none, 6) == launched(none) == none
    alone = one_sequence(none)
    assert alone is not None and alone.get(Batching) == Batching(mode="continuous", max_sequences=1)
    assert one_sequence(static) is None


@pytest.mark.parametrize("name", ["llama.cpp", "openvino", "vllm"])
@pytest.mark.parametrize(
    "text",
    ["baseline", "static", "static-8", "continuous", "continuous-3", "chunked", "chunked-64", "prefix",
     "lookup", "kv-q8_0", "draft:small.gguf", "static-4+prefix", "prefix+lookup", "all", "all+kv-q8_0",
     "chunked+prefix", "tp-2", "pp-2", "static+pp-2"],
)  # fmt: skip
def test_names_give_methods_back(text: str, name: str) -> None:
    one = serving_engine(engine(name))
    method = recipe(text, one)
    versioned = method.model_copy(update={"engine_version": "1"})
    assert recipe_name(versioned, one) == text
    assert recipe_name(sized(method, 16), one, in_flight=16) == text


def test_an_eight_bit_cache_is_each_engine_s_own() -> None:
    found = {name: recipe("kv", serving_engine(engine(name))) for name in ("llama.cpp", "openvino", "vllm")}
    formats = {name: method.get(KvQuantization) for name, method in found.items()}
    assert {name: cache and cache.format for name, cache in formats.items()} == {
        "llama.cpp": "q8_0", "openvino": "u8", "vllm": "fp8",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["q8_0", "q4_0", "all+q8_0", "static+q8_0", "dtype-bf16", "flash"])
def test_names_of_formats_give_methods_back(text: str) -> None:
    assert recipe_name(sized(recipe(text, LLAMA), 4), LLAMA, in_flight=4) == text


def test_methods_that_no_recipe_gives_are_named_by_their_parts() -> None:
    unsaid = Method(engine="llama.cpp", techniques=(Batching(),))
    tokens = Method(engine="llama.cpp", techniques=(Batching(max_tokens=9), OFF))
    for method in (unsaid, tokens, Method(engine="llama.cpp")):
        assert recipe_name(method, LLAMA) == method_name(method)


def test_an_uncompiled_engine_is_as_plain_as_another() -> None:
    vllm = serving_engine(engine("vllm"))
    plain = recipe("baseline+eager", vllm)
    assert plain.get(Compile) == Compile(enabled=False)
    assert is_plain(plain) and recipe_name(plain, vllm) == "baseline"
    assert recipe_name(recipe("prefix+eager", vllm), vllm) == "prefix"
    assert not is_plain(Method(engine="vllm", techniques=(Batching(mode="none"), Compile())))
