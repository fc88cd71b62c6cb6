"""OpenVINO GenAI: the engine's contract, its words, and what it reads from its host's pages."""

import pytest

from metainf.api.choosing import Question, select
from metainf.domain import (
    Batching,
    ChunkedPrefill,
    Device,
    Hardware,
    KvQuantization,
    Lengths,
    Method,
    Model,
    NotSupported,
    Objective,
    Precision,
    PrefixCache,
    Speculative,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.engines import Engine, engine
from metainf.engines.evidence import Reading
from metainf.engines.openvino import OpenVino
from metainf.hosts.openvino_words import read_words
from metainf.testing.engine_suite import CHAT, DENSE_8B, H100, Case, EngineSuite

XEON = Device(name="xeon", vendor="Intel", kind="cpu", memory_gib=512, bf16_tflops=90)
EPYC = Device(name="epyc", vendor="AMD", kind="cpu", memory_gib=24)
ARC = Device(name="arc", vendor="Intel", kind="gpu", memory_gib=16)
SMALL = Model(
    name="HuggingFaceTB/SmolLM2-135M-Instruct", source="SmolLM2-135M-Instruct.Q4_1.gguf", params_b=0.135,
    num_layers=30, num_kv_heads=3, num_heads=9, head_dim=64, hidden_size=576, quantization="q4_1",
)  # fmt: skip


class TestOpenVino(EngineSuite):
    @pytest.fixture
    def engine(self) -> Engine:
        return engine("openvino")

    @pytest.fixture
    def settings(self) -> list[Case]:
        some = [(DENSE_8B, Hardware(device=device, count=1), CHAT) for device in (XEON, EPYC, ARC)]
        return [
            *some,
            (SMALL, Hardware(device=EPYC, count=1), CHAT),
            (SMALL, Hardware(device=XEON, count=2), CHAT),
        ]


def argv_of(*techniques: Technique, model: Model = SMALL, workload: Workload = CHAT) -> list[str]:
    method = Method(engine="openvino", techniques=techniques)
    return list(OpenVino().launch(model, method, Hardware(device=EPYC, count=1), workload).argv)


@pytest.mark.parametrize("device", [H100, Device(name="npu", vendor="Intel", kind="npu"),
                                    Device(name="grace", vendor="NVIDIA", kind="cpu")])  # fmt: skip
def test_it_serves_no_other_devices(device: Device) -> None:
    assert OpenVino().methods(SMALL, Hardware(device=device, count=1), CHAT) == []


def test_one_process_uses_one_graphics_card() -> None:
    assert OpenVino().methods(SMALL, Hardware(device=ARC, count=2), CHAT) == []


def test_every_proposed_command_line_is_one_that_the_host_reads() -> None:
    for model in (SMALL, DENSE_8B):
        for method in OpenVino().methods(model, Hardware(device=EPYC, count=1), CHAT):
            launch = OpenVino().launch(model, method, Hardware(device=EPYC, count=1), CHAT)
            assert launch.argv[:3] == ("python", "-m", "metainf.hosts.openvino")
            words = read_words([*launch.argv[3:], *OpenVino().address("0.0.0.0", 81)])
            batching, chunked, prefix = (method.get(k) for k in (Batching, ChunkedPrefill, PrefixCache))
            assert words.max_num_seqs == batching.max_sequences
            assert words.max_num_batched_tokens == chunked.tokens
            assert words.enable_prefix_caching is prefix.enabled
            assert words.prompt_lookup is (method.get(Speculative) is not None)
            assert (words.host, words.port) == ("0.0.0.0", 81)


def test_a_plain_model_gets_all_its_techniques_as_words() -> None:
    words = read_words(
        argv_of(
            Batching(mode="none"), ChunkedPrefill(enabled=False), KvQuantization(format="u8"),
            Precision(dtype="fp32"), Speculative(algorithm="draft", draft_model="d.gguf", tokens=3),
        )[3:]
    )  # fmt: skip
    assert (words.max_num_seqs, words.dynamic_split_fuse, words.kv_cache_precision) == (1, False, "u8")
    assert (words.inference_precision, words.draft_model, words.num_assistant_tokens) == ("f32", "d.gguf", 3)
    assert words.max_num_batched_tokens == words.max_model_len == 2560


def test_a_cache_is_quantized_only_where_asked() -> None:
    assert read_words(argv_of(Batching())[3:]).kv_cache_precision == "f16"
    assert read_words(argv_of(KvQuantization(format="int8"))[3:]).kv_cache_precision == "u8"


@pytest.mark.parametrize(("mode", "static"), [("static", True), ("dynamic", True), ("continuous", False)])
def test_batches_that_nothing_joins(mode: str, static: bool) -> None:
    words = read_words(argv_of(Batching.model_validate({"mode": mode, "max_sequences": 8}))[3:])
    assert (words.static_batches, words.max_num_seqs) == (static, 8)


def test_the_cache_holds_what_runs_at_once() -> None:
    long = Workload(input_tokens=Lengths(mean=30000, max=32000), output_tokens=Lengths(mean=90, max=768))
    words = read_words(argv_of(Batching(max_sequences=16), model=DENSE_8B, workload=long)[3:])
    assert words.cache_size == 12
    assert read_words(argv_of(Batching(max_sequences=2), model=DENSE_8B, workload=long)[3:]).cache_size == 8
    assert read_words(argv_of(Batching(max_sequences=4))[3:]).cache_size == 1


@pytest.mark.parametrize(
    ("technique", "near"),
    [
        (Speculative(algorithm="medusa"), "ngram"),
        (Speculative(algorithm="draft"), "draft_model"),
        (KvQuantization(format="fp8"), "u8"),
        (WeightQuantization(format="Q5_K_M"), "Q4_K_M"),
        (WeightQuantization(format="awq"), "int4"),
        (PrefixCache(tier="remote"), "device tier"),
    ],
)
def test_what_it_lacks_is_refused_with_the_nearest(technique: Technique, near: str) -> None:
    with pytest.raises(NotSupported, match=near):
        argv_of(technique)


def test_its_speed_is_not_predicted_without_a_run_of_it() -> None:
    asked = Question(
        "Qwen/Qwen3-8B", ("epyc-9654@2",), "sharegpt", {"concurrency": 8}, Objective(), engines=("openvino",)
    )
    with pytest.raises(NotSupported, match=r"no run of openvino .* llama.cpp"):
        select(asked)


INFO = (
    'openvino:info{version="2026.4.1",max_num_seqs="8",max_num_batched_tokens="128",speculative="prompt_lookup",'
    'dynamic_split_fuse="true",enable_prefix_caching="true",cache_tokens="64",batching="continuous",'
    'weight_format="Q4_1"} 1\n'
)
BEFORE = INFO + (
    'openvino:steps_of_size_total{requests="1"} 50\nopenvino:steps_of_size_total{requests="9"} 2\n'
    "openvino:prompt_tokens_total 100\nopenvino:prefix_hit_tokens_total 0\nopenvino:draft_steps_total 5\n"
    "openvino:accepted_tokens_total 1\nopenvino:prefix_disagreements_total 0\n"
)
AFTER = INFO + (
    'openvino:steps_of_size_total{requests="1"} 60\nopenvino:steps_of_size_total{requests="4"} 30\n'
    'openvino:steps_of_size_total{requests="9"} 2\n'
    "openvino:prompt_tokens_total 300\nopenvino:prefix_hit_tokens_total 96\n"
    "openvino:draft_steps_total 10\n"
    "openvino:accepted_tokens_total 11\nopenvino:prefix_disagreements_total 0\n"
)
LOG = """\
Model: OV Tokenizer
  INFERENCE_PRECISION_HINT: bf16
  KV_CACHE_PRECISION: i8
Model: LLM with Paged Attention
  INFERENCE_PRECISION_HINT: f32
  KV_CACHE_PRECISION: u8
"""


def test_evidence_counts_the_timed_requests_only() -> None:
    seen = OpenVino().evidence(Reading(LOG, BEFORE, AFTER))
    assert (seen.version, seen.max_sequences, seen.peak_running, seen.step_tokens) == ("2026.4.1", 8, 4, 128)
    assert seen.mean_running == pytest.approx((10 * 1 + 30 * 4) / 40)
    assert (seen.prompt_tokens, seen.prefix_hit_tokens) == (200, 96)
    assert (seen.speculative, seen.draft_steps, seen.accepted_tokens) == ("ngram", 5, 10)
    assert seen.tokens_per_step == 3 and seen.acceptance is None, "drafts that hold blanks have no share"
    assert (seen.weight_format, seen.kv_format, seen.precision) == ("Q4_1", "u8", "fp32")
    assert (seen.chunked_prefill, seen.prefix_cache, seen.continuous) == (True, True, True)


def test_hits_that_the_cache_refutes_are_not_told() -> None:
    refuted = AFTER.replace("disagreements_total 0", "disagreements_total 2")
    assert OpenVino().evidence(Reading(LOG, BEFORE, refuted)).prefix_hit_tokens is None


def test_nothing_is_known_of_an_empty_reading() -> None:
    seen = OpenVino().evidence(Reading())
    assert (seen.max_sequences, seen.prefix_cache, seen.precision, seen.peak_running) == (None,) * 4
