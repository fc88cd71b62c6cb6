"""Descriptions: every fact known is told, nothing unknown is, and the encoder reads all of it."""

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import (
    Batching,
    ChunkedPrefill,
    Compile,
    Device,
    Disaggregation,
    Hardware,
    Lengths,
    Method,
    Model,
    Parallelism,
    Pool,
    PrefixCache,
    Setting,
    Speculative,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.embed.describe import (
    PARTS,
    describe,
    describe_hardware,
    describe_method,
    describe_model,
    describe_workload,
    paragraphs,
)
from metainf.embed.describe_method import TECHNIQUES

MODEL = Model(name="DeepSeek-V3", params_b=671, active_params_b=37, num_layers=61, attention="mla")
WORKLOAD = Workload(
    name="chat",
    input_tokens=Lengths(mean=1024, std=900.0, p90=2000),
    output_tokens=Lengths(mean=128),
    concurrency=64,
    prefix_share=0.31,
)
HARDWARE = Hardware(device=Device(name="h100", memory_gib=80, memory_bandwidth_gb_per_s=3350), count=8)
METHOD = Method(engine="vllm", techniques=(WeightQuantization(format="fp8", bits=8), PrefixCache()))
SETTING = Setting(model=MODEL, workload=WORKLOAD, hardware=HARDWARE)

# What does not change what is told: where a fact comes from, and finer shapes that the tables carry.
UNTOLD = {
    Model: {
        "source", "tie_embeddings", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim",
        "shared_expert_intermediate",
    },
    Device: {"source", "typical_per_node"},
    Workload: set(),
}  # fmt: skip
VALUES = {
    "attention": "mla",
    "modality": "image",
    "kind": "tpu",
    "guidance_doubles": True,
    "content": ("x y",),
}


def _value(field, annotation):
    if field in VALUES:
        return VALUES[field]
    if "Lengths" in annotation:
        return Lengths(mean=7)
    if "bool" in annotation:
        return True
    if "str" in annotation:
        return "zebra"
    return 1 if "int" in annotation else 0.625


@pytest.mark.parametrize("kind", [Model, Device, Workload])
def test_every_fact_that_is_known_is_told(kind):
    def tell(**facts):
        if kind is Workload:
            return describe_workload(Workload(**facts))
        if kind is Model:
            return describe_model(Model(**{"name": "m"} | facts))
        return describe_hardware(Hardware(device=Device(**{"name": "d"} | facts)))

    bare, silent = tell(), set()
    for field, info in kind.model_fields.items():
        if tell(**{field: _value(field, str(info.annotation))}) == bare:
            silent.add(field)
    assert silent == UNTOLD[kind]


def test_every_technique_has_words():
    kinds = {item.model_fields["kind"].default for item in get_args(get_args(Technique)[0])}
    assert set(TECHNIQUES) == kinds


def test_every_technique_is_told():
    for technique in get_args(get_args(Technique)[0]):
        given_facts = {
            name: ("--x",) if name == "values" else "zebra"
            for name, info in technique.model_fields.items()
            if info.is_required()
        }
        text = describe_method(Method(engine="e", techniques=(technique(**given_facts),)))
        assert text.startswith("The inference engine is e")
        assert "zebra" in text or "--x" in text or not given_facts
        if technique is not Parallelism:
            assert len(text) > len("The inference engine is e. ")


@pytest.mark.parametrize(
    ("technique", "words"),
    [
        (Batching(mode="none"), "No batching"),
        (Batching(mode="static", max_sequences=8), "Static batching of requests, at most 8 sequences"),
        (ChunkedPrefill(tokens=2048), "in chunks of 2048 tokens"),
        (ChunkedPrefill(enabled=False), "Chunked prefill is off"),
        (PrefixCache(tier="host"), "in host memory"),
        (Compile(enabled=False), "eagerly"),
        (Speculative(algorithm="eagle3", tokens=3), "eagle3 spends spare compute to cut latency, 3 tokens"),
        (
            WeightQuantization(format="awq", bits=4),
            "awq to save memory and bandwidth, 4 bits for each weight",
        ),
        (Parallelism(tensor=8, attention_data=False), "tensor parallel over 8, no data parallel attention"),
        (Disaggregation(prefill=Pool(workers=2)), "prefill pool workers: 2; decode pool of unknown size"),
    ],
)
def test_techniques_in_words(technique, words):
    assert words in describe_method(Method(engine="vllm", techniques=(technique,)))


def test_units_are_spelled_out():
    text = describe_hardware(HARDWARE)
    assert "8 × h100" in text
    assert "80 gibibytes of memory" in text and "3350 gigabytes per second" in text


def test_words_for_balance_and_spread():
    text = describe_workload(WORKLOAD)
    assert "much longer than answers, so prefill" in text and "varying widely" in text
    turned = Workload(input_tokens=Lengths(mean=10), output_tokens=Lengths(mean=500, std=1.0))
    assert "decoding weighs" in describe_workload(turned) and "nearly constant" in describe_workload(turned)


def test_unknown_count_is_said_to_be_unknown():
    assert describe_hardware(Hardware(device=Device(name="l4"), count=None)).startswith(
        "An unknown number × l4"
    )


def test_content_is_sampled_and_trimmed():
    long = "def  f(x):\n\treturn x\n" * 400
    text = describe_workload(Workload(content=(" \n ", long, "tell me a story", "never shown")))
    assert 'content: "def f(x): return x def' in text and "tell me a story" in text
    assert "never shown" not in text and len(text) < 600


def test_parts_are_joined_by_blank_lines():
    assert tuple(paragraphs(SETTING, METHOD)) == PARTS
    assert describe(SETTING, METHOD).split("\n\n") == list(paragraphs(SETTING, METHOD).values())
    assert "method" not in paragraphs(SETTING)


def test_braces_in_names_are_kept():
    assert "{odd} {}" in describe_method(Method(engine="{odd} {}"))
    assert "{x}" in describe_model(Model(name="m", family="{x}"))


@given(
    st.builds(
        Workload,
        name=st.none() | st.text(max_size=20),
        input_tokens=st.none()
        | st.builds(Lengths, mean=st.floats(0, 1e9), std=st.none() | st.floats(0, 1e9)),
        output_tokens=st.none() | st.builds(Lengths, mean=st.floats(0, 1e9)),
        concurrency=st.none() | st.floats(1e-3, 1e6),
        content=st.none() | st.lists(st.text(max_size=400), max_size=8).map(tuple),
    )
)
def test_any_workload_has_one_line_without_none(workload):
    text = describe_workload(workload)
    assert text.startswith("The workload is") and text.endswith(".")
    sentences = describe_workload(workload.model_copy(update={"name": None, "content": None}))
    assert not re.search(r"\bNone\b|\bnan\b|\{|\}", sentences) and "\n" not in sentences
    assert text == describe_workload(Workload.parse(workload.canonical()))
