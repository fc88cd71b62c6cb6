"""Results that a long benchmark keeps as it makes them, so that it can be stopped and goes on where it was.

What was made by other code is not taken: every line carries a mark of the files that it depends on.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class TimeUp(Exception):
    """The time given is spent; what was made is kept."""


def mark(names: Sequence[str]) -> str:
    """Tells states of the code apart, by the content of files of this repository."""
    digest = hashlib.blake2b(digest_size=8)
    for name in names:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


class Kept:
    """Values by key. path: a file of JSON lines, None keeps nothing; limit_s: no new value is begun later."""

    def __init__(self, path: Path | None, of: str, limit_s: float = float("inf")) -> None:
        self.path, self.of, self.ends_s = path, of, time.monotonic() + limit_s
        self.values: dict[str, Any] = {}
        self.made = 0
        for line in path.read_text(encoding="utf-8").splitlines() if path and path.exists() else ():
            told = json.loads(line)
            if told["of"] == of:
                self.values[told["key"]] = told["value"]

    def get(self, key: Sequence[str | int], make: Callable[[], Any]) -> Any:
        """The kept value of a key, else the one that is made now. Raises TimeUp before one is begun late."""
        name = "|".join(str(part) for part in key)
        if name not in self.values:
            if time.monotonic() >= self.ends_s:
                raise TimeUp(f"{self.made} results were made and {len(self.values)} are kept: run it again")
            self.values[name] = make()
            self.made += 1
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({"of": self.of, "key": name, "value": self.values[name]}) + "\n")
        return self.values[name]
