"""Work for the nodes of a cluster in tests: functions by name, as `spread` wants them."""

import os
import time
from pathlib import Path

from metainf.domain import NotSupported


def square(number: int) -> int:
    """Good work."""
    return number * number


def refuse(number: int) -> int:
    """Raises on purpose."""
    raise NotSupported(f"{number} is not for us")


def stumble(number: int) -> int:
    """An error that nobody meant."""
    return number // 0


def die(number: int) -> int:
    """The worker ends each time."""
    os._exit(7)


def die_once(place: str) -> str:
    """The worker ends the first time; the second finds what the first left."""
    file = Path(place)
    if not file.exists():
        file.write_text("was here")
        os._exit(7)
    return file.read_text()


def alone(folder: str) -> int:
    """How many of these run at once."""
    mine = Path(folder) / str(os.getpid())
    mine.write_text("")
    time.sleep(0.3)
    together = len(list(Path(folder).iterdir()))
    mine.unlink()
    return together
