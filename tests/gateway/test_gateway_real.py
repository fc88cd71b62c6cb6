"""The gateway before llama.cpp itself, asked by OpenAI's own client."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx2
import pytest
from gateway_process import Running, endpoint, fake, gateway

from metainf import api
from metainf.measure.weights import MissingWeights, bundled
from running_process import free_port

openai = pytest.importorskip("openai", reason="needs OpenAI's client")


def client_of(one: Running) -> "openai.OpenAI":
    return openai.OpenAI(base_url=f"{one.url}/v1", api_key="none", max_retries=0)


def test_openais_client_reads_what_the_gateway_says(tmp_path: Path) -> None:
    with fake(tmp_path, "a", "--itl-ms", "2") as a, gateway(tmp_path, [endpoint("a", a.url)]) as one:
        client = client_of(one)
        (model,) = client.models.list().data
        limits = {"metainf": {"max_ttft_s": 5}}
        chat = client.chat.completions.create(
            model=model.id, messages=[{"role": "user", "content": "Hi"}], max_tokens=5, extra_body=limits
        )
        said = chat.choices[0].message.content
        assert said is not None and len(said.split()) == 5 and chat.usage is not None
        stream = client.chat.completions.create(
            model=model.id, messages=[{"role": "user", "content": "Hi"}], max_tokens=5, stream=True
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == said
        with pytest.raises(openai.NotFoundError, match="unknown served model"):
            client.completions.create(model="nobody", prompt="Hi")
        with pytest.raises(openai.BadRequestError, match="max_ttft"):
            client.completions.create(model=model.id, prompt="Hi", extra_headers={"X-MetaInf-Max-TTFT": "1"})


def test_openais_client_hears_of_a_stream_that_breaks(tmp_path: Path) -> None:
    with (
        fake(tmp_path, "a", "--itl-ms", "2", "--fail", "cut") as a,
        gateway(tmp_path, [endpoint("a", a.url)]) as one,
    ):
        stream = client_of(one).chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "Hi"}], max_tokens=8, stream=True
        )
        said: list[str] = []
        with pytest.raises(openai.APIError, match="broke off"):
            said += [chunk.choices[0].delta.content or "" for chunk in stream]


@contextlib.contextmanager
def engine(command: Sequence[str], log: Path, url: str) -> Iterator[None]:
    """llama.cpp behind the host of the house, once it answers."""
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen([sys.executable, "-m", *command], stderr=said, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(f"{url}/health").status_code == 200:
                    break
            assert process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


@pytest.mark.engine
def test_before_llama_cpp_itself(tmp_path: Path) -> None:
    """Real weights, a real engine, a forecast of this machine's kind, and records of what was seen."""
    pytest.importorskip("xllamacpp", reason="needs the extra llamacpp")
    pytest.importorskip("gguf", reason="needs the extra gguf")
    try:
        weights = bundled()
    except MissingWeights as missing:
        pytest.skip(str(missing))
    if len(api.detect()) != 1:
        pytest.skip("this machine has more than one kind of hardware, so `here` names no endpoint's")
    port = free_port()
    command = ["metainf.hosts.llama_cpp", "-m", str(weights), "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    row = endpoint("here", url, hardware="here", engine="llama.cpp") | {"model": "SmolLM2-135M-Instruct"}
    with engine(command, tmp_path / "engine.log", url), gateway(tmp_path, [row]) as one:
        client = client_of(one)
        (model,) = client.models.list().data
        asked = [{"role": "user", "content": "Name three rivers of Europe."}]
        stream = client.chat.completions.create(
            model=model.id, messages=asked, max_tokens=24, temperature=0, stream=True,
            stream_options={"include_usage": True},
        )  # type: ignore[call-overload]  # fmt: skip
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        whole = client.chat.completions.create(model=model.id, messages=asked, max_tokens=24, temperature=0)  # type: ignore[arg-type]
        assert text and whole.choices[0].message.content == text
        assert chunks[-1].usage is not None
        one.stop()
    with api.store(str(tmp_path / "records.sqlite")) as opened:
        streamed, at_once = list(opened.query())
    assert streamed.metrics is not None and streamed.metrics.ttft_s and streamed.metrics.tpot_s
    assert streamed.method.engine == "llama.cpp"
    written = streamed.setting.workload.output_tokens
    assert written is not None and written.mean == chunks[-1].usage.completion_tokens
    assert at_once.metrics is not None and at_once.metrics.e2e_s
