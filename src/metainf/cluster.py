"""Work spread over a Ray cluster that runs already: the same function on each item, results as they come.

A worker that dies is tried again by Ray, on another node if need be; what a function raises on purpose is
raised here as it is, and not tried again, for it would be raised again.
"""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from metainf import __version__
from metainf.domain import BadInput, MetaInfError, MissingExtra

T = TypeVar("T")
R = TypeVar("R")
KNOCK_S = 5.0
MACHINE = "metainf"
"""The resource that a node offers once, for what must have the machine to itself."""


class WorkerLost(MetaInfError):
    """Workers kept dying over one piece of work, or the cluster went away."""


@dataclass(frozen=True)
class Needs:
    """What one piece of work takes of a node: processor cores, and resources by name. `tries` counts the
    first; those after it are made where a worker died."""

    cores: float = 1.0
    resources: Mapping[str, float] = field(default_factory=dict)
    tries: int = 3


ANYWHERE = Needs()
ALONE = Needs(cores=1.0, resources={MACHINE: 1.0}, tries=2)
"""One at a time on each node."""


@dataclass(frozen=True)
class _Done:
    """What a piece of work gave, or the error that it raised on purpose."""

    value: Any = None
    error: MetaInfError | None = None


def spread(
    address: str, work: Callable[[T], R], items: Mapping[str, T], needs: Needs = ANYWHERE
) -> Iterator[tuple[str, R]]:
    """Key and result of each item, in the order in which they end. Ending early cancels the rest.

    `work` is a function of this package by name, so that every node runs its own copy; all must have the same
    version. Raises MissingExtra without Ray, BadInput where no cluster answers at the address or no node
    offers what is needed, WorkerLost where workers keep dying, and what the work raises on purpose.
    """
    ray = _ray()
    with _connected(ray, address):
        _require(ray, needs)
        task = ray.remote(num_cpus=needs.cores, resources=dict(needs.resources), max_retries=needs.tries - 1)(
            _carried_out
        )
        waiting = {task.remote(work, item, __version__): key for key, item in items.items()}
        try:
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                key = waiting.pop(ready)
                yield key, _result(ray, ready, key, needs)
        finally:
            for left in waiting:
                ray.cancel(left, force=True)


def _carried_out(work: Callable[[Any], Any], item: Any, version: str) -> _Done:
    """On a node."""
    if version != __version__:
        told = f"expected metainf {version} on every node, as here, found {__version__}: install the same"
        return _Done(error=BadInput(told))
    try:
        return _Done(work(item))
    except MetaInfError as error:
        return _Done(error=error)


def _result(ray: Any, ready: Any, key: str, needs: Needs) -> Any:
    try:
        done: _Done = ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        raise WorkerLost(f"{key} failed on the cluster: {error.cause!r}") from error
    except ray.exceptions.RayError as error:
        first = str(error).strip().partition("\n")[0]
        raise WorkerLost(
            f"{key}: its worker died {needs.tries} times ({type(error).__name__}: {first}); "
            "look at the memory of the nodes and at Ray's logs"
        ) from error
    if done.error is not None:
        raise done.error
    return done.value


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtra("working on a Ray cluster", "ray") from None
    return ray


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Joined to the cluster; one that this process has joined already is left as it is."""
    if ray.is_initialized():
        yield
        return
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"expected a Ray cluster at {address}, found none ({first}): start one with ray start --head "
            f"""--resources='{{"{MACHINE}": 1}}'"""
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """OSError where nobody listens at host:port; Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), KNOCK_S).close()


def _require(ray: Any, needs: Needs) -> None:
    """BadInput where the work would wait for ever."""
    offered = ray.cluster_resources()
    for name, amount in {"CPU": needs.cores, **needs.resources}.items():
        if offered.get(name, 0.0) < amount:
            raise BadInput(
                f"expected a node of the cluster that offers {amount:g} of {name!r}, found "
                f"{offered.get(name, 0.0):g}: start the nodes that may be used with ray start "
                f"""--resources='{{"{MACHINE}": 1}}'"""
            )
