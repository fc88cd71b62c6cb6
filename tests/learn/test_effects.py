"""Knobs that the history hardly holds: what arithmetic must say of them, whatever was learnt."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metainf import catalog
from metainf.domain import (
    Batching,
    ChunkedPrefill,
    Hardware,
    Lengths,
    Method,
    Parallelism,
    PrefixCache,
    Speculative,
    Technique,
    Workload,
)
from metainf.embed.columns import Columns, columns
from metainf.learn import artifact, effects
from metainf.learn.forecast import Forecast
from metainf.learn.predictor import TrainedPredictor
from metainf.learn.speculation import DRAFTS, expected_tokens, gain

H100 = catalog.find_device("h100-sxm")
DENSE, EXPERTS = catalog.find_model("Qwen3-8B"), catalog.find_model("Qwen3-30B-A3B")
BOTH = {"dense": DENSE, "experts": EXPERTS}
loads = st.sampled_from([4.0, 16.0, 64.0, 256.0])
lengths = st.sampled_from([128.0, 1024.0, 8192.0])


@pytest.fixture(scope="module")
def predictor() -> TrainedPredictor:
    return TrainedPredictor(artifact.read())


@pytest.fixture(scope="module")
def ask(predictor: TrainedPredictor) -> effects.Ask:
    return predictor.learners["model"].forecast


def work(**changes: Any) -> Workload:
    given = {"input_tokens": Lengths(mean=1024), "output_tokens": Lengths(mean=256), "concurrency": 32.0}
    return Workload(**{**given, **changes})


def row(job: Workload, *techniques: Technique, model: str = "dense", engine: str = "vllm") -> Columns:
    machine = Hardware(device=H100, count=1)
    return columns([BOTH[model]], [job], [machine], [Method(engine=engine, techniques=techniques)])


def value(found: Forecast, metric: str) -> float:
    return float(np.exp(found.log_median[metric][0]))


def test_a_cap_above_the_load_changes_nothing(ask: effects.Ask) -> None:
    plain = effects.forecast(row(work()), ask)
    capped = effects.forecast(row(work(), Batching(max_sequences=64)), ask)
    assert plain.log_median == capped.log_median


@given(loads, lengths, st.sampled_from([2, 8, 32]))
@settings(max_examples=20, deadline=None)
def test_a_capped_loop_obeys_littles_law(load: float, tokens: float, cap: int) -> None:
    asked = TrainedPredictor(artifact.read()).learners["model"].forecast
    job = work(concurrency=load, input_tokens=Lengths(mean=tokens))
    found = effects.forecast(row(job, Batching(max_sequences=cap)), asked)
    assert value(found, "requests_per_s") * value(found, "e2e_s") == pytest.approx(load, rel=1e-6)
    free = effects.forecast(row(job), asked)
    if cap < load:
        assert value(found, "memory_gib") <= value(free, "memory_gib")
    if cap < load and free.basis["over"][0] <= 1:
        assert value(found, "ttft_s") > value(free, "ttft_s"), "all could be running, now some wait"


def test_requests_that_are_not_batched_wait_as_behind_a_cap_of_one(ask: effects.Ask) -> None:
    alone = effects.forecast(row(work(), Batching(mode="none")), ask)
    one = effects.forecast(row(work(), Batching(max_sequences=1)), ask)
    assert alone.log_median == one.log_median
    assert effects.told(row(work(), Batching(mode="none")), ask) == effects.told(
        row(work(), Batching(max_sequences=1)), ask
    )


def test_replicas_multiply_the_cap() -> None:
    two = columns(
        [DENSE], [work()], [Hardware(device=H100, count=2)],
        [Method(engine="vllm", techniques=(Parallelism(tensor=1, data=2), Batching(max_sequences=8)))],
    )  # fmt: skip
    assert effects.capacity(two)[0] == 16
    assert np.isnan(effects.capacity(row(work()))[0])


def test_an_open_loop_beyond_the_cap_is_overloaded_or_waits(ask: effects.Ask) -> None:
    job = work(concurrency=None, request_rate_per_s=4.0)
    free = effects.forecast(row(job), ask)
    tight = effects.forecast(row(job, Batching(max_sequences=1)), ask)
    assert value(free, "requests_per_s") == pytest.approx(4.0, rel=0.05)
    assert value(tight, "requests_per_s") < 1.0
    assert value(tight, "ttft_s") > 1000 * value(free, "ttft_s")
    slow = work(concurrency=None, request_rate_per_s=0.02)
    alone = effects.forecast(row(slow, Batching(max_sequences=1)), ask)
    assert value(alone, "requests_per_s") == pytest.approx(0.02, rel=0.05)
    assert value(alone, "ttft_s") < 2 * value(effects.forecast(row(slow), ask), "e2e_s")


def test_small_chunks_delay_the_first_token_of_long_prompts_alone(ask: effects.Ask) -> None:
    long, short = (work(input_tokens=Lengths(mean=tokens), concurrency=8.0) for tokens in (16384, 256))
    times = [
        value(effects.forecast(row(long, ChunkedPrefill(tokens=tokens)), ask), "ttft_s")
        for tokens in (512, 2048, 8192, 16384)
    ]
    assert times == sorted(times, reverse=True) and times[0] > 1.05 * times[2]
    usual = effects.forecast(row(long), ask)
    assert times[2] == pytest.approx(value(usual, "ttft_s"))
    assert value(effects.forecast(row(short, ChunkedPrefill(tokens=512)), ask), "ttft_s") == pytest.approx(
        value(effects.forecast(row(short), ask), "ttft_s")
    )
    guessed = effects.forecast(row(long, ChunkedPrefill(tokens=512)), ask)
    assert guessed.log_scale["ttft_s"][0] > usual.log_scale["ttft_s"][0]


def test_a_reused_prefix_helps_where_it_is_cached(ask: effects.Ask) -> None:
    first: list[float] = []
    memory: list[float] = []
    for share in (0.0, 0.3, 0.6, 0.9):
        job = work(input_tokens=Lengths(mean=8192), concurrency=16.0, prefix_share=share)
        found = effects.forecast(row(job, PrefixCache()), ask)
        first.append(value(found, "ttft_s"))
        memory.append(value(found, "memory_gib"))
    assert first == sorted(first, reverse=True) and first[-1] < 0.5 * first[0]
    assert memory == sorted(memory, reverse=True) and memory[-1] < memory[0]
    off = effects.forecast(row(work(prefix_share=0.9), PrefixCache(enabled=False)), ask)
    assert value(off, "ttft_s") == pytest.approx(value(effects.forecast(row(work()), ask), "ttft_s"))


def test_expected_tokens_of_a_step() -> None:
    half = np.array([0.5])
    assert expected_tokens(half, np.array([0.0]))[0] == 1
    assert expected_tokens(half, np.array([1.0]))[0] == 1.5
    assert expected_tokens(half, np.array([3.0]))[0] == 1.875


@pytest.mark.parametrize("algorithm", sorted(DRAFTS))
def test_speculation_pays_alone_and_less_in_a_crowd(ask: effects.Ask, algorithm: str) -> None:
    gains = []
    for load in (1.0, 32.0, 512.0):
        plain, with_it = (
            effects.forecast(row(work(concurrency=load), *techniques), ask)
            for techniques in ((), (Speculative(algorithm=algorithm),))
        )
        gains.append(value(plain, "tpot_s") / value(with_it, "tpot_s"))
        assert with_it.log_scale["tpot_s"][0] > plain.log_scale["tpot_s"][0]
        first, whole = (value(with_it, name) / value(plain, name) for name in ("ttft_s", "tpot_s"))
        if load < 512:
            assert first == pytest.approx(1), "nothing waits"
        else:
            assert (first - 1) * (whole - 1) >= 0, "who waits for a place waits as long as others decode"
        assert value(with_it, "output_tokens_per_s") / value(plain, "output_tokens_per_s") > min(1, gains[-1])
    assert gains[0] > 1.1 and gains[0] > gains[2]


def test_a_mixture_of_experts_gains_less_at_one_request(ask: effects.Ask) -> None:
    job, draft = work(concurrency=1.0), Speculative(algorithm="eagle3", tokens=2)
    costs = [
        gain(row(job, draft, model=name), ask(row(job, model=name)).basis).cost[0]
        for name in ("dense", "experts")
    ]
    assert 1 < costs[0] < costs[1]


def test_measured_and_unknown_speculation_is_left_to_the_learner(ask: effects.Ask) -> None:
    seen = []

    def listening(asked: Columns) -> Forecast:
        seen.append(str(asked["speculative"][0]))
        return ask(asked)

    for algorithm in ("eagle3", "clairvoyance"):
        effects.forecast(row(work(), Speculative(algorithm=algorithm)), listening, frozenset({"vllm eagle3"}))
    effects.forecast(
        row(work(), Speculative(algorithm="eagle3"), engine="sglang"), listening, frozenset({"vllm eagle3"})
    )
    assert seen == ["eagle3", "clairvoyance", ""]


def test_rows_do_not_disturb_each_other(ask: effects.Ask) -> None:
    methods = [
        Method(engine="vllm", techniques=techniques)
        for techniques in (
            (), (Batching(max_sequences=4),), (Speculative(algorithm="ngram"),), (ChunkedPrefill(tokens=512),)
        )
    ]  # fmt: skip
    machine = Hardware(device=H100, count=1)
    together = effects.forecast(columns([DENSE], [work()], [machine] * 4, methods), ask)
    for place, method in enumerate(methods):
        alone = effects.forecast(columns([DENSE], [work()], [machine], [method]), ask)
        for metric, values in alone.log_median.items():
            assert together.log_median[metric][place] == pytest.approx(values[0], abs=1e-6)


def test_effects_are_told_in_words(ask: effects.Ask) -> None:
    job = work(prefix_share=0.8, input_tokens=Lengths(mean=8192))
    words = effects.told(
        row(job, PrefixCache(), Speculative(algorithm="ngram"), Batching(max_sequences=2)), ask
    )
    assert len(words) == 3 and words[0].startswith("waiting behind the cap on running requests: +")
    assert any("published acceptance" in phrase and ": -" in phrase for phrase in words)
    assert any(phrase.startswith("reuse of the shared prefix: -") for phrase in words)
    assert effects.told(row(work()), ask) == ()
