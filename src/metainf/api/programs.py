"""The program that a choice of a way to draw comes with."""

import shlex
from dataclasses import dataclass

from metainf.domain import NotSupported, Selection


@dataclass(frozen=True)
class Program:
    """A program to save under a name, and the command that runs it on a file of prompts, one a line."""

    name: str
    text: str
    command: str


def program_of(found: Selection) -> Program | None:
    """The program of the first candidate; None where a server's command line runs it."""
    from metainf import engines

    best = found.ranked[0]
    engine = engines.engine(best.method.engine)
    try:
        launch = engine.launch(found.model, best.method, best.hardware, found.workload)
    except NotSupported:
        return None
    for name, text in launch.files.items():
        if name in launch.argv and name.endswith(".py"):
            return Program(name, text, f"{shlex.join(launch.argv)} < prompts.txt")
    return None
