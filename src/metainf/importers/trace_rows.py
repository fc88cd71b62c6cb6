"""What the columns of trace files are called."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metainf.importers.sample import text_of

INPUT_KEYS = (
    *("contexttokens", "input_length", "num_prefill_tokens", "input_tokens", "prompt_tokens"),
    *("input_len", "prompt_len", "prefill_tokens", "request_tokens", "prompt_length", "in_tokens"),
)
OUTPUT_KEYS = (
    *("generatedtokens", "output_length", "num_decode_tokens", "output_tokens", "completion_tokens"),
    *("output_len", "decode_tokens", "response_tokens", "generation_tokens", "out_tokens"),
)
TIME_KEYS = ("timestamp", "arrived_at", "arrival_time", "time_s", "arrival_s", "time")
CONTENT_KEYS = ("prompt", "text", "question", "caption", "instruction", "turns", "conversations", "messages")


def find(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The first cell whose column is one of `names`, without regard to case; None for an absent one."""
    lower = {str(key).strip().lower(): value for key, value in values.items() if key is not None}
    return next((lower[name] for name in names if name in lower and lower[name] is not None), None)


def texts(values: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Prompt texts of a row: a string, a list of turns, or ShareGPT-like messages (the user's)."""
    found = find(values, names)
    if isinstance(found, str):
        return [found] if found.strip() else []
    out = []
    for turn in found if isinstance(found, list) else []:
        if isinstance(turn, str):
            out.append(turn)
        elif isinstance(turn, Mapping) and turn.get("from", turn.get("role")) in ("human", "user", None):
            out.append(str(turn.get("value", turn.get("content", ""))))
    return [text for text in out if text.strip()]


def csv_rows(path: Path) -> Iterator[Mapping[str, Any]] | None:
    """Rows of a CSV or TSV whose header names tokens or a prompt; None when it has no such header."""
    lines = text_of(path).splitlines()
    tab = "\t" in lines[0]
    header = [cell.strip().strip('"').lower() for cell in lines[0].split("\t" if tab else ",")]
    if not set(header) & {*INPUT_KEYS, *CONTENT_KEYS} or (len(header) == 1 and path.suffix == ".txt"):
        return None
    if tab:
        return csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.DictReader(lines)
