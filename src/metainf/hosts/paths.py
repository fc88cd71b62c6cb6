"""The paths that every host answers beside its own: whether it lives, which model it has, its counters."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from metainf.domain import MissingExtra

if TYPE_CHECKING:
    from aiohttp.web import Application, Request, StreamResponse


class Hosted(Protocol):
    """What stands behind the paths."""

    model: str

    def metrics(self) -> str:
        """Its facts and counters in Prometheus text."""


class Paths:
    """The handlers that say what is hosted. A host of its own kind adds the paths of its work."""

    most_body = 256 * 2**20

    def __init__(self, hosted: Hosted) -> None:
        self.hosted = hosted

    def application(self, middlewares: Sequence[Any] = ()) -> "Application":
        """The aiohttp application. MissingExtra without aiohttp."""
        try:
            from aiohttp import web
        except ImportError as error:
            raise MissingExtra("serving a model over HTTP", "measure") from error

        app = web.Application(client_max_size=self.most_body, middlewares=middlewares)
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/metrics", self.metrics)
        return app

    async def health(self, request: "Request") -> "StreamResponse":
        return reply({"status": "ok"})

    async def models(self, request: "Request") -> "StreamResponse":
        return reply({"object": "list", "data": [{"id": self.hosted.model, "object": "model"}]})

    async def metrics(self, request: "Request") -> "StreamResponse":
        from aiohttp import web

        return web.Response(text=self.hosted.metrics(), content_type="text/plain")


def reply(
    body: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> "StreamResponse":
    """JSON over HTTP."""
    from aiohttp import web

    return web.json_response(body, status=status, headers=headers)
