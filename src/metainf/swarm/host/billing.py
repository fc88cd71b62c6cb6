"""Texts behind HTTP that are paid for: each answer names its transaction, whose evidence can be read here."""

import contextlib
import json
import re
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metainf.swarm.host.generating import Course
from metainf.swarm.host.paying import Bill, Purse, written

if TYPE_CHECKING:
    from aiohttp.web import Application, Request, StreamResponse

TRANSACTION = "X-Metainf-Transaction"
HEX = re.compile(r"[0-9a-f]{64}")


@dataclass
class Billing:
    """Who pays, and the folder where evidence (or the claim for an arbiter) is kept, a file a transaction."""

    purse: Purse
    folder: Path

    def keep(self, bill: Bill) -> None:
        """Write down what goes with an answer. What is there of a transaction stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            written(bill, self.folder / f"{bill.transaction.removeprefix('sha256:')}.json", "x")

    async def shown(self, request: "Request") -> "StreamResponse":
        """The evidence of a transaction; 404 where there is none (yet)."""
        from aiohttp import web

        name = request.match_info["transaction"].removeprefix("sha256:")
        path = self.folder / f"{name}.json"
        if not HEX.fullmatch(name) or not path.is_file():
            raise web.HTTPNotFound(text="no such transaction")
        return web.json_response(json.loads(path.read_text(encoding="utf-8")))


def coursed(course: ContextVar[Course | None], billing: Billing | None) -> Any:
    """A middleware of aiohttp: every request has a course, with the purse of who pays here, if anybody does,
    who keeps what came of it."""
    from aiohttp import web

    @web.middleware
    async def paying(request: "Request", handler: Any) -> "StreamResponse":
        request["course"] = made = Course(purse=None if billing is None else billing.purse)
        mark = course.set(made)
        try:
            answer: StreamResponse = await handler(request)
            return answer
        finally:
            course.reset(mark)
            if made.bill is not None and billing is not None:
                billing.keep(made.bill)

    return paying


def prepare(app: "Application", billing: Billing | None) -> None:
    """Add the header to an application, and the path where evidence is kept."""
    app.on_response_prepare.append(_named)
    if billing is not None:
        app.router.add_get("/v1/evidence/{transaction}", billing.shown)


async def _named(request: "Request", response: "StreamResponse") -> None:
    course = request.get("course")
    if course is not None and course.bill is not None:
        response.headers[TRANSACTION] = course.bill.transaction
