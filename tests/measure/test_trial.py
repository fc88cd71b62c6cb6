"""One run: what is recorded of a good one, and of every way in which one ends badly."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from measure_fakes import SUBJECT, FakeEngine, order, traffic

from metainf.catalog.detect import cpu_name
from metainf.domain import BadInput, Failed, Measured, MissingExtra, NotSupported, Record
from metainf.engines.evidence import Evidence
from metainf.measure import failures
from metainf.measure.asked import AGREEMENT, agreement, as_asked, asked_workload, paced
from metainf.measure.monitor import Gpus, Observation, oom_kills, rapl_j, watching
from metainf.measure.order import Order, lay_out
from metainf.measure.recipes import recipe
from metainf.measure.serving import Garbage, Patience, Subject, model_at, shown
from metainf.measure.sweep import Seats
from metainf.measure.trial import Answers, Made, Rules, run_trial
from metainf.measure.words import ClosedLoop, Endpoint, OpenLoop, Request, Timing, Traffic, Waves

pytest.importorskip("aiohttp", reason="the extra measure is not installed")
psutil = pytest.importorskip("psutil", reason="the extra measure is not installed")


def made(engine: FakeEngine, asked: Order, plain: Sequence[str] | None = None) -> Made:
    (planned, *_) = lay_out(asked, lambda _: engine, "campaign").runs
    with Seats(lambda _: engine, asked.rules, asked.port) as seats:
        return run_trial(planned.run, lambda: seats.serve(planned), Answers(plain), rules=asked.rules)


def failure(record: Record) -> Failed:
    assert isinstance(record.outcome, Failed)
    return record.outcome


def test_a_good_run_is_recorded_with_its_circumstances() -> None:
    engine = FakeEngine("--itl-ms", "5", evidence=Evidence(version="7.1", max_sequences=3))
    found = made(engine, order(engine, "continuous"))
    record, metrics = found.record, found.record.metrics
    assert isinstance(record.outcome, Measured) and metrics is not None
    assert metrics.output_tokens_per_s and metrics.ttft_s and metrics.tpot_s and metrics.memory_gib
    assert metrics.quality is None, "there is nothing to compare it with"
    assert metrics.power_w is None or metrics.power_w > 0
    work = record.setting.workload
    assert work.concurrency == 3 and work.num_requests == 6
    assert work.input_tokens is not None and work.input_tokens.mean == 8, "as the server counts them"
    assert work.output_tokens is not None and work.output_tokens.max == 5
    assert record.method.engine_version == "7.1"
    told = record.provenance
    assert (
        told.source == "metainf" and told.campaign == "campaign" and (told.location or "").startswith("run:")
    )
    assert told.command == "python -m metainf.testing.model_server --itl-ms 5 --slots 3"
    assert told.tool and told.tool.startswith("metainf ") and told.date and told.date.endswith("Z")
    assert told.conditions is not None and told.conditions.host == cpu_name()
    assert told.conditions.cores and told.conditions.duration_s
    assert len(found.answers) == 1 and len(found.answers[0].split()) == 6


def test_agreement_with_the_plain_method_is_its_quality() -> None:
    engine = FakeEngine()
    plain = made(engine, order(engine, "baseline"))
    assert plain.record.metrics is not None and plain.record.metrics.quality == 1
    changed = made(engine, order(engine, "continuous"), [plain.answers[0][:9] + "elsewhere"])
    metrics = changed.record.metrics
    assert metrics is not None and metrics.quality_metric == AGREEMENT
    assert metrics.quality == pytest.approx(9 / len(plain.answers[0][:9] + "elsewhere"), abs=0.1)


def test_a_method_that_the_engine_denies_is_not_measured() -> None:
    engine = FakeEngine(evidence=Evidence(prefix_cache=False, max_sequences=99))
    record = made(engine, order(engine, "prefix")).record
    assert failure(record).reason == "unsupported"
    assert "prefix_cache was asked on, the engine has it off" in (failure(record).detail or "")


@pytest.mark.parametrize(
    ("words", "reason", "detail"),
    [
        (("--fail", "exit"), "out_of_memory", "cannot allocate memory"),
        (("--fail", "die", "--fail-after", "5"), "out_of_memory", "out of memory while it wrote"),
        (("--fail", "cut", "--fail-after", "4"), "crashed", "requests failed; the first"),
        (("--fail", "garbage", "--fail-after", "4"), "crashed", "requests failed"),
        (("--fail", "html"), "crashed", "requests failed"),
        (("--fail", "error_inside"), "crashed", "the worker died"),
        (("--fail", "unavailable"), "crashed", "no worker is free"),
        (("--fail", "bad_request"), "unsupported", "too long"),
        (("--no-such-flag",), "unsupported", "unrecognized arguments"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_goes_wrong_is_a_failed_record(words: tuple[str, ...], reason: str, detail: str) -> None:
    engine = FakeEngine(*words)
    record = made(engine, order(engine, "continuous")).record
    assert failure(record).reason == reason and detail in (failure(record).detail or "")
    assert record.setting.workload.output_tokens is not None
    assert record.provenance.conditions is not None and record.provenance.command


def test_hanging_ends_in_time() -> None:
    engine = FakeEngine("--fail", "hang", "--fail-after", "4")
    rules = Rules(Patience(ready_s=20, run_s=1.5, grace_s=0.5))
    assert failure(made(engine, order(engine, "continuous", rules=rules)).record).reason in (
        "timed_out",
        "crashed",
    )
    slow = FakeEngine("--slow-start-s", "600")
    rules = Rules(Patience(ready_s=1, run_s=5, grace_s=0.5))
    record = made(slow, order(slow, "continuous", rules=rules)).record
    assert failure(record).reason == "timed_out" and "not ready after 1 s" in (failure(record).detail or "")


def test_questions_that_make_no_sense_raise() -> None:
    engine = FakeEngine()
    with pytest.raises(BadInput, match="port"):
        made(engine, order(engine, "continuous", port=99999))
    big = Subject(SUBJECT.model.model_copy(update={"params_b": 900.0}), SUBJECT.hardware, weights_gib=500.0)
    with pytest.raises(NotSupported, match=r"needs .* GiB .* weights"):
        given: dict[str, Any] = {"methods": [("plain", recipe("baseline", engine))], "traffics": [traffic()]}
        lay_out(Order(big, room_gib=4.0, **given), lambda _: engine, "campaign")
    with pytest.raises(NotSupported, match="static batches wait"):
        timed = Traffic("timed", tuple(Request("x", 1, i / 10) for i in range(4)), OpenLoop())
        lay_out(order(engine, "static-2", traffics=[timed]), lambda _: engine, "campaign")


def test_a_missing_engine_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> tuple[str, ...]:
        raise MissingExtra("running it", "llamacpp")

    monkeypatch.setattr("metainf.measure.serving.runnable", absent)
    engine = FakeEngine()
    with pytest.raises(MissingExtra, match="metainf\\[llamacpp\\]"):
        made(engine, order(engine, "continuous"))


def test_a_server_that_is_none() -> None:
    with pytest.raises(Garbage, match="found nothing"):
        model_at(Endpoint("http://127.0.0.1:9", ""))


def test_the_record_of_a_server_that_is_none_has_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(endpoint: Endpoint) -> str:
        raise Garbage("expected a name of a model, found nothing")

    monkeypatch.setattr("metainf.measure.serving.model_at", nothing)
    engine = FakeEngine()
    found = failure(made(engine, order(engine, "continuous")).record)
    assert found.reason == "crashed" and "found nothing" in (found.detail or "")
    assert "fake model server" in (found.detail or "")


def test_an_engine_that_dies_before_it_names_its_model_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(endpoint: Endpoint) -> str:
        for child in psutil.Process().children(recursive=True):
            if "guard.py" not in " ".join(child.cmdline()):
                child.kill()
        return model_at(endpoint)

    monkeypatch.setattr("metainf.measure.serving.model_at", dies)
    engine = FakeEngine()
    assert "signal 9" in (failure(made(engine, order(engine, "baseline")).record).detail or "")


def test_batching_paces_the_requests() -> None:
    asked, engine = traffic(in_flight=8), FakeEngine()
    assert paced(asked, recipe("baseline", engine)).pacing == ClosedLoop(1)
    assert paced(asked, recipe("static-3", engine)).pacing == Waves(3)
    assert paced(asked, recipe("continuous-3", engine)).pacing == ClosedLoop(8)
    assert asked_workload(asked).concurrency == 8


def test_waiting_to_be_sent_counts() -> None:
    """Four were in flight; one at a time was answered, one second each."""
    timings = [Timing(float(i), i + 1.0, (i + 0.5, i + 1.0)) for i in range(6)]
    sent = [each.sent_s for each in as_asked(timings, traffic(requests=6, in_flight=4))]
    assert sent == [0, 0, 0, 0, 1, 2]
    together = [Timing(0.0, 1.0), Timing(0.0, 2.0), Timing(1.0, 3.0), Timing(2.0, 4.0)]
    assert as_asked(together, traffic(requests=4, in_flight=2)) == together


def test_agreement() -> None:
    assert agreement(["abcd", "xy"], ["abzz", "xy"]) == pytest.approx(0.75)
    assert agreement([], []) is None and agreement(["a"], [""]) is None


@pytest.mark.parametrize(
    ("status", "log", "kills", "reason"),
    [
        (-9, "", 0, "crashed"),
        (-9, "", 1, "out_of_memory"),
        (-9, "", None, "out_of_memory"),
        (1, "torch.OutOfMemoryError: CUDA out of memory", 0, "out_of_memory"),
        (1, "std::bad_alloc", 0, "out_of_memory"),
        (-11, "", 0, "crashed"),
        (2, "error: unrecognized arguments: --x", 0, "unsupported"),
        (
            1,
            "Value error, Total number of attention heads (9) must be divisible by tensor parallel size (2).",
            0,
            "unsupported",
        ),
        (1, "nothing of note", 0, "crashed"),
    ],
)
def test_the_reason_of_an_end(status: int, log: str, kills: int | None, reason: str) -> None:
    assert failures.ended(status, "it ended", log, kills).reason == reason


def test_a_reason_is_looked_for_in_the_last_lines_only() -> None:
    """What an engine says while it starts is not why it ends an hour later."""
    start = "WARNING: pin memory is not supported here\nnote: out of memory is handled by swapping\n"
    later = "".join(f"request {i} done\n" for i in range(60))
    assert failures.ended(1, "it ended", start + later, 0).reason == "crashed"
    assert failures.ended(1, "it ended", later + start, 0).reason == "out_of_memory"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("cannot load /srv/x/models/y.gguf: no such file", "cannot load y.gguf: no such file"),
        ("--model=/mnt/x/y.gguf,'/srv/a b/z.gguf'", "--model=y.gguf,'z.gguf'"),
        ('File "/usr/lib/python3.11/asyncio/run.py", line 3', 'File "run.py", line 3'),
        ("file:///srv/x/y.gguf and ~/x/y.bin", "y.gguf and y.bin"),
        ("in /" + "home/x it is full", "in ~ it is full"),
        (r"cannot read C:\Users\x\y.gguf", "cannot read y.gguf"),
        ("GET http://me:secret@10.0.0.1:80/v1/models", "GET http://10.0.0.1:80/v1/models"),
        ("POST /v1/completions HTTP/1.1, 5 tokens/s", "POST /v1/completions HTTP/1.1, 5 tokens/s"),
    ],
)
def test_folders_and_passwords_stay_out_of_records(said: str, kept: str) -> None:
    assert failures.told("crashed", said, f"first\n\n{said}").detail == f"{kept}\nfirst\n{kept}"


def test_folders_stay_out_of_the_command_of_a_record() -> None:
    words = ["/opt/a b/llama-server", "-m", "/srv/my models/y.gguf", "--mmproj=/srv/x/z.gguf", "-c", "8"]
    assert shown(words) == "llama-server -m y.gguf --mmproj=z.gguf -c 8"


def test_a_long_last_word_fits_a_record() -> None:
    found = failures.told("crashed", "why", "\n".join(["x" * 900] * 50) + "\nthe end")
    assert found.detail is not None and len(found.detail) <= 4000 and found.detail.endswith("the end")


def test_energy_is_told_only_where_it_is_ours(tmp_path: Any) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    for name, text in (("name", "package-0"), ("energy_uj", "5000000"), ("max_energy_range_uj", "9000000")):
        (zone / name).write_text(text)
    assert rapl_j(tmp_path) == {"intel-rapl:0": (5.0, 9.0)} and rapl_j(tmp_path / "none") == {}
    busy = Observation(package_energy_j=7.0, other_cpu_share=0.5)
    assert busy.energy_j(on_gpu=False) is None and busy.conditions(None, False).energy is None
    quiet = Observation(package_energy_j=7.0, other_cpu_share=0.01, gpu_energy_j=3.0)
    assert quiet.energy_j(on_gpu=False) == 7 and quiet.energy_j(on_gpu=True) == 3
    assert "whole processor packages" in (quiet.conditions(None, False).energy or "")


def test_kills_for_want_of_memory_are_counted(tmp_path: Any) -> None:
    (tmp_path / "a").write_text("oom 4\noom_kill 3\n")
    assert oom_kills([tmp_path / "a", tmp_path / "none"]) == 3
    assert oom_kills([tmp_path / "none"]) is None


def test_watching_nothing_of_ours_tells_no_memory() -> None:
    with watching(None) as seen:
        pass
    assert seen.memory_gib is None and seen.other_cpu_share is None and seen.duration_s is not None


class FakeNvml:
    """Two GPUs of 2 and 3 GiB in use, on each half a GiB by process 7."""

    class NVMLError(Exception):
        pass

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return 4000 * handle

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=(handle + 1) << 30)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=7, usedGpuMemory=1 << 29), SimpleNamespace(pid=8, usedGpuMemory=None)]


def test_gpus_tell_energy_and_the_memory_of_our_processes() -> None:
    gpus = Gpus(FakeNvml(), [1, 2])
    assert gpus.energy_j() == 12
    assert gpus.memory_gib({7, 9}) == 1.0
    assert gpus.memory_gib({9}) == 5.0, "the driver knows none of ours"
    assert Gpus(None, []).energy_j() is None and Gpus(None, []).memory_gib({7}) is None
