"""Sentences made of what is known; what is not known leaves no words."""

from collections.abc import Iterable
from typing import Any


def told(value: Any, template: str) -> str:
    """The template around a value that is known, else nothing."""
    if value is None:
        return ""
    return template.format(value if isinstance(value, str) else number(value))


def number(value: float) -> str:
    """Whole numbers whole; others to four digits."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def listed(start: str, facts: Iterable[str]) -> str:
    told = [fact for fact in facts if fact]
    return f"{start} {', '.join(told)}" if told else ""


def paragraph(*sentences: str) -> str:
    return " ".join(f"{s[0].upper()}{s[1:]}." for s in sentences if s)
