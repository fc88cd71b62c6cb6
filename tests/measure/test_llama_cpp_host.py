"""llama.cpp itself, started with the words of a launch: each technique shows in what the engine says."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from metainf.domain import (
    AttentionBackend,
    Batching,
    ChunkedPrefill,
    Device,
    Hardware,
    KvQuantization,
    Lengths,
    Method,
    Model,
    PrefixCache,
    Speculative,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.engines import engine
from metainf.engines.evidence import Evidence, Reading, contradictions, unproven
from metainf.engines.llama_cpp import LlamaCpp
from metainf.measure.recipes import recipe
from metainf.measure.serving import serving_engine
from metainf.measure.weights import MissingWeights, bundled, draft_of, in_format, located
from running_process import free_port

pytest.importorskip("xllamacpp", reason="needs the extra llamacpp")
pytest.importorskip("gguf", reason="needs the extra gguf")
pytestmark = pytest.mark.engine

CPU = Hardware(device=Device(name="cpu", kind="cpu"), count=1)
SHORT = Workload(input_tokens=Lengths(mean=60, max=200), output_tokens=Lengths(mean=16, max=56))
OFF = PrefixCache(enabled=False)
HOURS = "The museum opens at nine in the morning and closes at five in the evening, except on Sundays."
COPY = f"<|im_start|>user\nRepeat word for word: {HOURS}<|im_end|>\n<|im_start|>assistant\n{HOURS[:40]}"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    try:
        return bundled()
    except MissingWeights as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def small(smollm2: Path, cache: Path) -> Path:
    """The first six layers of SmolLM2: nonsense, but fast."""
    return draft_of(smollm2, 6, cache)


@dataclass
class Served:
    """A running engine, its method, and the file that holds its log."""

    found: LlamaCpp
    method: Method
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return str(answer.read().decode())

    def post(self, path: str, **body: Any) -> str:
        data = json.dumps({"temperature": 0, "ignore_eos": True} | body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())

    def complete(self, prompt: str, tokens: int) -> dict[str, Any]:
        return dict(json.loads(self.post("/v1/completions", prompt=prompt, max_tokens=tokens)))

    def evidence(
        self, prompts: list[tuple[str, int]], at_once: int = 1, first: list[tuple[str, int]] | None = None
    ) -> Evidence:
        """What the engine shows of these completions; those that come `first` run alone, one by one."""
        before = self.get("/metrics")
        for prompt, tokens in first or []:
            self.complete(prompt, tokens)
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda it: self.complete(*it), prompts))
        after = self.get("/metrics")
        return self.found.evidence(Reading(self.log.read_text(errors="replace"), before, after))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def host(*words: str) -> list[str]:
    return [sys.executable, "-m", "metainf.hosts.llama_cpp", *words]


@contextmanager
def serving(folder: Path, file: Path, cache: Path, *techniques: Technique) -> Iterator[Served]:
    found = engine("llama.cpp")
    assert isinstance(found, LlamaCpp)
    asked = Method(engine="llama.cpp", techniques=techniques)
    model, method = located(Model(name="SmolLM2", source=str(file)), asked, cache)
    launch = found.launch(model, method, CPU, SHORT)
    assert launch.argv[0] == "llama-server"
    port, log = free_port(), folder / "engine.log"
    words = (*launch.argv[1:], *found.address("127.0.0.1", port), "-t", "1", "--no-warmup")
    with log.open("wb") as out:
        process = subprocess.Popen(host(*words), stdout=out, stderr=out)
    served = Served(found, asked, process, f"http://127.0.0.1:{port}", log)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                if json.loads(served.get(found.health))["status"] == "ok":
                    break
            except (OSError, urllib.error.HTTPError):
                pass
            assert process.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.05)
        yield served
    finally:
        process.kill()
        process.wait()


def test_one_at_a_time_answers_streams_counts_and_stops(tmp_path: Path, smollm2: Path, cache: Path) -> None:
    plain = (Batching(mode="none"), OFF, AttentionBackend(name="off"))
    with serving(tmp_path, smollm2, cache, *plain) as served:
        seen = served.evidence([(HOURS, 2)] * 3, at_once=3)
        assert seen.max_sequences == 1 and seen.peak_running == 1 and seen.mean_running == 1
        assert seen.prefix_hit_tokens == 0 and (seen.prompt_tokens or 0) > 40
        assert seen.speculative == "none" and seen.drafted_tokens == 0
        assert seen.weight_format == "Q4_1" and seen.kv_format == "f16" and seen.attention == "none"
        assert seen.version and seen.version.startswith("20")
        assert contradictions(served.method, seen) == () and unproven(served.method, seen) == ()

        assert json.loads(served.get("/v1/models"))["data"]
        stream = served.post(
            "/v1/completions",
            prompt="The capital of France is",
            max_tokens=4,
            stream=True,
            stream_options={"include_usage": True},
        )
        events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
        text = "".join(choice["text"] for event in events for choice in event["choices"])
        assert "Paris" in text and len(events) >= 4 and "data: [DONE]" in stream
        assert events[-1]["usage"]["completion_tokens"] == 4
        assert events[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        said = json.loads(
            served.post("/v1/chat/completions", messages=[{"role": "user", "content": "Hi"}], max_tokens=3)
        )
        assert said["choices"][0]["message"]["content"] and said["usage"]["completion_tokens"] == 3
        assert served.stop() == 0


def test_everything_at_once_shows(tmp_path: Path, smollm2: Path, cache: Path) -> None:
    every = (
        Batching(mode="continuous", max_sequences=4),
        ChunkedPrefill(tokens=64),
        PrefixCache(tier="device"),
        Speculative(algorithm="ngram", tokens=8),
        KvQuantization(format="q8_0"),
        AttentionBackend(name="flash"),
        WeightQuantization(format="Q4_1"),
    )
    with serving(tmp_path, smollm2, cache, *every) as served:
        served.complete(COPY, 1)
        # the copy is written alone first: of six at once, others may take the slot that knows its beginning
        together = [(COPY, 20), (HOURS, 3), ("a", 3), ("b", 3), ("c", 3), ("d", 3)]
        seen = served.evidence(together, at_once=6, first=[(COPY, 20)])
        assert seen.max_sequences == 4 and seen.peak_running == 4 and seen.continuous is True
        assert seen.step_tokens == 64 and seen.attention == "flash" and seen.kv_format == "q8_0"
        assert seen.speculative == "ngram" and (seen.drafted_tokens or 0) > 0
        assert (seen.prefix_hit_tokens or 0) > 30 and 0 < (seen.hit_rate or 0) < 1
        assert contradictions(served.method, seen) == () and unproven(served.method, seen) == ()
        served.complete(COPY, 1)
        answer = served.complete(COPY, 20)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
        assert answer["timings"]["draft_n"] >= answer["timings"]["draft_n_accepted"]
        elsewhere = Method(engine="llama.cpp", techniques=(Batching(max_sequences=8), OFF))
        assert len(contradictions(elsewhere, seen)) == 4  # slots, cache, speculation, cache format


def test_a_static_batch_is_waited_for_and_weights_are_made(tmp_path: Path, small: Path, cache: Path) -> None:
    batch = (
        Batching(mode="static", max_sequences=2),
        ChunkedPrefill(tokens=512),
        WeightQuantization(format="Q8_0"),
        OFF,
    )
    with serving(tmp_path, small, cache, *batch) as served:
        lengths = (3, 6, 9, 12, 15, 18)  # no two end together, so some request has to wait
        seen = served.evidence([(f"{n} sheep", tokens) for n, tokens in enumerate(lengths)], at_once=6)
        assert seen.max_sequences == 2 and seen.peak_running == 2 and seen.continuous is False
        assert seen.step_tokens == 512 and seen.weight_format == "Q8_0" and seen.prefix_hit_tokens == 0
        assert contradictions(served.method, seen) == () and unproven(served.method, seen) == ()


def test_a_draft_of_its_own_first_layers_drafts(tmp_path: Path, small: Path, cache: Path) -> None:
    drafted = Speculative(algorithm="draft", tokens=3, draft_model="first-2-layers")
    with serving(tmp_path, small, cache, Batching(mode="none"), drafted) as served:
        seen = served.evidence([(COPY, 12)])
        assert seen.speculative == "draft" and (seen.drafted_tokens or 0) > 0
        assert seen.accepted_tokens is not None and seen.weight_format == "Q4_1"
        assert contradictions(served.method, seen) == () and unproven(served.method, seen) == ()


def test_the_same_model_in_fewer_bits_is_a_good_draft(tmp_path: Path, small: Path, cache: Path) -> None:
    """As the recipe `draft:Q8_0` names it, or its file: most of what it offers is taken."""
    words = serving_engine(engine("llama.cpp"))
    drafted, file = (
        recipe(f"draft:{name}", words).get(Speculative) for name in ("Q8_0", in_format(small, "Q8_0", cache))
    )
    assert drafted is not None and file is not None
    whole = Model(name="SmolLM2", source=str(small))
    named = [
        located(whole, Method(engine="llama.cpp", techniques=(one,)), cache)[1] for one in (drafted, file)
    ]
    assert named[0] == named[1]
    assert drafted is not None
    with serving(tmp_path, small, cache, Batching(mode="none"), OFF, drafted) as served:
        seen = served.evidence([(COPY, 24), (HOURS, 24)])
        assert seen.speculative == "draft" and (seen.drafted_tokens or 0) > 10
        assert (seen.acceptance or 0) > 0.5
        assert contradictions(served.method, seen) == () and unproven(served.method, seen) == ()


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("-m", "x.gguf", "--cach-prompt"), 2, "--cache-prompt"),
        (("-m", "x.gguf", "-np", "many"), 2, "-np does not take 'many'"),
        (("-m", "x.gguf", "-np", "0"), 2, "one or more"),
        (("-m", "x.gguf", "-ctk", "q9_9"), 2, "q8_0"),
        (("-m", "x.gguf", "--spec-type", "ngram-mode"), 2, "ngram-mod"),
        (("-m", "x.gguf", "-c"), 2, "expected a value after -c"),
        (("-c", "256"), 2, "expected a GGUF file"),
        (("-m", "absent.gguf"), 3, "cannot read absent.gguf: No such file"),
    ],
)
def test_bad_words_are_refused_with_a_reason(
    words: tuple[str, ...], code: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from metainf.hosts.llama_cpp import main

    assert main(words) == code
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("llama.cpp host: ") and reason in said


def test_a_broken_file_is_a_reason_not_a_trace(tmp_path: Path, small: Path) -> None:
    cut, foreign = tmp_path / "cut.gguf", tmp_path / "foreign.gguf"
    cut.write_bytes(small.read_bytes()[:4_000_000])
    foreign.write_bytes(b"PK\x03\x04 something else")
    for path, reason in ((cut, "data is not within the file bounds"), (foreign, "no GGUF file")):
        log = tmp_path / "log"
        with log.open("wb") as out:
            assert (
                subprocess.run(host("-m", str(path), "--port", "0"), stderr=out, timeout=60).returncode == 3
            )
        lines = log.read_text().splitlines()
        assert reason in lines[-1] and not any("Traceback" in line for line in lines)


def test_it_stops_while_it_loads(tmp_path: Path, smollm2: Path) -> None:
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen(host("-m", str(smollm2), "--port", str(free_port())), stderr=out)
    while "loading model" not in (tmp_path / "log").read_text():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(20) in (0, -signal.SIGTERM)
