"""What every record store must do. Inherit `StoreSuite` and give it one fixture, `store_url`."""

import itertools
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metainf.domain import (
    BadInput,
    Device,
    Failed,
    Hardware,
    Measured,
    Method,
    Metrics,
    Model,
    Outcome,
    Provenance,
    Record,
    Setting,
    Workload,
)
from metainf.store import PART_KINDS, Added, Filter, Store, open_store
from metainf.testing.strategies import records

KILLS = 30
FIRST_COMMIT_S = 20.0
SHARED_FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.differing_executors]


def sample(trial: int, source: str = "suite", failed: bool = False) -> Record:
    """A small record; its trial number makes it different from every other one of its source."""
    outcome: Outcome = (
        Failed(reason="out_of_memory") if failed else Measured(metrics=Metrics(ttft_s=0.1, tpot_s=1 / 3))
    )
    return Record(
        setting=Setting(
            model=Model(name=f"model-{trial % 3}"),
            workload=Workload(concurrency=float(1 + trial % 5)),
            hardware=Hardware(device=Device(name=f"gpu-{trial % 2}"), count=1),
        ),
        method=Method(engine=f"engine-{trial % 2}"),
        outcome=outcome,
        provenance=Provenance(
            source=source, campaign=f"campaign-{trial % 4}", date=f"2025-0{1 + trial % 9}-10", trial=trial
        ),
    )


def write_forever(url: str, source: str, ready: Connection, batch: int) -> None:
    """Child: add small batches without end, and tell of each one after its commit."""
    with open_store(url) as store:
        done = 0
        while True:
            store.add((sample(done + i, source) for i in range(batch)), batch=batch)
            done += batch
            ready.send(done)


def write_some(url: str, source: str, count: int) -> None:
    """Child: add `count` records of its own, and a hundred that every child has."""
    with open_store(url) as store:
        store.add((sample(i, source) for i in range(count)), batch=20)
        store.add((sample(i, "common") for i in range(100)), batch=20)


def kill_once(context: ForkServerContext, url: str, round_: int, delay_s: float) -> int:
    """Kill a writer after a while; give the number of records it was told are safe.

    Even rounds count the while from the start of the process, so that opening is hit too; odd ones
    from its first commit, however slow the machine.
    """
    listening, telling = context.Pipe(duplex=False)
    child = context.Process(target=write_forever, args=(url, f"round-{round_}", telling, 1 + round_ % 7))
    child.start()
    telling.close()
    acknowledged = 0
    try:
        if round_ % 2:
            listening.poll(FIRST_COMMIT_S)
        time.sleep(delay_s)
        child.kill()
        while True:
            acknowledged = listening.recv()
    except EOFError:
        return acknowledged
    finally:
        child.kill()
        child.join()


class StoreSuite:
    """The contract of a record store. Every test gets the URL or path of a store that is not there yet."""

    @pytest.fixture
    def store_url(self) -> str:
        """URL or path of an empty place for a store."""
        raise NotImplementedError("inherit StoreSuite and give it a store_url fixture")

    @pytest.fixture
    def store(self, store_url: str) -> Iterator[Store]:
        with open_store(store_url) as store:
            yield store

    @settings(max_examples=25, deadline=None, suppress_health_check=SHARED_FIXTURES)
    @given(batch=st.lists(records(), max_size=6))
    def test_what_is_added_comes_back_under_its_own_id(self, store: Store, batch: list[Record]) -> None:
        before = store.count()
        added = store.add(batch)
        assert added.new + added.known == len(batch)
        assert store.count() == before + added.new
        for record in batch:
            assert store.get(record.id) == record
        assert {record.id for record in batch} <= {record.id for record in store.query()}

    @settings(max_examples=15, deadline=None, suppress_health_check=SHARED_FIXTURES)
    @given(record=records())
    def test_filters_on_its_own_values_find_a_record(self, store: Store, record: Record) -> None:
        store.add([record])
        origin = record.provenance
        where = Filter(
            source=origin.source,
            campaign=origin.campaign,
            since=origin.date,
            until=origin.date,
            model=record.setting.model.name,
            device=record.setting.hardware.device.name,
            engine=record.method.engine,
            status=record.outcome.kind,
        )
        assert record in (found := list(store.query(where)))
        assert store.count(where) == len(found)

    def test_adding_again_changes_nothing(self, store: Store) -> None:
        batch = [sample(i) for i in range(30)]
        assert store.add(batch) == Added(30, 0)
        assert store.add(batch) == Added(0, 30)
        assert store.add([*batch, sample(30), sample(30)]) == Added(1, 31)
        assert list(store.query()) == [*batch, sample(30)]

    def test_the_order_of_adding_does_not_change_the_set(self, store: Store) -> None:
        batch = [sample(i) for i in range(40)]
        shuffled = random.Random(1).sample(batch, len(batch))
        store.add(shuffled[:25], batch=4)
        store.add(shuffled[10:], batch=7)
        assert sorted(r.id for r in store.query(batch=3)) == sorted(r.id for r in batch)

    def test_repeats_with_trial_numbers_stay_apart(self, store: Store) -> None:
        assert store.add([sample(0), sample(60)]) == Added(2, 0)
        assert len(store.parts("model")) == 1

    def test_each_filter_against_plain_python(self, store: Store) -> None:
        batch = [sample(i, source=f"s{i % 3}", failed=i % 4 == 0) for i in range(60)]
        store.add([*batch, Record(**(dict(batch[1]) | {"provenance": Provenance(source="undated")}))])
        dates = {record.id: record.provenance.date or "" for record in batch}
        cases: dict[Filter, Callable[[Record], object]] = {
            Filter(source="s1"): lambda r: r.provenance.source == "s1",
            Filter(model="model-2"): lambda r: r.setting.model.name == "model-2",
            Filter(engine="engine-0"): lambda r: r.method.engine == "engine-0",
            Filter(device="gpu-1"): lambda r: r.setting.hardware.device.name == "gpu-1",
            Filter(status="failed"): lambda r: isinstance(r.outcome, Failed),
            Filter(status="measured", source="s2"): lambda r: r.metrics and r.provenance.source == "s2",
            Filter(campaign="campaign-3"): lambda r: r.provenance.campaign == "campaign-3",
            Filter(since="2025-04-10"): lambda r: dates[r.id] >= "2025-04-10",
            Filter(until="2025-04"): lambda r: dates[r.id] < "2025-05",
            Filter(since="2025-04", until="2025-06-10"): lambda r: "2025-04" < dates[r.id] < "2025-07",
            Filter(model="nobody"): lambda r: False,
        }
        for where, matches in cases.items():
            wanted = [record for record in batch if matches(record)]
            found = [r for r in store.query(where) if r.provenance.source != "undated"]
            assert found == wanted, where
        assert store.count() == 61
        assert store.count(Filter(since="1900")) == 60

    def test_rows_and_parts_together_are_the_records(self, store: Store) -> None:
        batch = [sample(i, failed=i % 5 == 0) for i in range(50)]
        store.add(batch)
        parts = {kind: store.parts(kind) for kind in PART_KINDS}
        rows = [row for page in store.rows(batch=7) for row in page]
        assert [row.id for row in rows] == [record.id for record in batch]
        for row, record in zip(rows, batch, strict=True):
            assert parts["model"][row.model] == record.setting.model
            assert parts["workload"][row.workload] == record.setting.workload
            assert parts["hardware"][row.hardware] == record.setting.hardware
            assert parts["method"][row.method] == record.method
            assert row.outcome == record.outcome.model_dump(mode="json", exclude_none=True)
            assert row.provenance == record.provenance.model_dump(mode="json", exclude_none=True)
        assert [len(found) for found in parts.values()] == [3, 5, 2, 2]

    def test_a_cursor_gives_each_record_once(self, store: Store) -> None:
        store.add([sample(0), sample(1)])
        first = list(store.since(0))
        store.add([sample(1), sample(2)])
        later = list(store.since(first[-1][0]))
        assert [record for _, record in first + later] == [sample(0), sample(1), sample(2)]
        assert list(store.since(later[-1][0])) == []

    def test_reading_while_adding_ends(self, store: Store) -> None:
        store.add([sample(i) for i in range(10)])
        copies = (
            Record(**(dict(r) | {"provenance": Provenance(source="copy")})) for r in store.query(batch=2)
        )
        assert store.add(copies, batch=2).new > 0
        assert store.count(Filter(source="suite")) == 10

    def test_sources_are_summed_up(self, store: Store) -> None:
        assert store.sources() == []
        store.add([sample(i, source=f"s{i % 2}", failed=i % 4 == 0) for i in range(20)])
        first, second = store.sources()
        assert (first.source, first.records, first.failed, first.models, first.devices) == ("s0", 10, 5, 3, 1)
        assert (second.source, second.failed, first.last_date) == ("s1", 0, "2025-09-10")

    def test_nan_and_nul_are_refused_and_nothing_of_their_batch_stays(self, store: Store) -> None:
        nan = float("nan")
        metrics = Metrics.model_construct(ttft_s=nan)
        poisoned = sample(1).model_copy(update={"outcome": Measured.model_construct(metrics=metrics)})
        model = Model.model_construct(name="m", params_b=nan)
        setting = sample(1).setting.model_copy(update={"model": model})
        other = sample(1).model_copy(update={"setting": setting})
        nul = sample(1).model_copy(update={"provenance": Provenance(source="a\x00b")})
        for bad in (poisoned, other, nul):
            with pytest.raises(BadInput):
                store.add([sample(0), bad])
            assert store.count() == 0
        assert store.add([sample(0)]) == Added(1, 0)

    def test_a_broken_iterable_keeps_the_committed_batches(self, store: Store) -> None:
        heard: list[Added] = []

        def broken() -> Iterator[Record]:
            yield from (sample(i) for i in range(25))
            raise OSError("the disk with the logs went away")

        with pytest.raises(OSError, match="went away"):
            store.add(broken(), on_commit=heard.append, batch=10)
        assert heard == [Added(10, 0), Added(10, 0)]
        assert store.count() == 20

    @pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
    def test_export_and_merge_give_the_same_set(
        self, store: Store, store_url: str, tmp_path: Path, suffix: str
    ) -> None:
        batch = [sample(i, failed=i % 3 == 0) for i in range(45)]
        store.add(batch)
        whole, half = tmp_path / f"whole{suffix}", tmp_path / f"half{suffix}"
        assert store.export(whole) == 45
        assert store.export(half, Filter(status="failed")) == 15
        with open_store(tmp_path / "copy.sqlite") as copy:
            assert copy.merge(half) == Added(15, 0)
            assert copy.merge(whole) == Added(30, 15)
            assert copy.merge(store) == copy.merge(store_url) == Added(0, 45)
            assert sorted(r.id for r in copy.query()) == sorted(r.id for r in batch)
            assert store.merge(copy) == Added(0, 45)
            assert copy.check() == store.check() == 45

    def test_a_second_handle_sees_what_the_first_added(self, store: Store, store_url: str) -> None:
        with open_store(store_url, create=False) as other:
            store.add([sample(0)])
            assert list(other.query()) == [sample(0)]
            assert other.add([sample(0), sample(1)]) == Added(1, 1)
        assert store.count() == 2

    def test_two_processes_write_at_once(self, store_url: str) -> None:
        context = multiprocessing.get_context("spawn")
        children = [context.Process(target=write_some, args=(store_url, name, 200)) for name in ("a", "b")]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0, 0]
        with open_store(store_url, create=False) as store:
            kept = {one.source: one.records for one in store.sources()}
            assert kept == {"a": 200, "b": 200, "common": 100}
            cursors = [cursor for cursor, _ in store.since(0)]
            assert all(early < late for early, late in itertools.pairwise(cursors))
            assert store.check() == 500

    def test_a_killed_writer_loses_nothing_it_was_told_is_safe(self, store_url: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, "metainf.store.store", "psycopg"])
        rng = random.Random(7)
        promised = {n: kill_once(context, store_url, n, rng.uniform(0, 0.25)) for n in range(KILLS)}
        with open_store(store_url) as store:
            kept = {one.source: one.records for one in store.sources()}
            assert store.check() == sum(kept.values())
            assert store.add([sample(0)]) == Added(1, 0)
        for round_, acknowledged in promised.items():
            found = kept.get(f"round-{round_}", 0)
            assert found >= acknowledged
            assert found % (1 + round_ % 7) == 0, "a half-written batch shows"
        assert all(promised[round_] for round_ in range(1, KILLS, 2)), "an odd round never committed"
