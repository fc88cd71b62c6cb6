"""Settings as engines print them: `key=value`, `key='value'`, `'key': value`."""

import re
from collections.abc import Mapping


def value(text: str, key: str) -> str | None:
    """The value after a key, without quotes, be it the word `None`; None where the key is absent."""
    match = re.search(rf"(?<!\w){key}'?\s*[=:]\s*'?([\w.+/-]+)", text)
    return match[1] if match else None


def given(text: str, key: str) -> str | None:
    """The same, with the word `None` for nothing."""
    found = value(text, key)
    return None if found == "None" else found


def whole(text: str | None) -> int | None:
    """A whole number of digits only; None for anything else."""
    return int(text) if text is not None and text.isdecimal() else None


def first(pattern: str, text: str, group: int = 1) -> str | None:
    """A group of the first match; None where there is none."""
    match = re.search(pattern, text)
    return match[group] if match else None


def our_name(word: str, algorithms: Mapping[str, str]) -> str:
    """Our name of an engine's word, by its table of words for our names; else the word itself."""
    return next((name for name, theirs in algorithms.items() if theirs == word), word.lower())
