"""What our hosts understand of a request, and what they refuse with a sentence."""

from types import SimpleNamespace
from typing import Any

import pytest

from metainf.domain import BadInput
from metainf.hosts.asked import DEFAULT_TOKENS, ask_of

WRITER: Any = SimpleNamespace(model="m", render=lambda messages: "said")


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, DEFAULT_TOKENS),
        ({"max_tokens": None}, DEFAULT_TOKENS),
        ({"max_tokens": 3}, 3),
        ({"max_tokens": 3, "max_completion_tokens": 5}, 5),
        ({"stream_options": None}, DEFAULT_TOKENS),
    ],
)
def test_how_much_is_to_be_written(body: dict[str, Any], tokens: int) -> None:
    assert ask_of({"prompt": "a"} | body, WRITER).max_tokens == tokens


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"max_tokens": 0}, "from 1 on, found 0"),
        ({"max_completion_tokens": 0, "max_tokens": 4}, "from 1 on, found 0"),
        ({"max_tokens": True}, "whole number"),
        ({"max_tokens": "4"}, "whole number"),
        ({"stream_options": True}, "stream_options to be an object, found True"),
        ({"stream_options": ["include_usage"]}, "stream_options to be an object"),
    ],
)
def test_what_is_no_question_is_refused(body: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        ask_of({"prompt": "a"} | body, WRITER)
