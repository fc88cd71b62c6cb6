"""What the fake model server says: its words, and its metrics under vLLM's names."""

from collections import Counter
from typing import Any, Literal

Fail = Literal[
    "unavailable",  # HTTP 503 with a message
    "bad_request",  # HTTP 400 with a message
    "no_extras",  # HTTP 422 to `ignore_eos` and `stream_options`
    "no_usage",  # a good stream without token counts
    "hangs_up",  # a good stream, then the connection closes unannounced
    "garbage",  # an event stream that holds no JSON
    "html",  # a page instead of a stream
    "error_inside",  # a stream that turns into an error
    "unfinished",  # a stream that ends early, without finish_reason and [DONE]
    "cut",  # the connection breaks in the middle
    "stall",  # nothing comes after the middle
    "hang",  # nothing comes at all
    "die",  # the process ends in the middle of a stream
]
VERSION = "0.0-fake"
BODY = {"id": "fake", "object": "text_completion", "model": "fake"}
BLOCK_WORDS = 16
WORDS = (
    *("the", "old", "river", "runs", "slow", "past", "green", "fields", "and"),
    *("a", "small", "town", "where", "people", "wait", "for", "rain"),
)

_METRICS = (
    ("num_requests_running", "gauge", "running"),
    ("num_requests_waiting", "gauge", "waiting"),
    ("prompt_tokens_total", "counter", "prompt"),
    ("generation_tokens_total", "counter", "generated"),
    ("request_success_total", "counter", "done"),
)
_CACHE = (
    ("prefix_cache_queries_total", "counter", "prompt"),
    ("prefix_cache_hits_total", "counter", "hits"),
)


def usage_of(read: int, written: int, fresh: int | None) -> dict[str, Any]:
    """OpenAI's usage object; with a prefix cache also the words that it held, all but the `fresh` ones."""
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    cached = {} if fresh is None else {"prompt_tokens_details": {"cached_tokens": read - fresh}}
    return usage | cached


def metrics_text(counts: Counter[str], prefix_cache: bool) -> str:
    """Prometheus text."""
    lines = [
        "# HELP fake:server a fake model server, not vLLM",
        "# TYPE fake:server gauge",
        "fake:server 1.0",
    ]
    counts = counts | Counter(waiting=counts["unanswered"] - counts["running"])
    for name, kind, key in _METRICS + (_CACHE if prefix_cache else ()):
        family = f"vllm:{name.removesuffix('_total')}"
        lines += [f"# HELP {family} fake", f"# TYPE {family} {kind}"]
        lines.append(f'vllm:{name}{{model_name="fake"}} {float(counts[key])}')
    return "\n".join(lines) + "\n"
