"""A typed client of the service, sync and async from one definition. Needs the extra `client`.

    from metainf.client import Client

    with Client("http://127.0.0.1:8321") as client:
        found = client.select(Asked(model="Qwen/Qwen3-32B", workload="azure-chat", hardware=("H100",)))

It takes and returns the domain's own words and raises the errors that the same call would raise here.
"""

from typing import TYPE_CHECKING, Any

from metainf.api.asking import Asked, Pair, PredictAsked, SizeAsked
from metainf.api.problems import Problem, Refused

if TYPE_CHECKING:
    from metainf.client.http import AsyncClient, Client

__all__ = ["Asked", "AsyncClient", "Client", "Pair", "PredictAsked", "Problem", "Refused", "SizeAsked"]


def __getattr__(name: str) -> Any:
    if name in ("Client", "AsyncClient"):
        from metainf.client import http

        return getattr(http, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
