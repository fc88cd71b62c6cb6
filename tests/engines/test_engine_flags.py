"""Every flag that a launch prints, and every value it chooses, is one that the engine's own parser has.

`fixtures/flags/*.json` list them, each with its version and where it was read.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metainf.domain import (
    AttentionBackend,
    Batching,
    ChunkedPrefill,
    Compile,
    Device,
    Hardware,
    KvQuantization,
    Method,
    Parallelism,
    Precision,
    PrefixCache,
    Speculative,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.engines import Launch, check, engine
from metainf.engines.formats import is_gguf
from metainf.engines.serving import ServingEngine
from metainf.testing.engine_suite import CHAT, DENSE_8B, H100, text_cases

KNOWN = {
    found["engine"]: found
    for path in sorted((Path(__file__).parent / "fixtures" / "flags").glob("*.json"))
    for found in [json.loads(path.read_text())]
}
MANY = Hardware(device=H100, count=8)
BACKENDS = {"vllm": "FLASHINFER", "sglang": "flashinfer", "tensorrt-llm": "FLASHINFER", "llama.cpp": "flash"}


def settings_of(found: ServingEngine) -> Iterator[Technique]:
    """Each setting that the engine has a word for, one at a time."""
    for name in found.words.weights:
        yield WeightQuantization(format=name)
    for name in found.words.caches:
        yield KvQuantization(format=name)
    for name in found.words.speculative:
        yield Speculative(algorithm=name, tokens=3, draft_model="a/draft")
        yield Speculative(algorithm=name, draft_model="a/draft")
    for tier in found.words.cache_tiers:
        yield PrefixCache(tier="device" if tier == "device" else "host")
    yield PrefixCache(enabled=False)
    yield Batching(max_sequences=32, max_tokens=4096)
    yield ChunkedPrefill(tokens=4096)
    if found.name != "llama.cpp":
        yield ChunkedPrefill(enabled=False)
        yield Compile()
        yield Compile(enabled=False)
        yield WeightQuantization(format="fp8")
        yield Parallelism(tensor=8, expert=8, attention_data=found.name != "vllm")
    yield Parallelism(tensor=1, pipeline=8)
    yield Parallelism(tensor=8)
    yield Precision(dtype="bf16")
    yield AttentionBackend(name=BACKENDS[found.name])


def launches(name: str) -> Iterator[Launch]:
    """Proposed methods, and every single setting that no row of the compatibility table rules out."""
    found = engine(name)
    assert isinstance(found, ServingEngine)
    for model, hardware, workload in text_cases():
        for method in found.methods(model, hardware, workload):
            yield found.launch(model, method, hardware, workload)
    for technique in settings_of(found):
        method = Method(engine=name, techniques=(technique,))
        if all(finding.effect == "harmful" for finding in check(method, DENSE_8B, CHAT, MANY)):
            yield found.launch(DENSE_8B, method, MANY, CHAT)


def words_of(launch: Launch, known: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """(flag, its value or None) of the command line, `option a.b` of the file, `... method` of the JSON."""
    argv = launch.argv
    for place, word in enumerate(argv):
        value = argv[place + 1] if place + 1 < len(argv) else None
        if word in known or (word.startswith("-") and not word[1:].isdigit() and word not in ("-m",)):
            yield word, value
        if word == "--speculative-config":
            yield "--speculative-config method", json.loads(str(value))["method"]
    for text in launch.files.values():
        for key, value in json.loads(text).items():
            nested = value.items() if isinstance(value, dict) and value else [("", value)]
            for inner, found in nested:
                yield f"option {key}{'.' if inner else ''}{inner}", str(found)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_flag_and_choice_is_known_to_the_engine(name: str) -> None:
    known = KNOWN[name]["flags"]
    seen = set()
    for launch in launches(name):
        for flag, value in words_of(launch, known):
            assert flag in known, f"{name} {KNOWN[name]['version']} has no {flag}: {launch.command}"
            assert not known[flag] or value in known[flag], f"{flag} {value} of {launch.command}"
            seen.add(flag)
    assert len(seen) > 10


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_list_says_where_it_comes_from(name: str) -> None:
    assert KNOWN[name]["version"] and len(KNOWN[name]["source"]) > 20


def test_every_serving_engine_has_a_list() -> None:
    assert set(KNOWN) == {"vllm", "sglang", "tensorrt-llm", "llama.cpp"}


def test_gguf_needs_no_flag_of_vllm_but_its_plugin() -> None:
    method = Method(engine="vllm", techniques=(WeightQuantization(format="Q4_K_M"),))
    launch = engine("vllm").launch(DENSE_8B, method, Hardware(device=H100, count=1), Workload())
    assert "--quantization" not in launch.argv and is_gguf("Q4_K_M")
    assert any("vllm-gguf-plugin" in note and note.startswith("conflict") for note in launch.notes)


def test_the_drafts_of_llama_cpp_keep_the_length_asked_for() -> None:
    for algorithm, flag in (("ngram", "--spec-ngram-simple-size-m"), ("mtp", "--spec-draft-n-max")):
        method = Method(engine="llama.cpp", techniques=(Speculative(algorithm=algorithm, tokens=7),))
        argv = (
            engine("llama.cpp")
            .launch(DENSE_8B, method, Hardware(device=Device(name="d"), count=1), CHAT)
            .argv
        )
        assert argv[argv.index(flag) + 1] == "7"


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_the_words_of_an_address_are_known_too(name: str) -> None:
    found = engine(name)
    assert isinstance(found, ServingEngine)
    words = found.address("127.0.0.1", 8000)
    assert {word for word in words if word.startswith("-")} <= set(KNOWN[name]["flags"])
