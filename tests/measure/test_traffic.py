"""Traffic has the moments, the sharing and the arrivals that are asked of it."""

import json
import math
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from metainf.domain import BadInput, Lengths, UnknownName, Workload
from metainf.importers.traces import read_trace
from metainf.measure.lengths import draw_arrivals, draw_lengths
from metainf.measure.prose import about_tokens, beginning, own_text, prose
from metainf.measure.salt import salted
from metainf.measure.traffic import REFERENCE, STUDY, Replay, of_study, of_trace, of_workload, workload_of
from metainf.measure.words import ClosedLoop, OpenLoop, Request, Traffic, Waves

SHARED = Path(os.environ.get("METAINF_SHARED", Path(__file__).resolve().parents[3] / "shared"))
TRACES = SHARED / "data" / "traces"
seeds = st.integers(0, 2**32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def common_words(left: str, right: str) -> int:
    pairs = zip(left.split(), right.split(), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left.split()), len(right.split())))


@given(seeds, st.integers(1, 400), st.integers(0, 5000))
def test_texts_have_the_asked_length(seed: int, tokens: int, number: int) -> None:
    text = own_text(rng(seed), tokens, number)
    assert about_tokens(text) == tokens and text == text.strip()
    assert about_tokens(prose(rng(seed), tokens)) == tokens
    assert own_text(rng(seed), tokens, number) == text, "the same chance gives the same text"
    cut = beginning(text, tokens // 2)
    assert text.startswith(cut) and about_tokens(cut) == tokens // 2


@given(
    seeds,
    st.floats(20, 3000),
    st.floats(0.05, 0.8),
    st.integers(200, 600),
    st.one_of(st.none(), st.floats(2.5, 9)),
)
def test_lengths_have_the_stated_moments(
    seed: int, mean: float, cv: float, count: int, top: float | None
) -> None:
    most = None if top is None else mean * top
    assume(most is None or cv < 1.0)
    values = np.array(draw_lengths(Lengths(mean=mean, std=cv * mean, max=most), count, rng(seed)))
    assert values.min() >= 1 and (most is None or values.max() <= math.ceil(most))
    assert values.mean() == pytest.approx(mean, rel=0.02, abs=0.6)
    assert values.std() == pytest.approx(cv * mean, rel=0.7 if cv > 0.6 else 0.4, abs=0.6)


@given(seeds, st.floats(1, 3000), st.floats(0, 20), st.integers(1, 40))
def test_few_or_wild_lengths_keep_the_mean(seed: int, mean: float, cv: float, count: int) -> None:
    values = draw_lengths(Lengths(mean=mean, std=cv * mean, max=4 * mean), count, rng(seed))
    assert len(values) == count and min(values) >= 1
    assert float(np.mean(values)) == pytest.approx(mean, rel=0.1, abs=1)


def test_percentiles_say_the_spread_where_no_deviation_does() -> None:
    tail = Lengths(mean=120, p50=100, p99=400)
    assert np.percentile(draw_lengths(tail, 500, rng()), 99) == pytest.approx(400, rel=0.15)
    assert set(draw_lengths(Lengths(mean=77), 9, rng())) == {77}
    with pytest.raises(BadInput, match="mean of at most the max"):
        draw_lengths(Lengths(mean=10, max=5), 3, rng())


@given(seeds, st.floats(0.1, 200), st.floats(0.0, 2.0))
def test_arrivals_have_the_rate_and_the_variation(seed: int, rate: float, cv: float) -> None:
    times = np.array(draw_arrivals(rate, cv, 4000, rng(seed)))
    gaps = np.diff(times)
    assert times[0] == 0 and gaps.min() >= 0
    assert 1 / gaps.mean() == pytest.approx(rate, rel=0.15)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.2, abs=1e-6)


def test_arrivals_are_poisson_where_nothing_is_said() -> None:
    gaps = np.diff(draw_arrivals(5.0, None, 4000, rng()))
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.08)
    assert float(np.mean(gaps > 0.2)) == pytest.approx(math.exp(-1), abs=0.03)
    for rate in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(BadInput, match="request rate"):
            draw_arrivals(rate, None, 3, rng())


def workload(**changed: object) -> Workload:
    told = {"input_tokens": Lengths(mean=120, std=60), "output_tokens": Lengths(mean=30, std=10), **changed}
    return Workload.model_validate({"name": "mine", "concurrency": 8, **told})


@given(seeds, st.integers(20, 80), st.floats(0, 0.85))
def test_traffic_is_the_workload(seed: int, count: int, share: float) -> None:
    asked = workload(prefix_share=share, input_tokens=Lengths(mean=300, std=60))
    traffic = of_workload(asked, count, None, rng(seed))
    found = workload_of(traffic)
    assert traffic.pacing == ClosedLoop(8) and found.concurrency == 8 and found.num_requests == count
    assert found.input_tokens is not None and found.input_tokens.mean == pytest.approx(300, rel=0.02)
    assert found.output_tokens is not None and found.output_tokens.mean == pytest.approx(30, rel=0.05)
    assert found.prefix_share == pytest.approx(share, abs=0.06), "blocks of 16 words are counted, not words"


@settings(max_examples=10)
@given(seeds, st.integers(2, 140))
def test_prompts_differ_from_the_first_word_on(seed: int, count: int) -> None:
    made = of_workload(workload(), count, None, rng(seed))
    assert len({request.prompt.split()[0] for request in made.requests}) == count
    for name in ("short_chat", "long_prompt", "long_generation", "copy_edit", "mixed"):
        requests = of_study(name, count, Waves(4), rng(seed)).requests
        assert len({request.prompt.split()[0] for request in requests}) == count, name


def test_thousands_of_prompts_stay_apart() -> None:
    requests = of_workload(workload(input_tokens=Lengths(mean=20)), 3000, None, rng()).requests
    assert len({" ".join(request.prompt.split()[:2]) for request in requests}) == 3000


def test_the_load_says_the_pacing() -> None:
    assert of_workload(workload(concurrency=2.4), 3, None, rng()).pacing == ClosedLoop(2)
    assert of_workload(workload(concurrency=None, batch_size=4), 3, None, rng()).pacing == Waves(4)
    opened = of_workload(workload(concurrency=None, request_rate_per_s=4.0), 400, None, rng())
    assert opened.pacing == OpenLoop() and opened.requests[0].at_s == 0
    assert workload_of(opened).request_rate_per_s == pytest.approx(4, rel=0.2)
    assert of_workload(workload(), 3, Waves(2), rng()).pacing == Waves(2), "what is told goes first"


@pytest.mark.parametrize(
    ("changed", "count", "said"),
    [
        ({"output_tokens": None}, 3, "output_tokens"),
        ({"input_tokens": None}, 3, "input_tokens"),
        ({"concurrency": None}, 3, "found none of them"),
        ({"request_rate_per_s": 1.0}, 3, "found 2 of them"),
        ({"prefix_share": 0.9}, 5, "send more requests"),
        ({"prefix_share": 0.1}, 1, "send more requests"),
        ({}, 0, "at least 1"),
    ],
)
def test_what_a_workload_must_say(changed: dict[str, object], count: int, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        of_workload(workload(**changed), count, None, rng())
    if said == "output_tokens":
        with pytest.raises(BadInput, match="request_rate_per_s"):
            of_workload(workload(), 3, OpenLoop(), rng())


@pytest.mark.parametrize("name", STUDY)
@settings(max_examples=15)
@given(seed=seeds, count=st.integers(1, 64), size=st.integers(1, 64))
def test_study_traffic(name: str, seed: int, count: int, size: int) -> None:
    traffic = of_study(name, count, ClosedLoop(size), rng(seed))
    assert traffic.name == name and len(traffic.requests) == count and traffic.pacing == ClosedLoop(size)
    assert traffic.reference == REFERENCE and traffic == of_study(name, count, ClosedLoop(size), rng(seed))
    assert all(request.output_tokens >= 8 and request.at_s is None for request in traffic.requests)
    assert max(about_tokens(request.prompt) for request in traffic.requests) <= 720
    assert workload_of(traffic).name == name


def test_the_shared_prefix_is_shared() -> None:
    warm = of_study("shared_prefix_warm", 16, ClosedLoop(8), rng(3))
    cold = of_study("shared_prefix", 16, ClosedLoop(8), rng(3))
    assert warm.requests == cold.requests and not cold.warming
    first = warm.requests[0].prompt
    for request in (*warm.requests[1:], *warm.warming):
        shared = common_words(request.prompt, first)
        assert about_tokens(" ".join(first.split()[:shared])) == 512
    shares = [workload_of(traffic).prefix_share for traffic in (cold, warm)]
    assert shares[0] == pytest.approx(15 / 16 * 0.95, abs=0.03) and shares[1] == pytest.approx(0.95, abs=0.03)


def test_a_copy_is_asked_of_what_stands_there() -> None:
    for request in of_study("copy_edit", 8, ClosedLoop(1), rng(1)).requests:
        first, _, again = request.prompt.partition("The same lines again:")
        assert again.split("\n2.")[0].strip() in first


def test_unknown_names_and_counts() -> None:
    with pytest.raises(UnknownName, match="did you mean long_prompt"):
        of_study("long_promt", 3, ClosedLoop(1), rng())
    with pytest.raises(BadInput, match="at least 1"):
        of_study("mixed", 0, ClosedLoop(1), rng())
    with pytest.raises(BadInput, match="at least one request"):
        workload_of(Traffic("empty", (), ClosedLoop(1)))
    prompts = [request.prompt for request in REFERENCE]
    assert len(set(prompts)) == 32 and {request.output_tokens for request in REFERENCE} == {4}
    for first in range(0, 32, 4):
        of_one = prompts[first : first + 4]
        assert all(later.startswith(earlier) for earlier, later in pairwise(of_one)), "cuts of one passage"
    assert workload_of(Traffic("one", (Request("a b", 3, 0.0),), OpenLoop())).request_rate_per_s is None


def azure(path: Path, *seconds: float, tokens: tuple[int, int] = (100, 10)) -> Path:
    rows = [f"2023-11-16 18:00:{at:010.7f},{tokens[0]},{tokens[1]}" for at in seconds]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]), encoding="utf-8")
    return path


def mooncake(path: Path, *rows: tuple[int, int, list[int]]) -> Path:
    told = [
        {"timestamp": at, "input_length": tokens, "output_length": 7, "hash_ids": blocks}
        for at, tokens, blocks in rows
    ]
    path.write_text("\n".join(map(json.dumps, told)), encoding="utf-8")
    return path


@given(seeds)
def test_a_salt_tells_runs_apart_and_keeps_what_prompts_share(seed: int) -> None:
    asked = of_study("shared_prefix_warm", 6, ClosedLoop(2), rng(seed))
    one, again, other = (salted(asked, f"{seed} {salt}") for salt in ("a", "a", "b"))
    assert one == again and one.reference == asked.reference
    for traffic in (one, other):
        assert {r.prompt.split(".")[0] for r in (*traffic.requests, *traffic.warming)} == {
            traffic.requests[0].prompt.split(".")[0]
        }
        for new, old in zip(traffic.requests, asked.requests, strict=True):
            assert (
                new.prompt.endswith(old.prompt) and about_tokens(new.prompt) == about_tokens(old.prompt) + 3
            )
    assert (one.requests[0].prompt == other.requests[0].prompt) is (one == other)


def test_a_trace_keeps_its_times(tmp_path: Path) -> None:
    path = azure(tmp_path / "azure.csv", 1.5, 2.5, 2.25, 40.5)
    found = of_trace(path, rng())
    assert found.pacing == OpenLoop() and found.name == "azure"
    assert [request.at_s for request in found.requests] == pytest.approx([0, 0.75, 1.0, 39.0], abs=1e-4)
    assert {(about_tokens(request.prompt), request.output_tokens) for request in found.requests} == {
        (100, 10)
    }
    faster = of_trace(path, rng(), Replay(requests=3, speed_up=10, token_scale=0.5, max_output_tokens=3))
    assert [request.at_s for request in faster.requests] == pytest.approx([0, 0.075, 0.1], abs=1e-5)
    assert {(about_tokens(r.prompt), r.output_tokens) for r in faster.requests} == {(50, 3)}
    assert workload_of(found).content is None, "records keep no text of a trace"
    closed = of_trace(path, rng(), Replay(pacing=ClosedLoop(2)))
    assert closed.pacing == ClosedLoop(2) and closed.requests[0].at_s is None


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_a_trace_keeps_its_shared_beginnings(tmp_path: Path, scale: float) -> None:
    path = mooncake(
        tmp_path / "moon.jsonl",
        (0, 1000, [1, 2]),
        (500, 1300, [1, 2, 3]),
        (900, 600, [4, 2]),
        (950, 700, [1]),
    )
    found = [request.prompt for request in of_trace(path, rng(), Replay(token_scale=scale)).requests]
    assert [about_tokens(prompt) for prompt in found] == [round(n * scale) for n in (1000, 1300, 600, 700)]
    block = about_tokens(" ".join(found[0].split()[: common_words(found[0], found[3])]))
    assert block == pytest.approx(512 * scale, abs=1), "one block, then words of its own"
    assert found[1].startswith(found[0].rsplit(" ", 1)[0]), "both blocks of the first"
    assert common_words(found[0], found[2]) == 0


def test_what_a_cap_cuts_is_the_end(tmp_path: Path) -> None:
    path = mooncake(tmp_path / "moon.jsonl", (0, 1000, [1, 2]), (500, 1300, [1, 3]))
    found = of_trace(path, rng(), Replay(max_input_tokens=300)).requests
    assert found[0].prompt == found[1].prompt and about_tokens(found[0].prompt) == 300


def test_texts_of_a_trace_are_sent(tmp_path: Path) -> None:
    path = tmp_path / "share.json"
    path.write_text(json.dumps([{"prompt": "one two three four", "output_len": 5}]), encoding="utf-8")
    (request,) = of_trace(path, rng(), Replay(pacing=ClosedLoop(1), max_input_tokens=3)).requests
    assert request == Request("one two three", 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input_tokens,output_tokens,time\n5,5,1\n5,,2\n", "row 1: output tokens"),
        ("input_tokens,output_tokens,time\n5,5,1\n5,5,\n", "row 1: time"),
        ("input_tokens,output_tokens\n5,5\n5,5\n", "a time in every row.*row 0 .2 of 2.*closed loop"),
        (
            '{"input_length": 5, "output_length": 5, "timestamp": 1}\n{"input_length": 5, "timestamp": 2}',
            "row 1",
        ),
        (
            '{"input_length": 5, "output_length": 5, "timestamp": 1, "hash_ids": [1]}\n'
            '{"input_length": 5, "output_length": 5, "timestamp": 2}',
            "hash_ids in every row.*row 1",
        ),
        ('{"input_length": 5, "output_length": 5, "timestamp": 1, "hash_ids": [[1]]}', "hash_ids: expected"),
        ("input_tokens,output_tokens,time\n", "expected"),
        ("one line\n", "expected a trace"),
    ],
)
def test_traces_with_holes(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        of_trace(path, rng())


@pytest.mark.parametrize(
    "name", ["requests", "speed_up", "token_scale", "max_input_tokens", "max_output_tokens"]
)
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_factors_are_above_zero(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(BadInput, match=name):
        of_trace(azure(tmp_path / "azure.csv", 1.0), rng(), Replay(**{name: value}))


@pytest.mark.skipif(not TRACES.is_dir(), reason="the shared data folder is not beside the checkout")
def test_a_known_trace_keeps_its_workload(tmp_path: Path) -> None:
    whole = TRACES / "mooncake" / "conversation_trace.jsonl"
    path = tmp_path / "beginning.jsonl"
    path.write_text("".join(whole.read_text().splitlines(keepends=True)[:1500]), encoding="utf-8")
    known = read_trace(path)
    found = workload_of(of_trace(path, rng(), Replay(token_scale=1 / 16)))
    assert found.num_requests == known.num_requests
    assert found.prefix_share == pytest.approx(known.prefix_share, abs=0.03)
    assert found.request_rate_per_s == pytest.approx(known.request_rate_per_s, rel=0.01)
    assert found.interarrival_cv == pytest.approx(known.interarrival_cv, rel=0.01)
    assert found.input_tokens is not None and known.input_tokens is not None
    assert found.input_tokens.mean == pytest.approx(known.input_tokens.mean / 16, rel=0.01)
