"""A gRPC server of one method, as nodes of both kinds put it up, and what a call of it brings along."""

from typing import Any

from metainf.hosts.tracing import HEADER, Trace, believed
from metainf.swarm.trust.tls import OPTIONS, grpc

MOST_STREAMS = 256


async def listening(path: str, handler: Any, address: str, credentials: Any) -> tuple[Any, int]:
    """Start to serve the method at a `path` such as /package.Service/Method; the server, and its port."""
    library = grpc()
    server = library.aio.server(options=OPTIONS, maximum_concurrent_rpcs=MOST_STREAMS)
    service, method = path.strip("/").split("/")
    server.add_generic_rpc_handlers((library.method_handlers_generic_handler(service, {method: handler}),))
    port = int(server.add_secure_port(address, credentials))
    await server.start()
    return server, port


def trace_of(context: Any) -> Trace:
    """The trace that the other side of a call handed over, if any."""
    return believed(dict(context.invocation_metadata() or ()).get(HEADER))


def tracing(trace: Trace) -> tuple[tuple[str, str], ...] | None:
    """The metadata of a call that hands a trace over."""
    return ((HEADER, trace),) if trace else None
