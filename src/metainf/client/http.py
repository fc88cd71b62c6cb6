"""The two clients: the same verbs over a blocking and an asynchronous connection (httpx2)."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from metainf.api.answers import Job
from metainf.api.problems import Problem, error_of, refusal
from metainf.client import calls
from metainf.client.calls import Call, Verb
from metainf.domain import MetaInfError, MissingExtra

try:
    import httpx2
except ImportError:
    raise MissingExtra("the client of the service", "client") from None

T = TypeVar("T")
TIMEOUT_S = 60.0


class Verbs:
    """Every call of the service as a method."""

    select = Verb(calls.select)
    export = Verb(calls.export)
    size = Verb(calls.size)
    predict = Verb(calls.predict)
    explain = Verb(calls.explain)
    records = Verb(calls.records)
    record = Verb(calls.record)
    sources = Verb(calls.sources)
    tensor = Verb(calls.tensor)
    tensor_axes = Verb(calls.tensor_axes)
    append = Verb(calls.append)
    hand_in = Verb(calls.hand_in)
    imports = Verb(calls.imports)
    imported = Verb(calls.imported)
    models = Verb(calls.models)
    model = Verb(calls.model)
    read_model = Verb(calls.read_model)
    hardware = Verb(calls.hardware)
    device = Verb(calls.device)
    workloads = Verb(calls.workloads)
    methods = Verb(calls.methods)
    techniques = Verb(calls.techniques)
    formats = Verb(calls.formats)
    evaluation = Verb(calls.evaluation)
    importance = Verb(calls.importance)
    swarm = Verb(calls.swarm)
    all_keys = Verb(calls.all_keys)
    add_key = Verb(calls.add_key)
    revoke_key = Verb(calls.revoke_key)
    health = Verb(calls.health)
    ready = Verb(calls.ready)


class Client(Verbs):
    """The service, one call after another. Usable as a context manager.

    url: where it listens. key: an API key where it asks for one. `options` go to httpx2.Client.
    Every call raises the errors that the api raises here, and Refused for what only a service refuses.
    """

    def __init__(self, url: str, key: str | None = None, **options: Any) -> None:
        self._http = httpx2.Client(base_url=url, headers=_headers(key), **({"timeout": TIMEOUT_S} | options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """The answer to a call."""
        try:
            answer = self._http.request(call.method, call.path, **_request(call))
        except httpx2.TransportError as error:
            raise _unreachable(self._http.base_url, error) from error
        return _read(call, answer)

    def import_file(self, path: Path, format: str | None = None, **facts: str) -> Job:
        """Hand in a file (see `hand_in`)."""
        return self.hand_in(path.read_bytes(), path.name, format, **facts)

    def follow(self, job_id: str) -> Iterator[Job]:
        """An import as it moves on, until it is over."""
        with self._http.stream("GET", _events(job_id)) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise _error(answer)
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    yield Job.parse(line.removeprefix("data:"))


class AsyncClient(Verbs):
    """The same, awaited. Usable as an asynchronous context manager."""

    def __init__(self, url: str, key: str | None = None, **options: Any) -> None:
        given = {"timeout": TIMEOUT_S} | options
        self._http = httpx2.AsyncClient(base_url=url, headers=_headers(key), **given)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """The answer to a call."""
        try:
            answer = await self._http.request(call.method, call.path, **_request(call))
        except httpx2.TransportError as error:
            raise _unreachable(self._http.base_url, error) from error
        return _read(call, answer)

    async def follow(self, job_id: str) -> AsyncIterator[Job]:
        """An import as it moves on, until it is over."""
        async with self._http.stream("GET", _events(job_id)) as answer:
            if answer.status_code >= 400:
                await answer.aread()
                raise _error(answer)
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    yield Job.parse(line.removeprefix("data:"))


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _events(job_id: str) -> str:
    return f"/v1/imports/{calls.part(job_id)}/events"


def _request(call: Call[Any]) -> dict[str, Any]:
    body = {} if call.content is None else {
        "content": call.content, "headers": {"Content-Type": call.content_type}
    }  # fmt: skip
    return {"params": dict(call.params)} | body


def _read(call: Call[T], answer: httpx2.Response) -> T:
    if answer.status_code >= 400:
        raise _error(answer)
    try:
        return call.read(answer.content)
    except ValidationError as error:
        told = f"{answer.url}: not the answer of a service of this MetaInf: {error.errors()[0]['msg']}"
        raise refusal("foreign", 502, "Not understood", told) from None


def _error(answer: httpx2.Response) -> MetaInfError:
    try:
        return error_of(Problem.parse(answer.content))
    except MetaInfError:
        told = f"{answer.url} answered {answer.status_code}: {answer.text[:200]!r}"
        return refusal("foreign", answer.status_code, "Not understood", told)


def _unreachable(url: Any, error: Exception) -> MetaInfError:
    told = f"no service answers at {url}: {error} (metainf serve starts one)"
    return refusal("unreachable", 503, "Not reachable", told)
