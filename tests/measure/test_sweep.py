"""Many runs: their order, what is shared, resuming, limits, and what is said of them."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from measure_fakes import SUBJECT, FakeEngine, order, traffic

from metainf.domain import BadInput, Failed, Method, Model, Record, Speculative
from metainf.measure.asking import Load, traffics_of
from metainf.measure.drive import drive
from metainf.measure.order import lay_out
from metainf.measure.serving import Writing
from metainf.measure.summary import noise, summary
from metainf.measure.sweep import Seats, prepare, sweep, warnings
from metainf.measure.words import ClosedLoop, OpenLoop, Request
from metainf.store import open_store

pytest.importorskip("aiohttp", reason="the extra measure is not installed")
pytest.importorskip("psutil", reason="the extra measure is not installed")


def test_methods_take_turns_and_the_plain_one_is_first() -> None:
    engine = FakeEngine()
    asked = order(engine, "continuous", "baseline", repeats=2, traffics=[traffic(), traffic(name="other")])
    runs = lay_out(asked, lambda _: engine, "c").runs
    told = [(each.name, each.run.traffic.name, each.run.trial) for each in runs]
    assert told == [
        (method, name, trial)
        for trial in (0, 1)
        for method in ("baseline", "continuous")
        for name in ("short", "other")
    ]
    assert len({each.run.key for each in runs}) == len(runs)
    assert all(each.expected_s > 0 for each in runs)


def test_records_know_a_draft_by_its_name_and_its_engine_by_its_path() -> None:
    engine = FakeEngine()
    for typed, kept in (("/srv/x/small.gguf", "small.gguf"), ("owner/small", "owner/small")):
        (planned,) = lay_out(order(engine, f"draft:{typed}"), lambda _: engine, "c").runs
        told, launched = planned.run.method.get(Speculative), planned.run.launched.get(Speculative)
        assert told is not None and launched is not None
        assert (told.draft_model, launched.draft_model) == (kept, typed)


def test_weights_are_written_when_their_run_is_made() -> None:
    written: list[str] = []

    def write(model: Model, method: Method, writing: Writing | None) -> None:
        assert writing is not None
        writing(3, 7)
        written.append(method.engine)

    engine, heard = FakeEngine(), list[str]()
    asked = replace(order(engine, "continuous"), subject=replace(SUBJECT, write=write))
    layout = lay_out(asked, lambda _: engine, "c")
    assert written == []
    found = sweep(asked, layout, None, lambda _: engine, tell=lambda now: heard.append(now.words))
    assert written == ["fake"] and len(found.records) == 1
    assert any("writing its weights, 3 of 7 tensors" in words for words in heard)


def test_an_engine_is_shared_only_where_no_prefix_is_kept() -> None:
    engine = FakeEngine()
    for name, shared in (("continuous", True), ("prefix", False)):
        asked = order(engine, name, traffics=[traffic(), traffic(name="other")])
        first, second = lay_out(asked, lambda _: engine, "c").runs
        with Seats(lambda _: engine, asked.rules, None) as seats:
            with seats.serve(first) as one:
                pass
            with seats.serve(second) as other:
                assert (one.process is other.process) is shared


def test_an_engine_that_forgets_its_prefixes_is_shared_with_an_empty_cache() -> None:
    def served(path: str | None) -> tuple[bool, list[float | None]]:
        """Whether two runs of one long prompt shared a process, and what each found in the cache."""
        engine = FakeEngine()
        engine.forgets = path
        long = replace(traffic(), requests=(Request("how far is the moon " * 20, 3),))
        asked = order(engine, "prefix", traffics=[long, replace(long, name="other")])
        processes, hits = [], []
        with Seats(lambda _: engine, asked.rules, None) as seats:
            for planned in lay_out(asked, lambda _: engine, "c").runs:
                with seats.serve(planned) as one:
                    (timing,) = asyncio.run(drive(planned.run.traffic, one.endpoint))
                    hits.append(timing.cached_tokens)
                    processes.append(one.process)
        return processes[0] is processes[1], hits

    assert served("/reset_prefix_cache") == (True, [0, 0])
    assert served(None) == served("/health") == (False, [0, 0])  # the latter does not say that it did


def test_records_are_stored_summed_up_and_resumed(tmp_path: Path) -> None:
    engine = FakeEngine("--itl-ms", "4")
    asked = order(engine, "baseline", "continuous", repeats=2)
    with open_store(tmp_path / "records.sqlite") as store:
        layout = prepare(asked, store, lambda _: engine, "monday")
        found = sweep(asked, layout, store, lambda _: engine)
        assert [r.id for r in store.query()] == [record.id for _, record in found.records]
        plain, together = summary(found.records)
        assert (plain.method, plain.runs, plain.ratio) == ("baseline", 2, None)
        assert together.ratio is not None and together.ratio > 1 and together.clear is not None
        assert plain.quality == together.quality == 1
        spread = noise(found.records)
        assert spread is not None and 0 <= spread < 2

        again = prepare(asked, store, lambda _: engine, "tuesday", resume=True)
        assert (again.campaign, len(again.runs), len(again.done)) == (layout.campaign, 0, 4)
        more = prepare(order(engine, "baseline", "continuous", repeats=3), store, lambda _: engine, "x", True)
        assert (len(more.runs), len(more.done)) == (2, 4)
        assert more.expected_s < layout.expected_s
        resumed = sweep(asked, more, store, lambda _: engine)
        assert store.count() == 6 and resumed.resumed == 4 and len(resumed.records) == 6
        fresh = prepare(asked, store, lambda _: engine, "tuesday")
        assert len(fresh.runs) == 4 and fresh.campaign != layout.campaign


def test_quality_after_resuming_is_against_answers_asked_again(tmp_path: Path) -> None:
    engine = FakeEngine()
    with open_store(tmp_path / "records.sqlite") as store:
        first = order(engine, "baseline", campaign="mine")
        sweep(first, prepare(first, store, lambda _: engine, "x"), store, lambda _: engine)
        both = order(engine, "baseline", "continuous", campaign="mine")
        found = sweep(both, prepare(both, store, lambda _: engine, "x", True), store, lambda _: engine)
        assert store.count() == 2
        metrics = found.records[-1][1].metrics
        assert metrics is not None and metrics.quality == 1


def test_what_would_fail_again_is_not_tried_again(tmp_path: Path) -> None:
    engine = FakeEngine("--fail", "exit")
    asked = order(engine, "continuous", repeats=3)
    with open_store(tmp_path / "records.sqlite") as store:
        found = sweep(asked, prepare(asked, store, lambda _: engine, "x"), store, lambda _: engine)
        assert len(found.records) == store.count() == 1 and found.skipped == 2
        assert isinstance(found.records[0][1].outcome, Failed)
        assert prepare(asked, store, lambda _: engine, "y", resume=True).runs == ()
        (line,) = summary(found.records)
        assert line.failed == "out_of_memory" and line.output_tokens_per_s is None


def test_a_time_limit_begins_no_run_that_would_end_after_it() -> None:
    engine = FakeEngine()
    asked = order(engine, "baseline", "continuous", time_limit_s=0.5)
    found = sweep(asked, prepare(asked, None, lambda _: engine, "x"), None, lambda _: engine)
    assert found.records == [] and found.unmade == 2


def test_a_busy_machine_is_warned_of() -> None:
    def record(share: float) -> Record:
        conditions = {"other_cpu_share": share, "duration_s": 1.0}
        return Record.of(
            {
                "setting": {
                    "model": SUBJECT.model.model_dump(exclude_none=True),
                    "workload": {},
                    "hardware": SUBJECT.hardware.model_dump(exclude_none=True),
                },
                "method": {"engine": "fake"},
                "outcome": {"kind": "measured", "metrics": {}},
                "provenance": {"source": "metainf", "conditions": conditions},
            }
        )

    (said,) = warnings([record(0.05), record(0.6)])
    assert "60%" in said and "1 of 2 runs" in said
    assert warnings([record(0.05)]) == []


def test_traffics_by_name(tmp_path: Path) -> None:
    one, two = traffics_of("short_chat", Load(in_flight=(4, 16)))
    assert (one.pacing, len(one.requests)) == (ClosedLoop(4), 16)
    assert (two.pacing, len(two.requests)) == (ClosedLoop(16), 32)
    assert traffics_of("short_chat", Load(in_flight=(4, 16))) == [one, two], "the same seed asks the same"
    (timed,) = traffics_of("short_chat", Load(rate_per_s=5.0, requests=6))
    assert timed.pacing == OpenLoop() and all(request.at_s is not None for request in timed.requests)
    (known,) = traffics_of("sharegpt", Load(in_flight=(2,), requests=3))
    assert known.pacing == ClosedLoop(2) and len(known.requests) == 3
    trace = tmp_path / "trace.csv"
    trace.write_text("timestamp,input_tokens,output_tokens\n0,5,2\n1,6,3\n2,7,4\n")
    (replayed,) = traffics_of(str(trace), Load())
    assert replayed.pacing == OpenLoop() and [r.output_tokens for r in replayed.requests] == [2, 3, 4]


@pytest.mark.parametrize(
    ("name", "load", "words"),
    [
        ("short_chatt", Load(), "did you mean short_chat"),
        ("short_chat", Load(in_flight=(0,)), "at least 1 request in flight"),
        ("short_chat", Load(requests=0), "at least 1 request"),
        ("short_chat", Load(in_flight=(2,), rate_per_s=1.0), "found both"),
    ],
)
def test_loads_that_make_no_sense(name: str, load: Load, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        traffics_of(name, load)
