"""Request traces and prompt files -> Workload.

| format     | what is in it |
|------------|---------------|
| azure      | CSV TIMESTAMP, ContextTokens, GeneratedTokens |
| mooncake   | JSON lines timestamp (ms), input_length, output_length, hash_ids (512-token blocks) |
| vidur      | CSV num_prefill_tokens, num_decode_tokens (arrived_at in s) |
| lengths    | CSV with columns such as input_tokens and output_tokens, timestamps in s |
| sharegpt   | JSON list of conversations; token counts only where prompt_len, output_len stand there |
| prompts    | text: one prompt per line (TXT), or JSON lines with prompt / text / question / turns |

A trace without token counts gives no lengths, never guessed ones; its text gives up to eight samples.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from metainf.domain import BadInput, Lengths, Workload
from metainf.importers.sample import Sample, json_values, text_of
from metainf.importers.trace_rows import (
    CONTENT_KEYS,
    INPUT_KEYS,
    OUTPUT_KEYS,
    TIME_KEYS,
    csv_rows,
    find,
    texts,
)

FORMATS = ("azure", "mooncake", "vidur", "lengths", "sharegpt", "prompts")
BLOCK_TOKENS = 512
CONTENT_SAMPLES = 8
CONTENT_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace; None where its row does not say. `blocks` are the hashes of its beginnings, one
    for each 512 tokens; `at_s` has the zero of the trace's own clock."""

    input_tokens: float | None = None
    output_tokens: float | None = None
    at_s: float | None = None
    blocks: tuple[int | str, ...] | None = None
    content: str | None = None


@dataclass
class Requests:
    """Columns of a trace, without the cells that are absent. Times in seconds."""

    inputs: list[float] = field(default_factory=list)
    outputs: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    blocks: list[tuple[int | str, ...]] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    count: int = 0


def read_trace(path: str | Path, name: str | None = None) -> Workload:
    """The workload of a trace: length moments, request rate, inter-arrival CV, prefix share, sample texts.

    Raises BadInput for an empty trace, a file of no known format, and negative, NaN or infinite numbers,
    naming the row.
    """
    path = Path(path)
    requests = _columns(trace_rows(path))
    if requests.inputs and len(requests.inputs) != requests.count:
        raise BadInput(f"{path}: expected input tokens in every row, found {len(requests.inputs)} of them")
    rate, variation = arrivals(requests.times) if len(requests.times) == requests.count else (None, None)
    return Workload(
        name=name or path.stem,
        input_tokens=moments(requests.inputs) if requests.inputs else None,
        output_tokens=moments(requests.outputs) if len(requests.outputs) == requests.count else None,
        request_rate_per_s=rate,
        interarrival_cv=variation,
        num_requests=requests.count,
        prefix_share=prefix_share(requests),
        content=tuple(_spaced(requests.content)) or None,
    )


def moments(tokens: list[float]) -> Lengths:
    """Mean, population standard deviation, skewness, excess kurtosis and percentiles (linear)."""
    values = np.asarray(tokens, dtype=np.float64)
    if not values.size or not np.isfinite(values).all() or (values < 0).any():
        raise BadInput("token counts: expected finite numbers of at least 0")
    mean, std = float(values.mean()), float(values.std())
    skewness = kurtosis = None
    if std > 1e-9 * max(1.0, mean):
        normal = (values - mean) / std
        skewness, kurtosis = float((normal**3).mean()), float((normal**4).mean() - 3.0)
    p50, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
    top = float(values.max())
    return Lengths(
        mean=mean,
        std=std,
        skewness=skewness,
        kurtosis=kurtosis,
        p50=p50,
        p90=p90,
        p99=p99,
        max=top,
    )


def arrivals(times_s: list[float]) -> tuple[float | None, float | None]:
    """Requests per second over the span, and the coefficient of variation of the gaps.

    None where fewer than three requests, or no span, leave nothing to say.
    """
    times = np.sort(np.asarray(times_s, dtype=np.float64))
    if times.size < 3:
        return None, None
    span = float(times[-1] - times[0])
    if span <= 0:
        return None, None
    gaps = np.diff(times)
    return float(times.size / span), float(gaps.std() / gaps.mean())


def prefix_share(requests: Requests) -> float | None:
    """Share of all input tokens in leading blocks that an earlier request already had (infinite cache)."""
    if not requests.blocks or len(requests.blocks) != len(requests.inputs):
        return None
    seen: set[int | str] = set()
    shared = 0.0
    for tokens, blocks in zip(requests.inputs, requests.blocks, strict=True):
        known = 0
        while known < len(blocks) and blocks[known] in seen:
            known += 1
        shared += min(known * BLOCK_TOKENS, tokens)
        seen.update(blocks)
    total = sum(requests.inputs)
    return shared / total if total else None


def trace_rows(path: str | Path) -> list[TraceRow]:
    """The requests of a trace in the order of its rows, holes as None.

    Raises BadInput for an empty trace, a file of no known format, a row with neither input tokens nor a
    prompt, and negative, NaN or infinite numbers, naming the row.
    """
    path = Path(path)
    sample = Sample(path)
    _ = sample.head  # raises for an absent or empty file
    found = []
    for row, values in enumerate(_rows(path, sample)):
        try:
            found.append(_row(values))
        except BadInput as error:
            raise BadInput(f"{path}: row {row}: {error}") from None
    if not found:
        raise BadInput(f"{path}: expected at least one request, found an empty trace")
    return found


def _columns(rows: list[TraceRow]) -> Requests:
    return Requests(
        inputs=[row.input_tokens for row in rows if row.input_tokens is not None],
        outputs=[row.output_tokens for row in rows if row.output_tokens is not None],
        times=[row.at_s for row in rows if row.at_s is not None],
        blocks=[row.blocks for row in rows if row.blocks is not None],
        content=[row.content for row in rows if row.content is not None],
        count=len(rows),
    )


def _rows(path: Path, sample: Sample) -> Iterator[Mapping[str, Any]]:
    if sample.beginning.lstrip()[:1] in ("{", "["):
        for value in json_values(path):
            for one in value if isinstance(value, list) else [value]:
                if not isinstance(one, Mapping):
                    raise BadInput(f"{path}: expected objects, found {one!r:.60}")
                yield one
        return
    header = csv_rows(path)
    if header is not None:
        yield from header
    elif path.suffix.lower() in (".txt", ".text"):
        for line in text_of(path).splitlines():
            if line.strip():
                yield {"prompt": line.strip()}
    else:
        raise BadInput(
            f"{path}: expected a trace ({', '.join(FORMATS)}), found {sample.first_line[:60]!r}; "
            "a CSV needs columns such as input_tokens and output_tokens, a prompt file the ending .txt"
        )


def _row(values: Mapping[str, Any]) -> TraceRow:
    """One request. BadInput naming the field that is wrong."""
    inside, outside = find(values, INPUT_KEYS), find(values, OUTPUT_KEYS)
    content = texts(values, CONTENT_KEYS)
    if inside is None and not content:
        raise BadInput(f"expected input tokens or a prompt, found {', '.join(map(str, values))[:80]}")
    at, at_ms, at_s = find(values, TIME_KEYS), find(values, ("timestamp_ms",)), None
    if at_ms is not None:
        at_s = _tokens("timestamp_ms", at_ms) / 1000
    elif at is not None:
        milliseconds = "timestamp" in values and "input_length" in values  # Mooncake
        at_s = _seconds(at) / (1000.0 if milliseconds else 1.0)
    blocks = values.get("hash_ids")
    return TraceRow(
        input_tokens=None if inside is None else _tokens("input tokens", inside),
        output_tokens=None if outside is None else _tokens("output tokens", outside),
        at_s=at_s,
        blocks=_blocks(blocks) if isinstance(blocks, list) else None,
        content=content[0] if content else None,
    )


def _blocks(values: list[Any]) -> tuple[int | str, ...]:
    for value in values:
        if not isinstance(value, int | str):
            raise BadInput(f"hash_ids: expected numbers or words, found {value!r:.40}")
    return tuple(values)


def _tokens(what: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadInput(f"{what}: expected a number, found {value!r:.40}") from None
    if not np.isfinite(number) or number < 0:
        raise BadInput(f"{what}: expected a finite number of at least 0, found {value!r}")
    return number


def _seconds(value: Any) -> float:
    """Seconds of a number, or of an ISO date and time (fractions longer than microseconds are cut)."""
    try:
        return _tokens("time", value)
    except BadInput:
        if not isinstance(value, str) or ":" not in value:
            raise
    text, _, fraction = value.strip().partition(".")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
    except ValueError:
        raise BadInput(f"time: expected seconds or a date and time, found {value!r:.40}") from None


def _spaced(content: list[str]) -> list[str]:
    """Up to eight texts, evenly spaced over the trace, each cut to 2,000 characters."""
    if len(content) > CONTENT_SAMPLES:
        content = [content[i * len(content) // CONTENT_SAMPLES] for i in range(CONTENT_SAMPLES)]
    return [text[:CONTENT_CHARACTERS] for text in content if text.strip()]
