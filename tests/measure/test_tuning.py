"""A tuning's runs, with a fake engine: who may win, what is kept, and when it ends."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from measure_fakes import SUBJECT, FakeEngine, order, traffic

from metainf.domain import Batching, ChunkedPrefill, PrefixCache, Record, Speculative
from metainf.engines.command import Command
from metainf.measure import sweep as sweeping
from metainf.measure.earlier import Aim, aim_of, candidates_of, known_of, task_of
from metainf.measure.order import Planned, lay_out
from metainf.measure.recipes import sensible
from metainf.measure.serving import Patience
from metainf.measure.sweep import Progress, sweep
from metainf.measure.trial import Rules as TrialRules
from metainf.measure.trial import Unanswered
from metainf.measure.tune import Rules, search
from metainf.measure.tuning import Contest, Part, Tuned, tuned
from metainf.store import Store, open_store

pytest.importorskip("aiohttp", reason="the extra measure is not installed")
pytest.importorskip("psutil", reason="the extra measure is not installed")

PATIENT = TrialRules(Patience(ready_s=120, run_s=120, grace_s=1))


class Moody(FakeEngine):
    """Lookup changes its words, the prefix cache makes it end while it starts, and chunks do what is told."""

    offers = (Batching, PrefixCache, Speculative, ChunkedPrefill)
    chunked: tuple[str, ...] = ()

    def start(self, command: Command) -> None:
        if command.get(Speculative) is not None:
            command.add("--babble", "7")
        elif command.get(ChunkedPrefill) is not None:
            command.add(*self.chunked)

    def keep_prefixes(self, command: Command, prefix: PrefixCache) -> None:
        if prefix.enabled:
            command.add("--fail", "exit")


class Settled(Aim):
    """The value of a run that worked follows from its method, so that no test hangs on the clock."""

    def value(self, record: Record) -> float | None:
        if super().value(record) is None:
            return None
        if record.method.get(Speculative) is not None:
            return 300.0
        return 100.0 if record.method.get(ChunkedPrefill) is not None else 10.0


GOOD = Rules(quality=0.5)
AIM = Settled("throughput", "output_tokens_per_s", "tokens/s", True)


def contest(engine: FakeEngine, *names: str, rules: Rules = GOOD, known: Any = ()) -> Contest:
    """Of the named methods; the plain one is laid out too, and a candidate where it is named."""
    others = [name for name in names if name != "baseline"]
    asked = order(engine, "baseline", *others, asks_plain=True, rules=PATIENT)
    layout = lay_out(asked, lambda _: engine, "tune-today")
    planned = tuple(each for each in layout.runs if each.name in names)
    candidates = candidates_of(planned, nothing_said)
    parts = (Part(asked, layout),)
    return Contest(AIM, search(candidates, rules, known), planned, (0,) * len(planned), parts)


def nothing_said(_: Any, methods: Any) -> list[tuple[float | None, float]]:
    return [(None, 1.0)] * len(methods)


def ran(asked: Contest, engine: FakeEngine, store: Store | None = None) -> Tuned:
    return tuned(asked, store, lambda _: engine)


def winner(asked: Contest, found: Tuned) -> Planned:
    assert found.verdict.winner is not None, found.verdict
    return asked.planned[found.verdict.winner]


def test_failures_and_low_quality_never_win(tmp_path: Path) -> None:
    """The fastest answers with other words, one ends while it starts, one is the best that is left."""
    engine = Moody()
    asked = contest(engine, "baseline", "prefix", "lookup", "chunked", rules=Rules(quality=0.5, worth=0))
    with open_store(tmp_path / "records.sqlite") as store:
        found = ran(asked, engine, store)
        kept = {record.id: record for record in store.query()}
    assert winner(asked, found).name == "chunked"
    results = {asked.planned[place].name: result for place, result in found.search.runs}
    fast, best, slow = results["lookup"], results["chunked"], results["baseline"]
    assert (fast.value, best.value, slow.value) == (300, 100, 10)
    assert fast.quality is not None and fast.quality < 0.5 and best.quality == slow.quality == 1
    assert results["prefix"].value is None and "out_of_memory" in (results["prefix"].error or "")
    assert {record.id for _, record in found.records} == set(kept) and len(kept) == 4
    assert {record.provenance.campaign for record in kept.values()} == {"tune-today"}
    assert len(found.plain[0]) == 1 and not found.interrupted


def test_without_a_floor_the_fastest_wins() -> None:
    engine = Moody()
    asked = contest(engine, "lookup", "chunked", rules=Rules(worth=0))
    assert winner(asked, ran(asked, engine)).name == "lookup"


def test_the_plain_method_is_run_to_compare_with_though_it_is_no_candidate() -> None:
    engine = Moody()
    asked = contest(engine, "chunked", rules=Rules(quality=0.5, repeats=1))
    found = ran(asked, engine)
    assert winner(asked, found).name == "chunked" and found.verdict.runs == 1
    assert [name for name, _ in found.records] == ["chunked", "baseline"]
    assert len(found.plain[0]) == 1 and len(found.search.runs) == 1


def test_the_plain_method_is_run_to_compare_with_where_the_search_did_not() -> None:
    engine = Moody()
    asked = contest(engine, "chunked", "baseline", rules=Rules(quality=0.5, share=0.5))
    found = ran(asked, engine)
    assert len(found.plain[0]) == 1 and {name for name, _ in found.records} >= {"baseline"}
    assert winner(asked, found).name in ("chunked", "baseline")


def test_where_nothing_works_nothing_wins() -> None:
    engine = FakeEngine("--fail", "exit")
    asked = contest(engine, "baseline", "continuous", rules=GOOD)
    found = ran(asked, engine)
    assert found.verdict.winner is None and "nothing worked" in found.verdict.why
    assert all(record.outcome.kind == "failed" for _, record in found.records) and not found.plain


def test_a_run_that_the_time_limit_ends_is_not_held_against_its_method(tmp_path: Path) -> None:
    class Stuck(Moody):
        chunked = ("--fail", "hang")

    engine = Stuck()
    asked = contest(engine, "chunked", rules=Rules(limit_s=9.0))
    with open_store(tmp_path / "records.sqlite") as store:
        found = ran(asked, engine, store)
        assert store.count() == 0
    assert found.verdict.winner is None and found.cut == 1 and found.records == []
    assert found.search.runs[0][1].error == "the time limit ended it"


def test_a_method_without_a_sign_that_it_worked_is_warned_of() -> None:
    engine = FakeEngine()
    found = ran(contest(engine, "baseline", "prefix", rules=Rules(worth=0)), engine)
    assert any("prefix: the engine gives no sign of prefix_cache" in said for said in found.warnings)


@pytest.mark.parametrize("failures", [1, 9])
def test_answers_to_compare_with_are_asked_for_once_more(
    failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them no method meets a floor, so that one hiccup of the engine would cost the whole tuning."""
    left, asks = [failures], sweeping.reference_answers

    def hiccup(*given: Any) -> tuple[str, ...]:
        left[0] -= 1
        if left[0] >= 0:
            raise Unanswered({"the worker died": 1}, 1)
        return asks(*given)

    monkeypatch.setattr(sweeping, "reference_answers", hiccup)
    engine = Moody()
    asked = contest(engine, "chunked", rules=Rules(quality=0.5, repeats=1))
    found = ran(asked, engine)
    assert (found.verdict.winner is None) is (failures > 1)
    told = [said for said in found.warnings if "did not answer the reference prompts" in said]
    assert bool(told) is (failures > 1) and all("the worker died" in said for said in told)


def test_being_ready_and_running_share_what_time_is_left() -> None:
    now_s = time.monotonic()
    assert Patience().within(300.0) == 300.0
    assert Patience(ends_s=now_s + 50.0).within(300.0) <= 50.0
    assert Patience(ends_s=now_s + 50.0).within(10.0) == 10.0
    assert 0 < Patience(ends_s=now_s - 50.0).within(300.0) < 5.0


def test_an_engine_that_is_not_ready_in_the_time_limit_is_cut() -> None:
    engine = FakeEngine("--slow-start-s", "600")
    found = ran(contest(engine, "continuous", rules=Rules(limit_s=8.0)), engine)
    assert found.cut == 1 and found.verdict.winner is None and found.records == []


def test_no_run_begins_that_would_end_after_the_time_limit() -> None:
    engine = Moody()
    found = ran(contest(engine, "chunked", "baseline", rules=Rules(limit_s=1.0)), engine)
    assert found.search.runs == () and "time" in found.verdict.why


def test_stopping_keeps_what_was_run_and_tells_the_best(tmp_path: Path) -> None:
    engine = Moody()
    asked = contest(engine, "baseline", "chunked", rules=Rules(quality=0.5, worth=0))
    assert threading.current_thread() is threading.main_thread()

    def interrupt(now: Progress) -> None:
        if now.done == 1 and now.words != "done":
            signal.raise_signal(signal.SIGINT)

    with open_store(tmp_path / "records.sqlite") as store:
        found = tuned(asked, store, lambda _: engine, interrupt)
        assert store.count() == 1
    assert found.interrupted and len(found.search.runs) == 1
    assert winner(asked, found).name == found.records[0][0] and found.verdict.why == "it was stopped"


def test_earlier_runs_are_known_by_the_task_that_they_were_of(tmp_path: Path) -> None:
    engine = Moody()
    asked = order(engine, "baseline", "chunked", "prefix", rules=PATIENT)
    layout = lay_out(asked, lambda _: engine, "before")
    made = [record for _, record in sweep(asked, layout, None, lambda _: engine).records]
    one = contest(engine, "baseline", "chunked", "prefix")
    candidates = one.search.candidates
    known = known_of(made, candidates, one.aim, nothing_said, forgive=True)
    good = [each for each in known if each.log_value is not None]
    assert {(each.candidate.task, each.candidate.setting.id, each.candidate.method.id) for each in good} == {
        (c.task, c.setting.id, c.method.id) for c in candidates if c.method.get(PrefixCache) != PrefixCache()
    }
    (failed,) = [each for each in known if each.log_value is None]
    assert failed.candidate.task not in {c.task for c in candidates}, "it may be tried again"
    (held,) = [
        each
        for each in known_of(made, candidates, one.aim, nothing_said, forgive=False)
        if each.log_value is None
    ]
    assert held.candidate.task == candidates[0].task
    again = contest(engine, "baseline", "chunked", known=good)
    found = ran(again, engine)
    assert winner(again, found).name == "chunked" and len(found.records) <= 4


def measured(**metrics: float) -> Record:
    return Record.of(
        {
            "setting": {
                "model": SUBJECT.model.model_dump(exclude_none=True),
                "workload": {},
                "hardware": SUBJECT.hardware.model_dump(exclude_none=True),
            },
            "method": {"engine": "fake"},
            "outcome": {"kind": "measured", "metrics": metrics},
            "provenance": {"source": "metainf"},
        }
    )


@pytest.mark.parametrize(
    ("name", "metrics", "value"),
    [
        ("throughput", {"output_tokens_per_s": 50.0}, 50.0),
        ("ttft", {"ttft_s": 0.5}, 2.0),
        ("latency", {"e2e_s": 4.0}, 0.25),
        ("tpot", {"ttft_s": 0.5}, None),
        ("energy", {"energy_j_per_token": 0.1}, 10.0),
    ],
)
def test_aims(name: str, metrics: dict[str, float], value: float | None) -> None:
    aim: Aim = aim_of(name)
    assert aim.value(measured(**metrics)) == value
    assert value is None or aim.shown(value) == pytest.approx(next(iter(metrics.values())))


def test_sensible_methods_are_what_an_engine_offers() -> None:
    names = sensible(FakeEngine(), weights=True)
    assert names[0] == "baseline" and {"static", "prefix", "lookup", "prefix+lookup"} <= set(names)
    assert not any("chunked" in name or "q8_0" in name for name in names)
    assert "all" not in names, "to this engine it is prefix+lookup, which is there"


def test_tasks_in_words() -> None:
    one = contest(Moody(), "baseline").search.candidates[0]
    assert one.task == task_of(one.setting.workload) == "short, 3 in flight, 6 requests"
    assert traffic(requests=6).name == "short"
