"""Running a node of a swarm in this process."""

import os
from collections.abc import Callable

from metainf.api.replicas import Asked, all_prepared
from metainf.domain import BadInput
from metainf.swarm.host.running import Said, Told, run
from metainf.swarm.host.sources import folder_of
from metainf.swarm.plan.joining import span_of

__all__ = ["Asked", "Said", "Told", "checked", "processors", "run_node", "run_replica", "span_of"]


def run_node(model: str | None, told: Told, say: Callable[[Said], None]) -> None:
    """A node that holds blocks of `model` (a checkpoint's folder, a GGUF file, or the packaged model's name)
    until SIGTERM or SIGINT. `told.checkpoint` is found here.

    Raises BadInput, NotSupported, MissingExtra, DirectoryLost where there is no directory to join,
    CannotLoad, Overtaken where another process takes the same identity.
    """
    run(told.model_copy(update={"checkpoint": str(folder_of(model))}), say)


def run_replica(asked: Asked, told: Told, say: Callable[[Said], None], note: Callable[[str], None]) -> None:
    """A node that offers the whole model through an engine of MetaInf, until SIGTERM or SIGINT. `note` hears
    of engines and methods that were passed over.

    Raises as `run_node` does, and NotSupported where no engine runs the model here.
    """
    from metainf.swarm.host.whole import run as run_whole

    told = told.model_copy(update={"checkpoint": str(folder_of(asked.model))})
    first, *others = all_prepared(asked, note)
    run_whole(told, first, say, others)


def processors() -> int:
    """Threads that this process may run at the same time."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def checked(told: dict[str, object]) -> Told:
    """What a node is told, of plain values. Raises BadInput naming each wrong one."""
    address = told.get("public_address")
    if isinstance(address, str) and ("/" in address or not address.strip()):
        raise BadInput(f"expected an address such as host or host:port, found {address!r:.80}")
    return Told.of({key: value for key, value in told.items() if value is not None})
