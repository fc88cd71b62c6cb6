"""A long benchmark can be stopped, and goes on where it was; results of other code are made anew."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from kept import Kept, TimeUp, mark


def test_what_was_made_is_not_made_again(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> list[float]:
        made.append(1)
        return [0.5, float("nan")]

    path = tmp_path / "kept.jsonl"
    first = Kept(path, "a").get(("curve", "x", 1), make)
    again = Kept(path, "a").get(("curve", "x", 1), make)
    assert first[0] == again[0] == 0.5 and again[1] != again[1] and len(made) == 1
    Kept(path, "a").get(("curve", "x", 2), make)
    Kept(path, "another code").get(("curve", "x", 1), make)
    assert len(made) == 3 and len(path.read_text().splitlines()) == 3


def test_it_ends_in_time_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    Kept(path, "a").get(("one",), lambda: 1)
    late = Kept(path, "a", limit_s=0)
    assert late.get(("one",), lambda: 2) == 1
    with pytest.raises(TimeUp, match="run it again"):
        late.get(("two",), lambda: 2)


def test_the_mark_tells_states_of_the_code_apart() -> None:
    assert mark(["benchmarks/kept.py"]) == mark(["benchmarks/kept.py"]) != mark(["benchmarks/planning.py"])
