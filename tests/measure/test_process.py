"""An engine as a process: ready or told why not, and gone whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metainf.domain import BadInput, MissingExtra, NotSupported
from metainf.measure.process import (
    Command,
    EngineEnded,
    EngineProcess,
    NotReady,
    answers,
    free_port,
    read_ends,
)
from metainf.measure.programs import Machine, runnable

pytest.importorskip("aiohttp", reason="the extra measure is not installed")
psutil = pytest.importorskip("psutil", reason="the extra measure is not installed")

SERVER = (sys.executable, "-m", "metainf.testing.model_server")


def address(host: str, port: int) -> tuple[str, ...]:
    return "--host", host, "--port", str(port)


def command(*more: str, **given: object) -> Command:
    return Command([*SERVER, *more], address, **{"grace_s": 1.0, "ready_within_s": 30.0, **given})  # type: ignore[arg-type]


def alive(pids: list[int]) -> list[int]:
    """Those that still run, after a moment in which they may end."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        left = [pid for pid in pids if _runs(pid)]
        if not left:
            return []
        time.sleep(0.05)
    return left


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def tree(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def test_it_is_ready_when_entered_and_gone_when_left() -> None:
    with EngineProcess(command()) as engine:
        assert answers(engine.port, "/health") and engine.poll() is None
        assert "fake model server" in engine.log()
        pids = tree(engine.pid)
        assert len(pids) >= 2
    assert alive(pids) == []


def test_a_slow_start_is_waited_for() -> None:
    with EngineProcess(command("--slow-start-s", "0.7")) as engine:
        assert answers(engine.port, "/health")


def test_one_that_is_never_ready_is_given_up_and_ended() -> None:
    engine = EngineProcess(command("--slow-start-s", "600", ready_within_s=1.0))
    with pytest.raises(NotReady, match="not ready after 1 s"), engine:
        pass
    assert engine.poll() is None and engine.log() == ""


def test_an_end_before_it_is_ready_is_told_with_its_last_words() -> None:
    with (
        pytest.raises(EngineEnded, match="exit status 3") as caught,
        EngineProcess(command("--fail", "exit")),
    ):
        pass
    assert caught.value.status == 3 and "cannot allocate memory" in caught.value.log


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(EngineEnded, match="127") as caught, EngineProcess(Command(["/no/such"], address)):
        pass
    assert "/no/such" in caught.value.log


def test_a_stubborn_engine_is_killed() -> None:
    with EngineProcess(command("--stubborn", grace_s=0.3)) as engine:
        pids = tree(engine.pid)
    assert alive(pids) == []


def test_a_killed_engine_is_noticed() -> None:
    with EngineProcess(command()) as engine:
        os.kill(tree(engine.pid)[1], signal.SIGKILL)
        assert alive([engine.pid]) == []
        with pytest.raises(EngineEnded, match="signal 9"):
            engine.check()


def test_a_killed_guard_takes_the_engine_along() -> None:
    with EngineProcess(command()) as engine:
        pids = tree(engine.pid)
        os.kill(engine.pid, signal.SIGKILL)
        assert alive(pids) == []


def test_children_in_a_session_of_their_own_are_ended_too(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import subprocess, sys, metainf.testing.model_server as server\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print('child', child.pid, flush=True)\n"
        "server.main(sys.argv[1:])\n"
    )
    with EngineProcess(Command([sys.executable, str(script)], address, grace_s=0.5)) as engine:
        child = int(engine.log().split("child ")[1].split()[0])
        assert _runs(child)
    assert alive([child]) == []


def test_a_port_that_was_asked_for_and_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"port {port} is in use"), EngineProcess(command(port=port)):
            pass


def test_another_port_is_taken_where_a_free_one_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        offered = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr("metainf.measure.process.free_port", lambda: next(offered))
        monkeypatch.setattr("metainf.measure.process.answers", _only_ours(taken.getsockname()[1]))
        with EngineProcess(command()) as engine:
            assert engine.port != taken.getsockname()[1]


def _only_ours(foreign: int):  # type: ignore[no-untyped-def]
    return lambda port, path, within_s=2.0: port != foreign and answers(port, path, within_s)


def test_files_stand_in_its_folder(tmp_path: Path) -> None:
    script = "import sys; print(open('options.json').read(), flush=True); sys.exit(4)"
    given = Command([sys.executable, "-c", script], address, files={"options.json": "{the options}"})
    with pytest.raises(EngineEnded) as caught, EngineProcess(given):
        pass
    assert "{the options}" in caught.value.log


def test_a_long_log_keeps_its_ends(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("first\n" + "x" * 100_000 + "\nlast\n")
    text = read_ends(path, 1000)
    assert text.startswith("first") and text.endswith("last\n") and "left out" in text and len(text) < 1100
    assert read_ends(tmp_path / "none", 10) == ""
    path.write_text("before\nafter\n" + "y" * 2000 + "\nend\n")
    assert read_ends(path, 3000, since=7) == path.read_text()[7:]
    cut = read_ends(path, 100, since=7)
    assert cut.startswith("after") and cut.endswith("end\n") and "left out" in cut and len(cut) < 200
    assert read_ends(path, 100, since=path.stat().st_size) == ""


def test_a_dead_runner_leaves_nothing(tmp_path: Path) -> None:
    script = tmp_path / "runner.py"
    script.write_text(
        "import sys, time\n"
        "from metainf.measure.process import *\n"
        f"server = {list(SERVER)!r}\n"
        "def address(host, port): return '--host', host, '--port', str(port)\n"
        "with EngineProcess(Command(server, address, grace_s=1)) as engine:\n"
        "    print(engine.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as runner:
        assert runner.stdout is not None
        pids = tree(int(runner.stdout.readline()))
        runner.kill()
    assert len(pids) >= 2 and alive(pids) == []
    assert list(tmp_path.glob("metainf-*")) == []


NOTHING = Machine(lambda _: None, lambda _: False, {}, "/py")


def test_programs() -> None:
    found = Machine(lambda name: f"/bin/{name}", lambda _: True, {}, "/py")
    assert runnable(["llama-server", "-m", "x"], found) == ("/bin/llama-server", "-m", "x")
    assert runnable(["python", "-m", "metainf.hosts.openvino", "x"], found)[:2] == ("/py", "-m")
    hosted = Machine(lambda _: None, lambda name: name == "xllamacpp", {}, "/py")
    assert runnable(["llama-server", "-m", "x"], hosted) == (
        "/py",
        "-m",
        "metainf.hosts.llama_cpp",
        "-m",
        "x",
    )
    named = Machine(lambda name: name, lambda _: False, {"METAINF_VLLM": "/venv/bin/python -m vllm"}, "/py")
    assert runnable(["vllm", "serve"], named) == ("/venv/bin/python", "-m", "vllm", "serve")


@pytest.mark.parametrize(
    ("argv", "error", "words"),
    [
        (["llama-server"], MissingExtra, "metainf\\[llamacpp\\]"),
        (["python", "-m", "metainf.hosts.openvino"], MissingExtra, "metainf\\[openvino\\]"),
        (["vllm", "serve"], NotSupported, "pip install vllm"),
        (["other"], NotSupported, "expected the program other"),
    ],
)
def test_a_missing_program_is_told_with_what_installs_it(argv: list[str], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        runnable(argv, NOTHING)
    with pytest.raises(NotSupported, match="from the environment"):
        runnable(["vllm"], Machine(lambda _: None, lambda _: False, {"METAINF_VLLM": "/gone"}, "/py"))
