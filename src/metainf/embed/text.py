"""Texts to vectors through a content-addressed cache, and the four parts of a setting side by side.

A campaign has few distinct descriptions: each part (model, workload, hardware, method) is embedded on its
own, every distinct text once, and the four vectors are joined.
"""

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from metainf.domain import BadInput, Method, Setting
from metainf.embed.describe import PARTS, paragraphs

Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]


class Encoder(Protocol):
    """What turns texts into vectors: `MiniLM`, `Endpoint`, or one of your own."""

    @property
    def model_id(self) -> str:
        """Name of the model; vectors of one name must be comparable."""

    @property
    def width(self) -> int:
        """Numbers in one vector."""

    def embed(self, texts: Sequence[str]) -> Array:
        """One row for each text, in the order given: float32 (n, width)."""


class TextEmbedding:
    """An encoder with a memory: in the process, and in `folder` where one is given.

    Files in `folder` are `<model>/<hash of model and text>.npy`, written whole or not at all. A file that
    is broken or of another width is ignored and written again, so a folder may be shared by processes.
    """

    def __init__(self, encoder: Encoder, folder: Path | None = None) -> None:
        self._encoder = encoder
        self._folder = folder
        self._memory: dict[str, Array] = {}

    @property
    def width(self) -> int:
        """Numbers in one vector."""
        return self._encoder.width

    def embed(self, texts: Sequence[str]) -> Array:
        """One row for each text, float32 (n, width). The encoder sees each new text once."""
        vectors, index = self.embed_distinct(texts)
        return vectors[index]

    def embed_distinct(self, texts: Sequence[str]) -> tuple[Array, Index]:
        """The d distinct texts as (d, width), in order of first appearance, and for each text its row."""
        if isinstance(texts, str):
            raise BadInput("expected a sequence of texts, found one text: put it in a list")
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        self._fill(list(rows))
        vectors = np.empty((len(rows), self.width), dtype=np.float32)
        for text, row in rows.items():
            vectors[row] = self._memory[text]
        return vectors, np.fromiter((rows[text] for text in texts), dtype=np.intp, count=len(texts))

    def embed_parts(self, told: Sequence[Mapping[str, str]]) -> Array:
        """Paragraphs keyed as in PARTS to float32 (n, 4 × width); a part that is absent is NaN."""
        joined = np.full((len(told), len(PARTS) * self.width), np.nan, dtype=np.float32)
        for place, part in enumerate(PARTS):
            rows = [row for row, parts in enumerate(told) if part in parts]
            columns = slice(place * self.width, (place + 1) * self.width)
            joined[rows, columns] = self.embed([told[row][part] for row in rows])
        return joined

    def embed_settings(self, pairs: Iterable[tuple[Setting, Method | None]]) -> Array:
        """Describe each setting with its method, and embed the parts: float32 (n, 4 × width)."""
        return self.embed_parts([paragraphs(setting, method) for setting, method in pairs])

    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `embed_parts` and `embed_settings`."""
        return tuple(f"text.{part}.{place}" for part in PARTS for place in range(self.width))

    def _fill(self, texts: Sequence[str]) -> None:
        """Bring every text into memory: from disk, else from the encoder."""
        unknown = []
        for text in texts:
            if text in self._memory:
                continue
            stored = self._read(text)
            if stored is None:
                unknown.append(text)
            else:
                self._memory[text] = stored
        if not unknown:
            return
        fresh = np.asarray(self._encoder.embed(unknown), dtype=np.float32)
        if fresh.shape != (len(unknown), self.width) or not np.isfinite(fresh).all():
            raise BadInput(
                f"expected finite vectors of shape {(len(unknown), self.width)} "
                f"from {self._encoder.model_id}, found shape {fresh.shape}"
            )
        for text, vector in zip(unknown, fresh, strict=True):
            self._memory[text] = vector.copy()
            self._write(text, vector)

    def _path(self, text: str) -> Path | None:
        if self._folder is None:
            return None
        model_id = self._encoder.model_id
        try:
            key = f"{model_id}\0{text}".encode()
        except UnicodeEncodeError as error:
            raise BadInput(f"expected a text of valid Unicode, found one that is not: {error}") from None
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", model_id).strip(".") or "model"
        return self._folder / name / f"{hashlib.blake2b(key, digest_size=20).hexdigest()}.npy"

    def _read(self, text: str) -> Array | None:
        path = self._path(text)
        if path is None or not path.is_file():
            return None
        try:
            with path.open("rb") as file:
                vector = np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError):
            return None
        sound = vector.dtype == np.float32 and vector.shape == (self.width,)
        return vector if sound and bool(np.isfinite(vector).all()) else None

    def _write(self, text: str, vector: Array) -> None:
        path = self._path(text)
        if path is None:
            return
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.save(file, vector, allow_pickle=False)
            part.replace(path)
        except OSError as error:
            raise BadInput(
                f"cannot write the embedding cache {self._folder}: {error}; give another"
            ) from None
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
