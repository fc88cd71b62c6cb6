"""How much work a request is, by its words alone: pure."""

import json
from collections.abc import Mapping
from typing import Any

from metainf.hosts.asked import DEFAULT_TOKENS

CHAT_TOKENS = 512
"""What a chat gets that names no length; completions get OpenAI's 16."""
READ = 0.1
"""A token of the prompt against one that is written: many are read in one step."""
BYTES = 4
"""Of a token of text, on average."""
MOST_TOKENS = 10**6


def sized(read: float, written: float) -> float:
    """Size of a request that reads and writes so many tokens, in tokens that are written."""
    return max(1.0, READ * read + written)


USUAL = sized(64, 128)
"""What a request is taken for where nothing is known of requests."""


def size_of(body: Mapping[str, Any]) -> float:
    """The size of OpenAI's request by the length of its prompt and the most that it may write. What is no
    request in form has one too: whoever serves it refuses it."""
    chat = "messages" in body
    prompt = body.get("messages" if chat else "prompt")
    ids = isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], int)
    read = (
        len(prompt or ())
        if ids
        else len(json.dumps(prompt, ensure_ascii=False).encode(errors="replace")) / BYTES
    )
    told = (body.get("max_completion_tokens"), body.get("max_tokens"))
    written = next((each for each in told if isinstance(each, int) and each > 0), None)
    most = written or (CHAT_TOKENS if chat else DEFAULT_TOKENS)
    return sized(min(read, MOST_TOKENS), min(most, MOST_TOKENS))


def size_in(text: str) -> float | None:
    """The size of a job's body; None for what is no JSON object."""
    try:
        body = json.loads(text)
        return size_of(body) if isinstance(body, dict) else None
    except (ValueError, RecursionError):
        return None
