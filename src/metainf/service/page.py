"""The dashboard: the built page as files. Its sources lie in `web` at the root; `npm run build` there writes
what lies beside this module."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

WEB = Path(__file__).with_name("web")
PLAIN = {"/": "index.html", "/licences.txt": "licences.txt"}
POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What a browser lets the page do: load its own files and ask its own service, and nothing besides."""


def add_page(app: FastAPI) -> None:
    """Serve the page at `/`, to whoever asks: it holds nothing, and asks for a key where one is needed."""
    files = Kept(directory=WEB)

    async def plain(request: Request) -> Response:
        return await files.get_response(PLAIN[request.url.path], request.scope)

    for path in PLAIN:
        app.add_route(path, plain, methods=["GET"], include_in_schema=False)
    app.mount("/assets", Kept(directory=WEB / "assets"), name="assets")


class Kept(StaticFiles):
    """Files that a browser keeps but asks after, so that a new MetaInf has its new page at once."""

    def file_response(self, *arguments: object, **named: object) -> Response:
        """The file, or that it is still the same."""
        found: Response = super().file_response(*arguments, **named)  # type: ignore[arg-type]
        found.headers["Cache-Control"] = "no-cache"
        return found
