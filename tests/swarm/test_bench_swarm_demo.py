"""What the benchmark of the demonstration writes into its page."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from bench_swarm_demo import BEGIN, END, Round, section

ROOT = Path(__file__).parents[2]
ABOUT = {"cores": 2, "processor": "AMD EPYC", "load": 0.5}


def test_several_runs_are_a_median_and_a_range() -> None:
    took = ((20.6, 0.254), (30.4, 0.3), (19.7, 0.1))
    told = section([Round(took_s, recovery_s, 52, True) for took_s, recovery_s in took], ABOUT)
    assert told == (
        "On 2 cores (AMD EPYC, load 0.5 at the start) the whole command took 21 (20–30) s in 3 runs; the "
        "text went on 0.25 (0.10–0.30) s after the node's death, with 52 tokens calculated again; every text "
        "was the one of a single process."
    )
    assert "took 20 s in one run; the text went on 0.50 s" in section([Round(20.0, 0.5, 52, True)], ABOUT)


def test_a_text_that_differs_is_told() -> None:
    shown = {"recovery_s": 0.5, "replayed_tokens": 60, "same": False, "text": "other words"}
    told = section([Round(20.0, 0.5, 52, True), Round.of(20.0, shown)], ABOUT)
    assert "52 to 60 tokens" in told and "1 of 2 texts were the one of a single process" in told


def test_the_page_has_its_place() -> None:
    page = (ROOT / "docs" / "swarm.md").read_text(encoding="utf-8")
    assert page.count(BEGIN) == 1 and END in page.partition(BEGIN)[2]
