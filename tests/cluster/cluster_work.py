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


def where(folder: str) -> tuple[str, int]:
    """The node that this runs on, and how many run at once on all of them."""
    import ray

    here, together = ray.get_runtime_context().get_node_id(), 0
    mine = Path(folder) / f"{here} {os.getpid()}"
    mine.write_text("")
    for _ in range(50):  # until another node is here too, or it is plain that none comes
        together = max(together, len(list(Path(folder).iterdir())))
        time.sleep(0.1)
        if together > 1:
            break
    mine.unlink()
    return here, together


def outlive(place: str) -> str:
    """Waits where it runs first; the node is taken away meanwhile, and another tells where it ran then."""
    import ray

    here = str(ray.get_runtime_context().get_node_id())
    file = Path(place)
    if not file.exists():
        file.write_text(here)
        time.sleep(600)
    return here
