"""What an engine never ran gets the chance that such things had when they were first tried."""

import numpy as np
import pytest

from metainf.learn import untried


def columns(*pairs: tuple[str, str]) -> dict[str, np.ndarray]:
    return {
        "engine": np.array([engine for engine, _ in pairs]),
        "speculative": np.array([algorithm for _, algorithm in pairs]),
    }


class Tried:
    """Runs, and whether each worked: all that the fit looks at."""

    columns = columns(("vllm", "ngram"), ("vllm", "ngram"), ("vllm", "mtp"), ("sglang", "mtp"), ("vllm", ""))
    ok = np.array([False, True, False, True, True])


def test_the_share_counts_pairs_that_ever_ran() -> None:
    told = untried.fit(Tried())["speculative"]  # type: ignore[arg-type]
    assert told["tried"] == ["sglang mtp", "vllm mtp", "vllm ngram"]
    assert told["share"] == pytest.approx((2 + 1) / (3 + 2))


def test_only_what_was_never_tried_is_doubted() -> None:
    known = untried.fit(Tried())  # type: ignore[arg-type]
    asked = columns(("vllm", "ngram"), ("sglang", "ngram"), ("sglang", ""), ("new", "mtp"))
    assert untried.p_works(asked, known).tolist() == pytest.approx([1, 0.6, 1, 0.6])
    told = untried.told(asked, known)
    assert told[0] == told[2] == ()
    assert told[1] == ("no run known of sglang with speculative ngram: 60% of such pairs ran when tried",)


def test_a_predictor_that_tells_nothing_doubts_nothing() -> None:
    assert untried.p_works(columns(("a", "b")), {}).tolist() == [1]
