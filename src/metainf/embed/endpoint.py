"""Vectors from any endpoint that speaks OpenAI's embeddings call (vLLM, llama.cpp, TEI, Ollama, OpenAI).

Schema: POST {url}/embeddings {"model", "input": [...]} -> {"data": [{"index", "embedding": [...]}]}
(https://platform.openai.com/docs/api-reference/embeddings).
"""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from metainf.domain import BadInput, MetaInfError

Array = npt.NDArray[np.float32]

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
_WORTH_RETRYING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class _Busy(Exception):
    """An answer (or none) that may be better the next time; `wait_s` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: it would carry the key to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


@dataclass(frozen=True)
class Endpoint:
    """An encoder behind a URL. The caller reads the key (if any) and passes the `sleep` to wait with.

    `url` is the base, such as http://localhost:8000/v1. `timeout_s` bounds each wait for the network;
    each batch of texts is tried `attempts` times, waiting 0.5 s, 1 s, 2 s ... or what Retry-After asks.
    """

    url: str
    model: str
    sleep: Callable[[float], None]
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 30.0
    attempts: int = 4
    batch_size: int = 64

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise BadInput(f"expected an http(s) URL of an embeddings endpoint, found {self.url!r}")
        if self.attempts < 1 or self.batch_size < 1 or not self.timeout_s > 0:
            raise BadInput("attempts and batch_size must be at least 1, and timeout_s above 0")

    @property
    def model_id(self) -> str:
        """Host and model: two servers may call different models by one name."""
        return f"{urllib.parse.urlsplit(self.url).hostname}-{self.model}"

    @cached_property
    def width(self) -> int:
        """Numbers in one vector, asked of the endpoint once."""
        return len(self._batch(["width"])[0])

    def embed(self, texts: Sequence[str]) -> Array:
        """One row for each text, in the order given: float32 (n, width).

        Raises BadInput where the endpoint refuses the request or answers in another schema, MetaInfError
        where it cannot be reached in `attempts` tries.
        """
        rows = [row for batch in self._batches(texts) for row in self._batch(batch)]
        widths = {len(row) for row in rows} or {self.width}
        if len(widths) > 1:
            raise BadInput(f"expected vectors of one width from {self._target}, found {sorted(widths)}")
        return np.array(rows, dtype=np.float32).reshape(len(rows), widths.pop())

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        for start in range(0, len(texts), self.batch_size):
            yield list(texts[start : start + self.batch_size])

    @property
    def _target(self) -> str:
        base = self.url.rstrip("/")
        return base if base.endswith("/embeddings") else f"{base}/embeddings"

    def _batch(self, texts: list[str]) -> list[list[float]]:
        wait_s = FIRST_WAIT_S
        for attempt in range(1, self.attempts + 1):
            try:
                return self._parse(self._post(texts), len(texts))
            except _Busy as busy:
                if attempt == self.attempts:
                    raise MetaInfError(
                        f"no embeddings from {self._target} in {attempt} attempts: {busy}; "
                        "check that it runs and is reachable"
                    ) from None
                self.sleep(min(wait_s if busy.wait_s is None else busy.wait_s, LONGEST_WAIT_S))
                wait_s *= 2
        raise AssertionError("unreachable: attempts is at least 1")

    def _post(self, texts: list[str]) -> bytes:
        body = json.dumps({"model": self.model, "input": texts, "encoding_format": "float"}).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self._target, data=body, headers=headers, method="POST")
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            with opener.open(request, timeout=self.timeout_s) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise _Busy(str(getattr(error, "reason", None) or error or type(error).__name__)) from None

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        with error:
            said = error.read(400).decode("utf-8", "replace").strip()
        if error.code in _WORTH_RETRYING:
            return _Busy(f"HTTP {error.code} {said}".strip(), _seconds(error.headers.get("Retry-After")))
        hints = {
            401: "check the key",
            403: "check the key's rights",
            404: f"check the path of the URL and the model name {self.model!r}",
        }
        hint = "it redirects: give the final URL" if 300 <= error.code < 400 else hints.get(error.code)
        return BadInput(f"{self._target} answered HTTP {error.code} {said}: {hint or 'check the request'}")

    def _parse(self, body: bytes, expected: int) -> list[list[float]]:
        try:
            items = sorted(json.loads(body)["data"], key=lambda item: item["index"])
            places = [item["index"] for item in items]
            rows = [[float(number) for number in item["embedding"]] for item in items]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadInput(
                f'expected {{"data": [{{"index", "embedding"}}]}} from {self._target}, found {body[:80]!r}'
            ) from None
        if places != list(range(expected)):
            raise BadInput(
                f"expected {expected} embeddings from {self._target}, found {len(rows)}: {places[:8]}"
            )
        if not all(rows) or not all(np.isfinite(row).all() for row in rows):
            raise BadInput(
                f"expected finite numbers from {self._target}, found an empty or non-finite vector"
            )
        return rows


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, would need a clock and is passed over."""
    return (
        float(header)
        if header is not None and header.strip().isascii() and header.strip().isdigit()
        else None
    )
