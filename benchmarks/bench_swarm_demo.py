"""How long `metainf swarm demo` takes as a user starts it, and the node's death in it.

    python benchmarks/bench_swarm_demo.py [--rounds 3] [--write docs/swarm.md]

The packaged weights are unpacked before. Each round is a process of its own, from its start to its end.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import machine

BEGIN, END = "<!-- made by benchmarks/bench_swarm_demo.py -->", "<!-- end of its figures -->"


@dataclass(frozen=True)
class Round:
    """One run of the command: seconds of the whole process, and what it said of itself."""

    took_s: float
    recovery_s: float
    replayed_tokens: int
    same: bool

    @classmethod
    def of(cls, took_s: float, shown: Mapping[str, Any]) -> "Round":
        """From the JSON that the command prints."""
        return cls(took_s, shown["recovery_s"], shown["replayed_tokens"], shown["same"])


def played() -> Round:
    """Run the command once. Raises CalledProcessError."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "metainf", "swarm", "demo", "--json"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Round.of(time.perf_counter() - begun, json.loads(ran.stdout))


def section(rounds: Sequence[Round], about: Mapping[str, Any]) -> str:
    """The figures as a sentence of Markdown."""
    took, recovery = [each.took_s for each in rounds], [each.recovery_s for each in rounds]
    replayed = sorted({each.replayed_tokens for each in rounds})
    tokens = f"{replayed[0]}" if len(replayed) == 1 else f"{replayed[0]} to {replayed[-1]}"
    equal = sum(each.same for each in rounds)
    texts = "every text was" if equal == len(rounds) else f"{equal} of {len(rounds)} texts were"
    runs = "one run" if len(rounds) == 1 else f"{len(rounds)} runs"
    return (
        f"On {about['cores']} cores ({about['processor']}, load {about['load']} at the start) the whole "
        f"command took {_spread(took, 0)} s in {runs}; the text went on {_spread(recovery, 2)} s after the "
        f"node's death, with {tokens} tokens calculated again; {texts} the one of a single process."
    )


def _spread(values: Sequence[float], digits: int) -> str:
    """The median, and the range of several."""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def main() -> None:
    """Play it, print it, write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    from swarm_stages import placed

    from metainf.swarm.compute.weights import packaged

    packaged()
    about = machine()
    words = section([played() for _ in range(asked.rounds)], about)
    print(words)
    if asked.write:
        placed(asked.write, BEGIN, END, words)


if __name__ == "__main__":
    main()
