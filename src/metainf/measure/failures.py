"""What became of a run that gave no numbers: the reason, and the engine's last words. Pure."""

import re
from typing import Literal

from metainf.domain import Failed

Reason = Literal["out_of_memory", "unsupported", "crashed", "timed_out", "unknown"]

LONGEST = 3900
KILLED = -9
MEMORY = re.compile(
    r"out of memory|outofmemory|bad_alloc|cannot allocate memory|failed to allocate|unable to allocate|"
    r"cudamalloc failed|memoryerror|no available memory for the cache|not enough memory|"
    r"less than desired gpu memory",
    re.IGNORECASE,
)
REFUSED = re.compile(
    r"not supported|unsupported|unrecogni[sz]ed arguments?|invalid argument|unknown argument|invalid choice|"
    r"not implemented|notimplementederror|not compatible|incompatible with",
    re.IGNORECASE,
)
TOO_LONG = re.compile(r"\bHTTP (?:400|404|413|422)\b|too long|context (?:size|length|window)", re.IGNORECASE)


def ended(status: int, why: str, log: str, oom_kills: int | None) -> Failed:
    """Of an engine that ended by itself. `oom_kills` are the processes that the system has killed for want
    of memory meanwhile (None: it does not tell, and then SIGKILL is taken for it)."""
    if MEMORY.search(log) or (status == KILLED and oom_kills != 0):
        reason: Reason = "out_of_memory"
    elif status > 0 and REFUSED.search(log):
        reason = "unsupported"
    else:
        reason = "crashed"
    return told(reason, why, log)


def unanswered(errors: list[str], asked: int, log: str) -> Failed:
    """Of a run in which requests failed although the engine lived on."""
    why = f"{len(errors)} of {asked} requests failed; the first: {errors[0]}"
    refused = all(TOO_LONG.search(error) for error in errors)
    return told("unsupported" if refused else "crashed", why, log)


def told(reason: Reason, why: str, log: str = "") -> Failed:
    """With the last lines of a log, as much of them as a record keeps."""
    lines = "\n".join([line for line in log.splitlines() if line.strip()][-20:])
    room = LONGEST - len(why)
    return Failed(
        reason=reason, detail=f"{why[:LONGEST]}\n{lines[-room:]}".strip() if room > 0 else why[:LONGEST]
    )
