"""What engines say of themselves, and what that proves of a method."""

from pathlib import Path

import pytest

from metainf.domain import (
    AttentionBackend,
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
    WeightQuantization,
)
from metainf.engines import engine
from metainf.engines.evidence import Evidence, Reading, contradictions, unproven
from metainf.engines.prometheus import gained, label, samples, total
from metainf.engines.serving import ServingEngine

TEXTS = Path(__file__).parent / "fixtures" / "metrics"


def text(name: str) -> str:
    return (TEXTS / name).read_text(encoding="utf-8")


def said(name: str, log: str, before: str = "", after: str = "") -> Evidence:
    found = engine(name)
    assert isinstance(found, ServingEngine)
    return found.evidence(Reading(log, before, after))


def asking(*techniques: Technique, name: str = "vllm") -> Method:
    return Method(engine=name, techniques=techniques)


LLAMA_BUSY = """\
slot launch_slot_: id  0 | task 1 | processing task
slot operator(): id  0 | task 1 | new prompt
slot launch_slot_: id  1 | task 2 | processing task
slot operator(): id  1 | task 2 | new prompt
"""


@pytest.mark.parametrize(
    ("name", "log"),
    [("vllm", text("vllm.log")), ("sglang", text("sglang.log")), ("llama.cpp", "n_slots = 4\n" + LLAMA_BUSY)],
)
def test_what_happened_before_the_timed_requests_proves_nothing(name: str, log: str) -> None:
    """A warm-up, or an earlier run on the same engine, had many at once; the settings hold all the same."""
    found = engine(name)
    assert isinstance(found, ServingEngine)
    whole, timed = found.evidence(Reading(log)), found.evidence(Reading(log, recent="nothing of note\n"))
    assert (whole.peak_running or 0) > 1 and timed.peak_running is None and timed.continuous is None
    assert timed.max_sequences == whole.max_sequences is not None
    assert timed.version == whole.version


def test_vllm_says_all_of_it() -> None:
    seen = said("vllm", text("vllm.log"), text("vllm_before.txt"), text("vllm_after.txt"))
    assert seen == Evidence(
        version="0.32.0",
        max_sequences=16,
        peak_running=16,
        step_tokens=2048,
        chunked_prefill=True,
        prefix_cache=True,
        prompt_tokens=1100,  # both engines of the data-parallel pair
        prefix_hit_tokens=512,
        speculative="ngram",
        drafted_tokens=400,
        accepted_tokens=100,
        weight_format="compressed-tensors",
        kv_format="fp8_e4m3",
        attention="FLASHINFER",
        precision="bfloat16",
        tensor=2,
        pipeline=1,
    )
    assert seen.acceptance == 0.25 and seen.hit_rate == pytest.approx(512 / 1100)
    asked = asking(
        Batching(max_sequences=16),
        ChunkedPrefill(tokens=2048),
        PrefixCache(),
        Speculative(algorithm="ngram", tokens=4),
        WeightQuantization(format="int8"),
        KvQuantization(format="fp8"),
        Precision(dtype="bf16"),
        AttentionBackend(name="FlashInfer"),
        Parallelism(tensor=2),
    )
    assert contradictions(asked, seen) == () and unproven(asked, seen) == ()


def real(name: str) -> Evidence:
    endings = (".log", "_before.txt", "_after.txt")
    return said("vllm", *(text(f"vllm_cpu_{name}{ending}") for ending in endings))


def test_vllm_on_a_cpu_says_that_one_request_ran_at_a_time() -> None:
    seen = real("base")
    assert (seen.version, seen.max_sequences, seen.peak_running, seen.mean_running) == ("0.32.0", 1, 1, 1)
    assert (seen.prompt_tokens, seen.prefix_hit_tokens, seen.speculative) == (390, 0, "none")
    assert (seen.precision, seen.kv_format, seen.tensor, seen.pipeline) == ("bfloat16", "auto", 1, 1)
    asked = asking(Batching(max_sequences=1), PrefixCache(enabled=False), Precision(dtype="bf16"))
    assert contradictions(asked, seen) == () and unproven(asked, seen) == ()


def test_vllm_on_a_cpu_says_all_of_it() -> None:
    seen = real("all")
    assert (seen.max_sequences, seen.peak_running, seen.step_tokens) == (4, 4, 256)
    assert seen.mean_running == pytest.approx((100 - 77) / 10)  # tokens written but not drafted, by steps
    assert (seen.draft_steps, seen.drafted_tokens, seen.accepted_tokens) == (21, 84, 77)
    assert seen.tokens_per_step == pytest.approx(1 + 77 / 21) and seen.prefix_hit_tokens == 0
    parts = (Batching(max_sequences=4), ChunkedPrefill(tokens=256), PrefixCache())
    asked = asking(*parts, Speculative(algorithm="ngram"))
    assert contradictions(asked, seen) == () and unproven(asked, seen) == ()
    assert len(contradictions(asking(Batching(max_sequences=2), PrefixCache(enabled=False)), seen)) == 4


def test_vllm_with_everything_off_says_so() -> None:
    seen = said("vllm", text("vllm_plain.log"))
    assert (seen.prefix_cache, seen.chunked_prefill, seen.speculative) == (False, False, "none")
    assert (seen.weight_format, seen.kv_format, seen.attention) == ("unquantized", "auto", "FLASH_ATTN")
    assert seen.max_sequences is None and seen.prompt_tokens is None
    off = asking(
        PrefixCache(enabled=False), ChunkedPrefill(enabled=False), AttentionBackend(name="flash_attn")
    )
    assert contradictions(off, seen) == () and unproven(off, seen) == ()
    on = asking(
        PrefixCache(),
        ChunkedPrefill(),
        Speculative(algorithm="ngram"),
        WeightQuantization(format="fp8"),
        KvQuantization(format="fp8"),
        Precision(dtype="bf16"),
        Parallelism(tensor=4),
    )
    assert len(contradictions(on, seen)) == 7


def test_sglang_says_what_it_can() -> None:
    seen = said("sglang", text("sglang.log"), text("sglang_before.txt"), text("sglang_after.txt"))
    assert seen == Evidence(
        max_sequences=48,
        peak_running=10,
        step_tokens=4096,  # the one in force, not the one given
        chunked_prefill=True,
        prefix_cache=True,
        prompt_tokens=1000,
        prefix_hit_tokens=400,
        speculative="mtp",
        weight_format="fp8",
        kv_format="fp8_e4m3",
        attention="fa3",
        precision="bfloat16",
        tensor=2,
        pipeline=1,
    )
    cache = KvQuantization(format="fp8")
    asked = asking(ChunkedPrefill(tokens=8192), Speculative(algorithm="nextn"), cache, name="sglang")
    assert contradictions(asked, seen) == ("chunks of 8192 tokens were asked for, the engine takes 4096",)


@pytest.mark.parametrize("name", ["vllm", "sglang", "llama.cpp", "tensorrt-llm"])
def test_a_cut_log_never_breaks_the_reader(name: str) -> None:
    whole = text("vllm.log") + text("sglang.log")
    for end in range(0, len(whole), 37):
        said(name, whole[:end], text("vllm_before.txt")[:end], text("sglang_after.txt")[:end])


CONTINUOUS = """\
I llama_context: n_ctx                 = 512
I llama_context: n_ubatch              = 512
I srv    load_model: initializing, n_slots = 2, n_ctx_slot = 256, kv_unified = 'false'
I slot launch_slot_: id  0 | task 0 | processing task, is_child = 0
I slot   operator(): id  0 | task 0 | new prompt, n_ctx_slot = 256
I slot launch_slot_: id  1 | task 1 | processing task, is_child = 0
I slot   operator(): id  1 | task 1 | new prompt, n_ctx_slot = 256
I slot      release: id  1 | task 1 | stop processing: n_tokens = 9
I slot launch_slot_: id  1 | task 2 | processing task, is_child = 0
I slot   operator(): id  1 | task 2 | new prompt, n_ctx_slot = 256
I slot      release: id  0 | task 0 | stop processing: n_tokens = 9
"""
STATIC = CONTINUOUS.replace("operator(): id  1 | task 2 | new", "operator(): id  1 | task 2 | no new") + (
    "I slot   operator(): id  1 | task 2 | new prompt, n_ctx_slot = 256\n"
)


def test_llama_cpp_tells_joining_from_waiting() -> None:
    joined, waited = said("llama.cpp", CONTINUOUS), said("llama.cpp", STATIC)
    assert joined.continuous is True and waited.continuous is False
    assert joined.peak_running == waited.peak_running == 2
    whole = asking(Batching(max_sequences=2), name="llama.cpp")
    parts = asking(Batching(mode="static", max_sequences=2), name="llama.cpp")
    assert contradictions(whole, joined) == contradictions(parts, waited) == ()
    assert unproven(whole, joined) == unproven(parts, waited) == ()
    assert "waited until a batch was done" in contradictions(whole, waited)[0]
    assert "joined a running batch" in contradictions(parts, joined)[0]


def test_llama_cpp_chunk_is_never_longer_than_its_context() -> None:
    seen = said("llama.cpp", CONTINUOUS)
    assert contradictions(asking(ChunkedPrefill(tokens=2048), name="llama.cpp"), seen) == ()
    assert contradictions(asking(ChunkedPrefill(tokens=128), name="llama.cpp"), seen)


@pytest.mark.parametrize(
    ("seen", "asked", "words"),
    [
        (Evidence(prefix_hit_tokens=96), (PrefixCache(enabled=False),), "96 prompt tokens came from it"),
        (Evidence(prefix_cache=True), (PrefixCache(enabled=False),), "the engine has it on"),
        (Evidence(speculative="draft", drafted_tokens=0), (Speculative(algorithm="draft"),), "no token"),
        (Evidence(speculative="none"), (Speculative(algorithm="ngram"),), "runs none"),
        (Evidence(drafted_tokens=5), (), "not asked for, but the engine runs it and drafted 5"),
        (Evidence(max_sequences=4), (Batching(mode="none"),), "at most 1 was asked for, the engine takes 4"),
        (Evidence(peak_running=9), (Batching(max_sequences=8),), "9 requests ran at once"),
        (Evidence(kv_format="q8_0"), (), "the cache is kept in q8_0"),
        (Evidence(weight_format="Q4_1"), (WeightQuantization(format="Q8_0"),), "loaded Q4_1"),
        (Evidence(attention="none"), (AttentionBackend(name="flash"),), "the engine runs none"),
        (Evidence(precision="fp16"), (Precision(dtype="bf16"),), "computes in fp16"),
        (Evidence(chunked_prefill=False), (ChunkedPrefill(),), "asked on, the engine has it off"),
    ],
)
def test_one_sentence_for_what_is_gainsaid(seen: Evidence, asked: tuple[Technique, ...], words: str) -> None:
    (sentence,) = contradictions(asking(*asked), seen)
    assert words in sentence


def test_no_sign_is_unproven_and_no_contradiction() -> None:
    asked = asking(Compile(), PrefixCache(), Batching(max_sequences=8), Speculative(algorithm="eagle"))
    seen = Evidence(max_sequences=8, peak_running=1, prefix_hit_tokens=0)
    assert contradictions(asked, seen) == ()
    assert unproven(asked, seen) == ("batching", "compile", "prefix_cache", "speculative")
    lookup, silent = asking(Speculative(algorithm="ngram")), Evidence(drafted_tokens=0)
    assert contradictions(lookup, silent) == (), "where nothing repeats there is nothing to look up"
    assert unproven(lookup, silent) == ("speculative",)
    assert unproven(lookup, Evidence(speculative="ngram", drafted_tokens=0)) == ()
    kept = Evidence(kv_format="torch.float16", speculative="none", drafted_tokens=0)
    assert contradictions(asking(), kept) == ()


def test_prometheus_text_is_read_by_the_line() -> None:
    found = samples('a{x="1,}\\"2",y="z"} 3 1700000000\nb NaN\nc\n# d 4\ne_total 5e1\nf{x="1"} -2\n')
    assert found == [("a", {"x": '1,}\\"2', "y": "z"}, 3.0), ("e_total", {}, 50.0), ("f", {"x": "1"}, -2.0)]
    assert label('i{k="v"} 1\n', "i", "k") == "v" and label("i 1\n", "i", "k") is None
    assert total("e_total 5\n", "e") == 5 and total("e 5\n", "g") is None


def test_a_counter_counts_between_two_readings() -> None:
    assert gained(Reading(before="a 2\n", after="a 5\n"), "a") == 3
    assert gained(Reading(before="b 2\n", after="a 5\n"), "a") == 5  # it appears with its first use
    assert gained(Reading(before="", after="a 5\n"), "a") is None
    assert gained(Reading(before="a 5\n", after="a 2\n"), "a") is None  # a restarted engine


@pytest.mark.parametrize(
    ("taken", "context", "wrong"), [(159, 256, False), (256, 256, False), (159, 512, True)]
)
def test_a_chunk_is_no_longer_than_the_context(taken: int, context: int, wrong: bool) -> None:
    asked = Method(engine="llama.cpp", techniques=(ChunkedPrefill(tokens=256),))
    seen = Evidence(step_tokens=taken, context_tokens=context)
    assert bool(contradictions(asked, seen)) == wrong
