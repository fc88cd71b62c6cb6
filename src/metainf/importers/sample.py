"""A first look at a file: its name, its beginning, and its JSON if it is JSON."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from metainf.domain import BadInput, MissingExtra

HEAD_BYTES = 65536


class Sample:
    """Lazily read views of one file, shared by all importers that look at it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def head(self) -> bytes:
        """The first 64 KiB. BadInput when the file is absent, a folder or empty."""
        try:
            with self.path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError as error:
            raise BadInput(f"{self.path}: expected a readable file, found {error.strerror}") from None
        if not head.strip():
            raise BadInput(f"{self.path}: expected a result file, found an empty one")
        return head

    @cached_property
    def beginning(self) -> str:
        """The head as text; undecodable bytes are replaced."""
        return self.head.decode("utf-8-sig", errors="replace")

    @cached_property
    def first_line(self) -> str:
        """The first line that is not blank."""
        return next((line for line in self.beginning.splitlines() if line.strip()), "")

    @cached_property
    def objects(self) -> list[Any]:
        """The JSON values of the file (one document, or one per line); empty when it is not JSON."""
        if self.beginning.lstrip()[:1] not in ("{", "["):
            return []
        try:
            return list(json_values(self.path))
        except BadInput:
            return []

    @cached_property
    def first(self) -> dict[str, Any]:
        """The first JSON object (the first item of a list), or an empty one."""
        values = self.objects[:1]
        if values and isinstance(values[0], list):
            values = values[0][:1]
        return values[0] if values and isinstance(values[0], dict) else {}


def text_of(path: Path) -> str:
    """The whole file as UTF-8 text. BadInput when it is unreadable, not text, or empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: expected a readable file, found {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: expected UTF-8 text, found byte {error.start} that is not") from None
    if not text.strip():
        raise BadInput(f"{path}: expected a result file, found an empty one")
    return text


def json_values(path: Path) -> Iterator[Any]:
    """The JSON document of a file, or its JSON lines. Bare NaN and Infinity pass here; fields refuse them.

    BadInput names the line where a file that begins as JSON breaks off.
    """
    text = text_of(path)
    try:
        yield json.loads(text)
        return
    except json.JSONDecodeError as error:
        whole = error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            where = f"line {whole.lineno}" if number == 1 else f"line {number}"
            raise BadInput(f"{path}: expected JSON, broken off or wrong at {where} ({whole.msg})") from None
        yield value


def yaml_document(path: Path) -> Any:
    """The YAML (or JSON) document of a file. Needs the extra `yaml`; BadInput when it cannot be parsed."""
    text = text_of(path)
    try:
        import yaml
    except ImportError:
        raise MissingExtra("reading YAML", "yaml") from None
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "an unknown place"
        raise BadInput(f"{path}: expected YAML, broken off or wrong at {where}") from None
