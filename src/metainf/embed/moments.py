"""Classical meta-features of a workload (paper, section 4.2.1): moments of its lengths, and its content.

NaN stands for what is not known. Content features are shares (0 to 1) that bear on techniques: text that
repeats itself favours n-gram speculation (prompt lookup; Saxena 2023), requests that begin alike favour
prefix caching, code and digits are guessed well or ill by draft models.
"""

import math
import re
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from metainf.domain import Lengths, Workload

NAN = math.nan
NGRAM = 4
"""Words in a run that counts as copied. Prompt lookup matches 2 to 4 tokens; four words are stricter."""

SAMPLE_CHARACTERS = 16_384
"""Each text is read up to here: compression and repetition grow with length, so the length is bounded."""

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_IDEOGRAPH}]|[^\W{_IDEOGRAPH}]+|[^\w\s]")
_CODE = re.compile(
    r"[;{}]\s*$"
    r"|^\s*(def|class|if|elif|else|for|while|try|except|with|fn|func|function|public|private|static)\b.*[:({,]\s*$"
    r"|^\s*(import|from)\s+[\w.]+(\s*$|\s+(import|as)\s)"
    r"|^\s+return\b|^\s*#include"
    r"|^\s*[\w.\[\]]+\s*[-+*/|:]?=\s*\S|^\s*[\w.]+\(.*\)\s*$"
    r"|^\s*(//|/\*|</?\w[^>]*>)"
)

_LENGTH_FEATURES: dict[str, Callable[[Lengths], float]] = {
    "log_mean": lambda lengths: math.log1p(lengths.mean),
    "cv": lambda lengths: _ratio(lengths.std, lengths.mean),
    "skewness": lambda lengths: _known(lengths.skewness),
    "kurtosis": lambda lengths: _known(lengths.kurtosis),
    "p90_over_p50": lambda lengths: _ratio(lengths.p90, lengths.p50),
    "p99_over_p50": lambda lengths: _ratio(lengths.p99, lengths.p50),
    "max_over_mean": lambda lengths: _ratio(lengths.max, lengths.mean),
}
_CONTENT_FEATURES: dict[str, Callable[[str], float]] = {
    "copied": lambda text: copied_share(text),
    "repeated": lambda text: repeated_share(text),
    "code": lambda text: code_share(text),
    "digits": lambda text: sum(character.isdigit() for character in text) / len(text),
    "non_ascii": lambda text: sum(not character.isascii() for character in text) / len(text),
    "compression": lambda text: compression_ratio(text),
}


def columns() -> tuple[str, ...]:
    """Names of all features, in the order of `moments`."""
    lengths = [f"{side}.{name}" for side in ("input", "output") for name in _LENGTH_FEATURES]
    content = [f"content.{name}" for name in (*_CONTENT_FEATURES, "shared_start")]
    return (*lengths, "log_input_over_output", "prefix_share", "interarrival_cv", *content)


def moments(workload: Workload) -> dict[str, float]:
    """Every feature by name; NaN where the workload does not say."""
    prompt, answer = workload.input_tokens, workload.output_tokens
    row = {}
    for side, lengths in (("input", prompt), ("output", answer)):
        for name, feature in _LENGTH_FEATURES.items():
            row[f"{side}.{name}"] = NAN if lengths is None else feature(lengths)
    row["log_input_over_output"] = row["input.log_mean"] - row["output.log_mean"]
    row["prefix_share"] = _known(workload.prefix_share)
    row["interarrival_cv"] = _known(workload.interarrival_cv)
    return row | {
        f"content.{name}": value for name, value in content_features(workload.content or ()).items()
    }


def embed(workloads: Sequence[Workload]) -> npt.NDArray[np.float64]:
    """One row for each workload, in the order of `columns`: float64 (n, 24)."""
    rows = [list(moments(workload).values()) for workload in workloads]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(columns()))


def content_features(texts: Sequence[str]) -> dict[str, float]:
    """Means over the texts that are not blank (and long enough); `shared_start` compares them."""
    kept = [text[:SAMPLE_CHARACTERS] for text in texts if text.strip()]
    row = {name: _mean([feature(text) for text in kept]) for name, feature in _CONTENT_FEATURES.items()}
    return row | {"shared_start": shared_start(kept)}


def copied_share(text: str) -> float:
    """Share of the second half's word 4-grams that stand in the first half; NaN under 16 words."""
    words = _WORD.findall(text)
    if len(words) < 4 * NGRAM:
        return NAN
    middle = len(words) // 2
    known = set(_ngrams(words[:middle]))
    later = _ngrams(words[middle:])
    return sum(run in known for run in later) / len(later)


def repeated_share(text: str) -> float:
    """Share of word 4-grams that stood earlier in the text; NaN under 4 words."""
    runs = _ngrams(_WORD.findall(text))
    return 1 - len(set(runs)) / len(runs) if runs else NAN


def code_share(text: str) -> float:
    """Share of the non-blank lines that look like program code or markup."""
    lines = [line for line in text.splitlines() if line.strip()]
    return sum(bool(_CODE.search(line)) for line in lines) / len(lines) if lines else 0.0


def compression_ratio(text: str) -> float:
    """Compressed over raw size in UTF-8 (zlib level 6). Short texts can exceed 1 by the header."""
    raw = text.encode("utf-8", "surrogatepass")
    return len(zlib.compress(raw, 6)) / len(raw)


def shared_start(texts: Sequence[str]) -> float:
    """Mean over all pairs of texts: words of the common beginning over words of the shorter one.

    NaN for fewer than two texts.
    """
    words = [_WORD.findall(text) for text in texts]
    shares = [
        _common_start(first, second) / max(1, min(len(first), len(second)))
        for place, first in enumerate(words)
        for second in words[place + 1 :]
    ]
    return _mean(shares)


def _common_start(first: Sequence[str], second: Sequence[str]) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)),
    )


def _ngrams(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)]


def _mean(values: Sequence[float]) -> float:
    """Mean of the values that are known, NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else NAN


def _known(value: float | None) -> float:
    return NAN if value is None else float(value)


def _ratio(above: float | None, below: float | None) -> float:
    """NaN where either is not known or the lower one is 0."""
    return NAN if above is None or not below else above / below
