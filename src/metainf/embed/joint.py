"""The joint embedding as one matrix: classical meta-features, one-hot names, language-model vectors.

A matrix is fitted once (its vocabulary is that of the training rows), then laid out for any rows. An
unknown number stays NaN; an unknown name has zeros in all its columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metainf.embed.columns import Columns

Kind = Literal["classical", "onehot", "text", "both"]
NAMES = (
    "engine", "weight_format", "dtype", "kv_format", "attention_backend", "batching", "speculative",
    "memory_mode", "sequence", "attention", "modality", "device_kind", "vendor",
)  # fmt: skip
IDENTITIES = ("model", "device", "workload", "flags")
Embedder = Callable[[Sequence[str]], NDArray[np.floating]]


@dataclass(frozen=True)
class Joint:
    """Fitted columns: numbers by name, and the known values of each name column."""

    kind: Kind
    numbers: tuple[str, ...]
    words: tuple[tuple[str, str], ...]
    embed: Embedder | None = None

    @classmethod
    def fit(cls, columns: Columns, kind: Kind, embed: Embedder | None = None) -> "Joint":
        """Choose columns from training rows. `embed` maps texts to vectors (n, d), for text and both."""
        numbers = tuple(
            name
            for name, values in sorted(columns.items())
            if values.dtype.kind == "f" and len(np.unique(values[np.isfinite(values)])) > 1
        )
        names = NAMES + (IDENTITIES if kind == "onehot" else ())
        words = tuple(
            (name, str(word))
            for name in names
            if name in columns
            for word in np.unique(columns[name])
            if word
        )
        if kind == "onehot":
            load = ("input_tokens", "output_tokens", "concurrency", "batch_size", "num_devices", "tensor")
            numbers = tuple(name for name in load if name in numbers)
        if kind == "text":
            numbers, words = (), ()
        return cls(kind, numbers, words, embed if kind in ("text", "both") else None)

    def matrix(self, columns: Columns, texts: Sequence[Sequence[str]] = ()) -> NDArray[np.float32]:
        """Features (n, d). `texts` are descriptions, one sequence of length n for each embedded part."""
        parts = [np.stack([_log(columns[name]) for name in self.numbers], axis=1)] if self.numbers else []
        if self.words:
            parts.append(np.stack([columns[name] == word for name, word in self.words], axis=1))
        if self.embed is not None:
            parts += [np.asarray(self.embed(part)) for part in texts]
        return np.concatenate(parts, axis=1).astype(np.float32)

    @property
    def feature_names(self) -> list[str]:
        """Names of the numbers and words, in the order of the matrix."""
        return [*self.numbers, *(f"{name}={word}" for name, word in self.words)]


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sign(values) * np.log1p(np.abs(values))
