"""What an engine must tell of itself to be measured as a server."""

from typing import Protocol, runtime_checkable

from metainf.domain import Hardware, Method, Model, Workload
from metainf.engines.evidence import Evidence, Reading
from metainf.engines.launch import Launch


@runtime_checkable
class Measurable(Protocol):
    """A server with an address, a page of metrics and evidence of what it did."""

    name: str
    title: str
    offers: tuple[type, ...]
    health: str
    metrics: str | None
    forgets: str | None

    def launch(self, model: Model, method: Method, hardware: Hardware, workload: Workload) -> Launch: ...

    def address(self, host: str, port: int) -> tuple[str, ...]: ...

    def evidence(self, reading: Reading) -> Evidence: ...


@runtime_checkable
class Drawer(Measurable, Protocol):
    """One that draws: what is launched for people is a program, and a host of it is measured."""

    def serve(self, model: Model, method: Method, hardware: Hardware, workload: Workload) -> Launch: ...
