"""What became of a run that gave no numbers: the reason, and the engine's last words. Pure."""

import re
from collections.abc import Mapping
from typing import Literal

from metainf.domain import Failed
from metainf.measure.discretion import discreet

Reason = Literal["out_of_memory", "unsupported", "crashed", "timed_out", "unknown"]

LONGEST = 3900
SPOKEN_LINES, TOLD_LINES = 40, 20
"""Of a log's end: the lines in which a reason is looked for (a start tells of much that is not supported),
and those that a record keeps."""
KILLED = -9
MEMORY = re.compile(
    r"out of memory|outofmemory|bad_alloc|cannot allocate memory|failed to allocate|unable to allocate|"
    r"cudamalloc failed|memoryerror|no available memory for the cache|not enough memory|"
    r"less than desired gpu memory",
    re.IGNORECASE,
)
REFUSED = re.compile(
    r"not supported|unsupported|unrecogni[sz]ed arguments?|invalid argument|unknown argument|invalid choice|"
    r"not implemented|notimplementederror|not compatible|incompatible with|must be divisible by",
    re.IGNORECASE,
)
TOO_LONG = re.compile(r"\bHTTP (?:400|404|413|422)\b|too long|context (?:size|length|window)", re.IGNORECASE)


def ended(status: int, why: str, log: str, oom_kills: int | None) -> Failed:
    """Of an engine that ended by itself. `oom_kills` are the processes that the system has killed for want
    of memory meanwhile (None: it does not tell, and then SIGKILL is taken for it)."""
    end = last_lines(log, SPOKEN_LINES)
    if MEMORY.search(end) or (status == KILLED and oom_kills != 0):
        reason: Reason = "out_of_memory"
    elif status > 0 and REFUSED.search(end):
        reason = "unsupported"
    else:
        reason = "crashed"
    return told(reason, why, log)


def unanswered(errors: Mapping[str, int], asked: int, log: str) -> Failed:
    """Of a run in which requests failed although the engine lived on; how often each error occurred."""
    why = f"{sum(errors.values())} of {asked} requests failed; the first: {next(iter(errors))}"
    refused = all(TOO_LONG.search(error) for error in errors)
    return told("unsupported" if refused else "crashed", why, log)


def told(reason: Reason, why: str, log: str = "") -> Failed:
    """With the last lines of a log, as much of them as a record keeps; folders and passwords left out."""
    why, lines = discreet(why), discreet(last_lines(log))
    room = LONGEST - len(why)
    return Failed(
        reason=reason, detail=f"{why[:LONGEST]}\n{lines[-room:]}".strip() if room > 0 else why[:LONGEST]
    )


def last_lines(log: str, lines: int = TOLD_LINES) -> str:
    """The end of a log, without empty lines."""
    return "\n".join([line for line in log.splitlines() if line.strip()][-lines:])
