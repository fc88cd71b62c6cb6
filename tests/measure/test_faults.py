"""Runners and engines are killed at random moments, fifty times in all: finished runs are in the store, and
nothing else is left."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from measure_fakes import FakeEngine, order, traffic

from metainf.measure.monitor import oom_kills
from metainf.measure.sweep import prepare, sweep
from metainf.store import open_store

pytest.importorskip("aiohttp", reason="the extra measure is not installed")
psutil = pytest.importorskip("psutil", reason="the extra measure is not installed")

RUNNER = Path(__file__).with_name("measure_fakes.py")
KILLS = 26
RUNS = 6
MARK = "METAINF_TEST_MARK"


def marked(mark: str) -> list[int]:
    """Processes that this mark was handed down to."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def gone(mark: str) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if not marked(mark):
            return True
        time.sleep(0.05)
    return False


def start(store: Path, mark: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(RUNNER), str(store), "--resume"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, MARK: mark})


def keys(store: Path) -> list[str | None]:
    if not store.exists():
        return []
    with open_store(store) as opened:
        return [record.provenance.location for record in opened.query()][: opened.check()]


def test_a_killed_runner_leaves_its_finished_runs_and_no_process(tmp_path: Path) -> None:
    chance, store, killed, sweeps = random.Random(7), tmp_path / "0.sqlite", 0, 0
    while killed < KILLS:
        mark, before = uuid.uuid4().hex, len(keys(store))
        if before == RUNS:
            sweeps += 1
            store, before = tmp_path / f"{sweeps}.sqlite", 0
        wanted, pause_s, done = chance.randrange(-1, RUNS - before), chance.random() * 0.6, 0
        with start(store, mark) as runner:
            assert runner.stdout is not None
            if wanted < 0:
                time.sleep(pause_s)
            else:
                for line in runner.stdout:
                    if line.startswith("done") and int(line.split()[1]) >= wanted:
                        break
                time.sleep(pause_s / 2)
            runner.kill()
            done = max([int(x.split()[1]) for x in runner.stdout if x.startswith("done")] or [max(wanted, 0)])
        killed += 1
        assert gone(mark), f"orphans after kill {killed}"
        stored = keys(store)
        assert len(set(stored)) == len(stored), "a run was made twice"
        assert before + done <= len(stored) <= before + done + 1, "a finished run is missing"
    mark = uuid.uuid4().hex
    with start(store, mark) as runner:
        assert runner.wait(120) == 0
    assert len(set(keys(store))) == len(keys(store)) == RUNS
    assert gone(mark)


def test_a_killed_engine_is_a_failed_record_and_the_sweep_goes_on(tmp_path: Path) -> None:
    chance, killed, made = random.Random(11), [0], 0
    engine = FakeEngine("--itl-ms", "20")
    kills = KILLS
    with open_store(tmp_path / "records.sqlite") as store:
        while killed[0] < kills:
            traffics = [traffic(name=f"short {place}", requests=4) for place in range(made, made + 9)]
            asked = order(engine, "continuous", traffics=traffics)
            layout = prepare(asked, store, lambda _: engine, f"at-{made}")
            with killer(chance, killed) as strike:
                sweep(asked, layout, store, lambda _: engine, tell=lambda now: strike())
            made += 9
        assert store.count() == store.check() == made
        failed = [r.outcome for r in store.query() if r.outcome.kind == "failed"]
    assert kills // 4 <= len(failed) <= killed[0]
    expected = {"crashed"} if oom_kills() is not None else {"crashed", "out_of_memory"}
    assert {outcome.reason for outcome in failed} <= expected
    assert all("signal 9" in (outcome.detail or "") for outcome in failed)
    assert not engines_below()


def engines_below() -> list[int]:
    """Engines (not their guards) that this process started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        if "metainf.testing.model_server" in words and not any("guard.py" in word for word in words):
            found.append(child.pid)
    return found


class killer:
    """Kills the engine that is there a random moment after each call."""

    def __init__(self, chance: random.Random, killed: list[int]) -> None:
        self.chance, self.killed, self.timers = chance, killed, list[threading.Timer]()

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self.strike

    def __exit__(self, *_: object) -> None:
        for timer in self.timers:
            timer.cancel()
            timer.join()

    def strike(self) -> None:
        timer = threading.Timer(self.chance.random() * 1.0, self.kill)
        self.timers.append(timer)
        timer.start()

    def kill(self) -> None:
        for pid in engines_below():
            try:
                os.kill(pid, signal.SIGKILL)
                self.killed[0] += 1
            except ProcessLookupError:
                continue


def test_interrupting_leaves_finished_runs_and_no_process(tmp_path: Path) -> None:
    store, mark = tmp_path / "records.sqlite", uuid.uuid4().hex
    with start(store, mark) as runner:
        assert runner.stdout is not None
        for line in runner.stdout:
            if line.startswith("done 2"):
                break
        runner.send_signal(signal.SIGINT)
        assert runner.wait(60) != 0
    assert gone(mark)
    assert 2 <= len(keys(store)) <= 3
