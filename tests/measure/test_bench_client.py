"""The comparison of two clients: ratios within rounds, their bounds, and what the page says of the bar."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from bench_client import page, summed, verdict


def rounds(*ratios: float) -> list[dict[str, float]]:
    """A server that doubles its speed on the way: the ratio within a round is what counts."""
    cores = {"ours_cores": 0.004, "theirs_cores": 0.03}
    return [
        {"ours": ratio * 100 * (1 + n), "theirs": 100.0 * (1 + n)} | cores for n, ratio in enumerate(ratios)
    ]


def test_ratios_are_taken_within_a_round() -> None:
    told = summed(rounds(1.01, 0.99, 1.01, 0.99))
    assert told["ratio"] == pytest.approx(1.0, abs=1e-3)
    assert told["low"] < 0.99 < told["ratio"] < told["high"] < 1.03
    # Student's t with 3 degrees of freedom, 3.182, times the standard error of the logarithms
    assert told["high"] / told["ratio"] == pytest.approx(2.718281828 ** (3.182 * 0.01155 / 2), rel=1e-3)


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ((0.999, 1.001, 1.0, 1.0), "met"),
        ((0.95, 0.951, 0.95, 0.949), "missed"),
        ((0.9, 1.1, 0.95, 1.0), "not told apart"),
    ],
)
def test_the_bar_needs_the_whole_interval(ratios: tuple[float, ...], words: str) -> None:
    assert verdict(summed(rounds(*ratios))) == words


def test_the_page_holds_each_server() -> None:
    machine = {"processor": "a CPU", "cores": 2, "memory_gib": 8, "system": "Linux", "python": "3.11"}
    told = {
        "machine": machine, "date": "2026-01-01", "version": "0.32.0", "requests": 48, "in_flight": 16,
        "rounds": {"vllm": rounds(1.0, 1.001, 0.999), "llama.cpp": rounds(0.9, 0.901, 0.9)},
    }  # fmt: skip
    text = page(told)
    assert "| vllm | 200 | 200 | 1.000 |" in text and text.count("| met | 0.4% | 3.0% |") == 1
    assert "| llama.cpp |" in text and text.count("| missed |") == 1
    assert "3 rounds count" in text and "a CPU, 2 cores" in text
