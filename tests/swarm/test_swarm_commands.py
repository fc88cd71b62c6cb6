"""generate, serve and status against nodes at a real NATS server; MetaInf's own load before the endpoint."""

import asyncio
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography", "nats", "aiohttp", "psutil"):
    pytest.importorskip(name, reason="needs the extra swarm")
openai = pytest.importorskip("openai", reason="needs OpenAI's client")

from small_swarm import small_model  # noqa: E402

from metainf.api import swarming  # noqa: E402
from metainf.api.ledger import deposit, summary  # noqa: E402
from metainf.cli.app import app  # noqa: E402
from metainf.domain import BadInput, MetaInfError, MissingExtra  # noqa: E402
from metainf.swarm.host.nats import program, started  # noqa: E402
from metainf.swarm.host.running import Told, serve  # noqa: E402
from metainf.swarm.ledger.evidence import Evidence  # noqa: E402
from metainf.swarm.net.hiring import NotPaid  # noqa: E402
from metainf.swarm.trust.identity import kept  # noqa: E402
from metainf.swarm.words import Span  # noqa: E402

pytestmark = pytest.mark.engine
TOKENS = 24


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        program()
    except MissingExtra as error:
        pytest.skip(str(error))
    made = started(tmp_path_factory.mktemp("nats"))
    yield made.url
    made.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"), positions=8192)


class Nodes:
    """Nodes of a model in a thread of this process, which announce themselves at the URL."""

    def __init__(self, folder: Path, url: str, spans: list[tuple[int, int]], **terms: Any) -> None:
        self.told = [
            Told(checkpoint=str(folder), join=url, span=Span(start=start, end=end), grace_s=5.0, **terms)
            for start, end in spans
        ]
        self.url, self.stops = url, [asyncio.Event() for _ in spans]
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> "Nodes":
        self.thread.start()
        self.running = [
            asyncio.run_coroutine_threadsafe(serve(told, lambda _: None, stop), self.loop)
            for told, stop in zip(self.told, self.stops, strict=True)
        ]
        self.until(lambda state: sum(len(each.nodes) for each in state.models) == len(self.told))
        return self

    def until(self, true: Callable[[swarming.SwarmState], bool]) -> None:
        for _ in range(200):
            if true(asyncio.run(swarming.status(self.url, swarming.Demand()))):
                return
            time.sleep(0.1)
        raise AssertionError("it did not come to be")

    def stop(self, at: int) -> None:
        self.loop.call_soon_threadsafe(self.stops[at].set)
        self.running[at].result(60)

    def __exit__(self, *_: object) -> None:
        for at in range(len(self.stops)):
            self.stop(at)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


def run(*arguments: str, said: str | None = None) -> Any:
    return CliRunner().invoke(app, ["swarm", *arguments], input=said)


class Endpoint:
    """`metainf swarm serve` as a process."""

    def __init__(self, log: Path, *told: str) -> None:
        self.log = log.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "metainf", "swarm", "serve", "--port", "0", *told],
            stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, "METAINF_SWARM_API_KEY": "sesame"},
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), log.read_text()
        self.url = f"http{'s' if '--tls-key' in told else ''}://{line.split()[-1]}"

    def client(self, authority: str | None = None) -> Any:
        verify = True if authority is None else ssl.create_default_context(cafile=authority)
        asking = openai.DefaultHttpxClient(verify=verify)
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="sesame", max_retries=0, http_client=asking)

    def told_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        try:
            return self.process.wait(40)
        finally:
            self.process.kill()
            self.log.close()


def test_texts_and_states(url: str, folder: Path, tmp_path: Path) -> None:
    joined = ("--join", url, "--model", str(folder))
    with Nodes(folder, url, [(0, 2), (2, 4), (0, 4)]) as nodes:
        ran = run("generate", *joined, "--prompt", "Grüße", "-n", str(TOKENS), "--route")
        assert ran.exit_code == 0, (ran.output, ran.exception)
        assert "route ed-" in ran.stderr and "no recovery" in ran.stderr
        assert f"{TOKENS} tokens, " in ran.stderr
        told = json.loads(run("generate", *joined, "-n", str(TOKENS), "--json", said="Grüße").stdout)
        assert ran.stdout == told["text"] + "\n"
        assert told["output_tokens"] == TOKENS and told["finished"] == "length" and len(told["routes"]) == 1
        without_asyncio(url, folder, told["text"])
        (tmp_path / "asked").write_text("Grüße", encoding="utf-8")
        drawn = ("-f", str(tmp_path / "asked"), "--temperature", "1", "--seed", "5", "-n", "20", "--json")
        found = [json.loads(run("generate", *joined, *drawn).stdout) for _ in range(2)]
        assert found[0]["text"] == found[1]["text"] != told["text"] and found[0]["seed"] == 5
        whole(url, folder)
        nodes.stop(1)
        nodes.stop(2)
        ran = run("status", "--join", url)
        assert ran.exit_code == 1 and "missing [2, 4)" in ran.stdout


def without_asyncio(url: str, folder: Path, expected: str) -> None:
    with swarming.Connected(url, str(folder)) as swarm:
        ask = swarm.asked("Grüße", max_tokens=TOKENS)
        assert swarm.generate(ask).text == expected
        assert "".join(piece.text for piece in swarm.stream(ask)) == expected
        for _ in swarm.stream(ask):
            break
        with pytest.raises(BadInput, match="at most 8192 tokens"):
            swarm.generate(swarm.asked("a", max_tokens=9000))
        with pytest.raises(BadInput, match="at most 8192 tokens"):
            next(swarm.stream(swarm.asked("a", max_tokens=9000)))


def whole(url: str, folder: Path) -> None:
    ran = run("status", "--join", url)
    assert ran.exit_code == 0 and "4 blocks, 3 nodes, float32" in ran.stdout
    assert "copies  2222" in ran.stdout
    told = json.loads(run("status", "--join", url, "--model", str(folder), "--json").stdout)
    (model,) = told["models"]
    assert told["complete"] and model["copies"] == [2, 2, 2, 2] and model["route"]["expected_ms"] > 0
    assert all(each["rtt_ms"] < 1000 for each in model["nodes"])
    assert run("status", "--join", url, "--model", "b2:00").exit_code == 1
    top = run("top", "--join", url, "--once", "--by", "slow")
    assert top.exit_code == 0 and "3 nodes, 1 of 1 models whole" in top.stdout and "[0, 2)" in top.stdout
    assert len(json.loads(run("top", "--join", url, "--json").stdout)["state"]["models"]) == 1


def test_metainfs_own_load_before_the_endpoint(
    url: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And SIGTERM while a text is written: it is written to its end."""
    monkeypatch.setenv("METAINF_STORE", str(tmp_path / "records.sqlite"))
    with Nodes(folder, url, [(0, 2), (2, 4)]):
        endpoint = Endpoint(tmp_path / "serve.log", "--join", url, "--model", str(folder))
        try:
            asked = ["measure", "--url", endpoint.url, "--model", "SmolLM2-135M-Instruct", "--batch", "2"]
            more = ["--requests", "4", "--repeats", "1", "--api-key", "sesame", "--json"]
            ran = CliRunner().invoke(app, [*asked, *more])
            assert ran.exit_code == 0, (ran.output, ran.exception)
            (line,) = json.loads(ran.stdout)["lines"]
            assert line["output_tokens_per_s"] > 0
            with endpoint.client() as client:
                terms: Any = {"model": folder.name, "prompt": "a", "extra_body": {"ignore_eos": True}}
                whole = client.completions.create(**terms, max_tokens=150).choices[0].text
                stream = iter(client.completions.create(**terms, max_tokens=150, stream=True))
                pieces = [next(stream).choices[0].text]
                endpoint.told_to_stop()
                pieces += [chunk.choices[0].text for chunk in stream]
                assert "".join(pieces) == whole
        except BaseException:
            endpoint.process.kill()
            raise
        assert endpoint.ended() == 0, (tmp_path / "serve.log").read_text()


def test_texts_that_are_paid_for(url: str, folder: Path, tmp_path: Path) -> None:
    """By `generate` and behind `serve`, with evidence that `verify` checks; too low a price is refused."""
    payer, operator, ledger = tmp_path / "payer.key", tmp_path / "operator.key", tmp_path / "ledger.sqlite"
    deposit(ledger, operator, kept(payer).node, 10**9, "bank 1")
    paying = ("--pay-from", str(payer), "--ledger", str(ledger))
    asked = ("generate", "--join", url, "--model", str(folder), "--prompt", "Grüße", "-n", "8", *paying)
    evidence = tmp_path / "evidence.json"
    terms: dict[str, Any] = {"paid": True, "least_nanousd_per_pass": 3, "ledger": str(ledger)}
    with Nodes(folder, url, [(0, 2), (2, 4)], **terms):
        ran = run(*asked, "--price", "2")
        assert isinstance(ran.exception, NotPaid) and "expected at least 3 nanousd" in str(ran.exception)
        ran = run(*asked, "--price", "3", "--evidence", str(evidence))
        assert ran.exit_code == 0, (ran.output, ran.exception)
        verified = json.loads(run("verify", str(evidence), "--json").stdout)
        assert f"order {verified['transaction']}" in ran.stderr
        assert verified["payer"] == kept(payer).node and len(verified["shares"]) == 2
        assert verified["paid_nanousd"] == verified["tokens"] * 4 * 3 > 0
        served(url, folder, tmp_path, *paying, "--price", "3")
    found = summary(ledger, kept(operator).node)
    assert (found.open_orders, found.settled_orders) == (1, 2)
    assert sum(found.balances.values()) + found.held == 10**9


def pair(folder: Path) -> tuple[str, str]:
    """A certificate for this machine that is its own authority, and its key."""
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def served(url: str, folder: Path, files: Path, *paying: str) -> None:
    certificate, key = pair(files)
    endpoint = Endpoint(
        files / "paid.log", "--join", url, "--model", str(folder), *paying,
        "--evidence", str(files / "shown"),
        "--tls-certificate", certificate, "--tls-key", key,
    )  # fmt: skip
    try:
        with endpoint.client(certificate) as client:
            raw = client.completions.with_raw_response.create(model=folder.name, prompt="a", max_tokens=5)
            transaction = raw.headers["X-Metainf-Transaction"]
            own = json.loads(raw.text)["metainf"]
        where = f"{endpoint.url}/v1/evidence/{transaction}"
        asked = urllib.request.Request(where, headers={"Authorization": "Bearer sesame"})
        context = ssl.create_default_context(cafile=certificate)
        with urllib.request.urlopen(asked, context=context, timeout=20) as answer:
            shown = answer.read().decode()
    finally:
        endpoint.told_to_stop()
        assert endpoint.ended() == 0, (files / "paid.log").read_text()
    assert own["transaction"] == transaction and Evidence.of(own["evidence"]) == Evidence.parse(shown)
    (files / "shown.json").write_text(shown, encoding="utf-8")
    (files / "text").write_text(raw.parse().choices[0].text, encoding="utf-8", newline="")
    words = ("verify", str(files / "shown.json"), "--text", str(files / "text"), "--model", str(folder))
    found = json.loads(run(*words, "--json").stdout)
    assert (found["transaction"], found["text"], len(found["output"])) == (transaction, "whole", 5)
    (files / "text").write_text("another", encoding="utf-8")
    ran = run(*words)
    assert ran.exit_code == 1 and "ANOTHER ONE" in ran.stdout
    assert (files / "shown" / f"{transaction.removeprefix('sha256:')}.json").is_file()


def test_https_before_the_queue_and_a_word_where_nats_is_spoken_to_in_the_open(
    url: str, tmp_path: Path
) -> None:
    certificate, key = pair(tmp_path)
    log, far = tmp_path / "serve.log", url.replace("127.0.0.1", "0.0.0.0")
    endpoint = Endpoint(log, "--queue", far, "--tls-certificate", certificate, "--tls-key", key)
    try:
        assert endpoint.url.startswith("https://")
        with endpoint.client(certificate) as client:
            assert list(client.models.list()) == []
        with pytest.raises(OSError):
            urllib.request.urlopen(endpoint.url.replace("https", "http") + "/health", timeout=20)
    finally:
        endpoint.told_to_stop()
        assert endpoint.ended() == 0, log.read_text()
    assert "warning: NATS at 0.0.0.0 is spoken to without TLS" in log.read_text()


@pytest.mark.parametrize("command", ["generate -p a", "work --queue nats://10.0.0.1"])
def test_nats_in_the_open_is_warned_of_before_it_is_joined(folder: Path, command: str) -> None:
    ran = run(*command.split(), "--join", "nats://0.0.0.0:9", "--model", str(folder))
    assert isinstance(ran.exception, MetaInfError) and "0.0.0.0:9" in str(ran.exception)
    assert ran.stderr.startswith("warning: NATS at 0.0.0.0"), ran.stderr


def test_what_is_refused_before_anything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: str, said: str | None = None) -> str:
        ran = run(*arguments, said=said)
        assert isinstance(ran.exception, MetaInfError), (ran.output, ran.exception)
        return str(ran.exception)

    nobody = ("--join", "nats://127.0.0.1:9", "--model", str(tmp_path))
    assert "--prompt or --file, found both" in refused(
        "generate", *nobody, "-p", "a", "-f", str(tmp_path / "b")
    )
    assert "cannot read" in refused("generate", *nobody, "-f", str(tmp_path / "none"))
    assert "nothing but space" in refused("generate", *nobody, said=" \n")
    ledger = ("--ledger", str(tmp_path / "ledger.sqlite"))
    assert "expected --pay-from with --ledger" in refused("generate", *nobody, "-p", "a", *ledger)
    key = ("--pay-from", str(tmp_path / "payer.key"))
    assert "expected a ledger in" in refused("serve", *nobody, *key, *ledger)
    assert "127.0.0.1:9" in refused("generate", *nobody, "-p", "a")
    assert "127.0.0.1:9" in refused("status", "--join", "nats://127.0.0.1:9")
    assert "found 'no-such-model'" in refused(
        "generate", "-j", "nats://127.0.0.1:9", "-m", "no-such-model", "-p", "a"
    )
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    with pytest.raises(BadInput, match="found none"):
        from metainf.cli.swarming import _question

        _question(None, None)
