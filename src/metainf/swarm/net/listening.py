"""A gRPC server of one method, as nodes of both kinds put it up."""

from typing import Any

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
