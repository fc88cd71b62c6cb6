"""A real gateway and fake model servers for tests: each its own process on a free port."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx2

from running_process import Running

START_S = 60.0
AT = re.compile(r"(?:listens at|on) (https?://[^\s]+)")
MODEL = "Llama-3.1-8B-Instruct"


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, **environment: str) -> Iterator[Running]:
    """A process that says where it listens; killed at the end."""
    with log.open("a", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=errors, text=True,
            env={**os.environ, "METAINF_OFFLINE": "1", **environment}, start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    found = next((at for line in process.stdout if (at := AT.search(line))), None)
    assert found is not None, log.read_text(encoding="utf-8")[-3000:]
    one = Running(process, found[1], log)
    try:
        yield one
    finally:
        one.kill()


@contextlib.contextmanager
def fake(folder: Path, name: str, *options: str, port: int = 0) -> Iterator[Running]:
    """A fake model server (`metainf.testing.model_server`): words by the clock, no model."""
    command = ["metainf.testing.model_server", "--port", str(port), *options]
    with running(command, folder / f"{name}.log") as one:
        yield one


def endpoint(name: str, url: str, **more: object) -> dict[str, object]:
    """A table of the file, without hardware: nothing is forecast."""
    return {"name": name, "url": url, "model": MODEL, "served_as": "fake", **more}


def write_endpoints(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """The file of endpoints."""
    tables = [
        "[[endpoint]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in row.items())
        for row in rows
    ]
    path.write_text("\n".join(tables), encoding="utf-8")
    return path


@contextlib.contextmanager
def gateway(
    folder: Path, rows: Sequence[Mapping[str, object]], *options: str, **environment: str
) -> Iterator[Running]:
    """A gateway before these endpoints, ready to answer; its store lies in the folder."""
    file = write_endpoints(folder / "endpoints.toml", rows)
    command = ["metainf", "gateway", "--endpoints", str(file), "--port", "0", "--explore", "0"]
    command += ["--store", str(folder / "records.sqlite"), "--probe-every", "0.2s", *options]
    with running(command, folder / "gateway.log", **environment) as one:
        _wait(one)
        yield one


def _wait(one: Running) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{one.url}/ready").status_code == 200:
                return
        assert one.process.poll() is None, one.log.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.05)
    raise AssertionError(f"not ready after {START_S:g} s: {one.log.read_text(encoding='utf-8')[-3000:]}")


def question(**more: object) -> dict[str, object]:
    """A chat of eight tokens."""
    asked: dict[str, object] = {"model": MODEL, "max_tokens": 8}
    return asked | {"messages": [{"role": "user", "content": "Tell me about rivers."}]} | more


def ask(url: str, headers: Mapping[str, str] | None = None, **more: object) -> httpx2.Response:
    """One chat, answered whole."""
    return httpx2.post(f"{url}/v1/chat/completions", json=question(**more), headers=headers, timeout=60)


def events(text: str) -> list[str]:
    """The data of an event stream."""
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def words(text: str) -> str:
    """What a stream of a chat says, joined."""
    said = [json.loads(event) for event in events(text) if event != "[DONE]"]
    deltas = [choice["delta"] for event in said for choice in event.get("choices", [])]
    return "".join(delta.get("content") or "" for delta in deltas)
