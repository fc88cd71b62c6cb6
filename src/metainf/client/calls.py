"""The one definition of every call: what is sent, and what its answer is read as. No I/O.

Each function gives a `Call`; `Verb` makes of it a method that answers at once on a `Client` and is awaited on
an `AsyncClient`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload
from urllib.parse import quote

from pydantic import TypeAdapter

from metainf.api.answers import (
    Evaluation,
    Job,
    Kept,
    Key,
    Kind,
    MadeKey,
    Named,
    Offer,
    Page,
    Share,
    Source,
    Started,
    State,
)
from metainf.api.asking import Asked, PredictAsked, SizeAsked
from metainf.api.tensors import Axes, Places
from metainf.domain import Excluded, Model, Prediction, Record, Selection
from metainf.selection import Sized
from metainf.swarm.plan.overview import Overview

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from metainf.client.http import AsyncClient, Client

T = TypeVar("T")
P = ParamSpec("P")
JSON = "application/json"
OCTETS = "application/octet-stream"


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Mapping[str, str | int] = field(default_factory=dict)
    content: bytes | None = None
    content_type: str = JSON


class Verb(Generic[P, T]):
    """A call as a method of both clients."""

    def __init__(self, make: Callable[P, Call[T]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, client: "AsyncClient", owner: type) -> "Callable[P, Awaitable[T]]": ...

    @overload
    def __get__(self, client: None, owner: type) -> "Verb[P, T]": ...

    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self

        def send(*arguments: P.args, **named: P.kwargs) -> Any:
            return client.send(self._make(*arguments, **named))

        send.__doc__ = self.__doc__
        return send


def as_(kind: Any) -> Callable[[bytes], Any]:
    """A reader of JSON text as a type."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return adapter.validate_json


def part(text: str) -> str:
    """A name as a part of a path."""
    return quote(text, safe="")


def select(asked: Asked) -> Call[Selection]:
    """Which hardware and which methods: ranked, with intervals, reasons and the command to run."""
    return Call("POST", "/v1/select", as_(Selection), content=_body(asked))


def export(asked: Asked, format: str) -> Call[str]:
    """The first answer as a file: compose, kubernetes, skypilot, ray, or command."""
    return Call("POST", f"/v1/export/{part(format)}", bytes.decode, content=_body(asked))


def size(asked: SizeAsked) -> Call[tuple[Sized, ...]]:
    """The least or cheapest hardware that serves a request rate under the limits."""
    return Call("POST", "/v1/size", as_(tuple[Sized, ...]), content=_body(asked))


def predict(asked: PredictAsked) -> Call[tuple[Prediction | Excluded, ...]]:
    """What is expected of each pair of hardware and method, in their order."""
    return Call("POST", "/v1/predict", as_(tuple[Prediction | Excluded, ...]), content=_body(asked))


def explain(asked: PredictAsked) -> Call[tuple[Prediction | Excluded, ...]]:
    """The same with reasons, strongest first, and the nearest measured records."""
    return Call("POST", "/v1/explain", as_(tuple[Prediction | Excluded, ...]), content=_body(asked))


def records(after: int = 0, limit: int = 100, **where: str) -> Call[Page]:
    """One page of records; `where` as `metainf.store.Filter`. Go on with `after=page.next`."""
    return Call("GET", "/v1/records", as_(Page), params={**where, "after": after, "limit": limit})


def record(record_id: str) -> Call[Record]:
    """The record of a content id."""
    return Call("GET", f"/v1/records/{part(record_id)}", as_(Record))


def sources() -> Call[tuple[Source, ...]]:
    """What the store holds, by source."""
    return Call("GET", "/v1/records/sources", as_(tuple[Source, ...]))


def tensor(**wanted: str | int) -> Call[Places]:
    """A picture of the tensor: rows by columns, counted. `wanted` as `metainf.store.tensor.Wanted`."""
    return Call("GET", "/v1/tensor", as_(Places), params=wanted)


def tensor_axes() -> Call[Axes]:
    """What the store holds along each axis."""
    return Call("GET", "/v1/tensor/axes", as_(Axes))


def append(given: Sequence[Record]) -> Call[Kept]:
    """Add records; the answer comes when all of them are on disk."""
    text = f"[{','.join(each.canonical() for each in given)}]"
    return Call("POST", "/v1/records", as_(Kept), content=text.encode())


def hand_in(content: bytes, name: str, format: str | None = None, **facts: str) -> Call[Job]:
    """Hand in a result file. `facts` are those that it lacks: model, hardware, engine."""
    params: dict[str, str | int] = {"name": name, **facts}
    params |= {"format": format} if format else {}
    return Call("POST", "/v1/imports", as_(Job), params, content, OCTETS)


def imports() -> Call[tuple[Job, ...]]:
    """The newest imports, newest first."""
    return Call("GET", "/v1/imports", as_(tuple[Job, ...]))


def imported(job_id: str) -> Call[Job]:
    """How far an import is."""
    return Call("GET", f"/v1/imports/{part(job_id)}", as_(Job))


def models(modality: str | None = None) -> Call[tuple[Model, ...]]:
    """Every model of the catalogue."""
    params = {} if modality is None else {"modality": modality}
    return Call("GET", "/v1/models", as_(tuple[Model, ...]), params)


def model(name: str) -> Call[Model]:
    """A model by any of its names."""
    return Call("GET", f"/v1/models/{quote(name)}", as_(Model))


def read_model(config: Mapping[str, Any]) -> Call[Model]:
    """A model from the parsed text of its config.json."""
    content = TypeAdapter(dict[str, Any]).dump_json(dict(config))
    return Call("POST", "/v1/models", as_(Model), content=content)


def hardware() -> Call[tuple[Offer, ...]]:
    """Every device of the catalogue, with its price where one is known."""
    return Call("GET", "/v1/hardware", as_(tuple[Offer, ...]))


def device(name: str) -> Call[Offer]:
    """A device by any of its names."""
    return Call("GET", f"/v1/hardware/{part(name)}", as_(Offer))


def workloads() -> Call[tuple[Named, ...]]:
    """Named workloads with their sources."""
    return Call("GET", "/v1/workloads", as_(tuple[Named, ...]))


def methods(engine: str, model: str, hardware: str) -> Call[tuple[Started, ...]]:
    """The methods that an engine offers for a model on a machine, each with its command."""
    params: dict[str, str | int] = {"engine": engine, "model": model, "hardware": hardware}
    return Call("GET", "/v1/methods", as_(tuple[Started, ...]), params)


def techniques() -> Call[tuple[Kind, ...]]:
    """Kinds of technique, and which engines have them."""
    return Call("GET", "/v1/techniques", as_(tuple[Kind, ...]))


def formats() -> Call[tuple[str, ...]]:
    """Formats of result files that can be imported."""
    return Call("GET", "/v1/formats", as_(tuple[str, ...]))


def evaluation() -> Call[Evaluation]:
    """The predictor in use, and how the shipped one was judged."""
    return Call("GET", "/v1/evaluation", as_(Evaluation))


def importance() -> Call[tuple[Share, ...]]:
    """What the predictor leans on."""
    return Call("GET", "/v1/importance", as_(tuple[Share, ...]))


def swarm(prompt_tokens: int = 64, new_tokens: int = 128) -> Call[Overview]:
    """The swarm that the service watches, with the routes expected for such a request."""
    params: dict[str, str | int] = {"prompt_tokens": prompt_tokens, "new_tokens": new_tokens}
    return Call("GET", "/v1/swarm", as_(Overview), params)


def all_keys() -> Call[tuple[Key, ...]]:
    """All keys, revoked ones too."""
    return Call("GET", "/v1/keys", as_(tuple[Key, ...]))


def add_key(name: str, scope: str) -> Call[MadeKey]:
    """A new key; its secret is shown this once."""
    content = TypeAdapter(dict[str, str]).dump_json({"name": name, "scope": scope})
    return Call("POST", "/v1/keys", as_(MadeKey), content=content)


def revoke_key(key_id: str) -> Call[Key]:
    """Make a key useless for good."""
    return Call("DELETE", f"/v1/keys/{part(key_id)}", as_(Key))


def health() -> Call[State]:
    """Whether the service answers at all."""
    return Call("GET", "/health", as_(State))


def ready() -> Call[State]:
    """Whether the store answers and the predictor is loaded."""
    return Call("GET", "/ready", as_(State))


def _body(asked: Any) -> bytes:
    return str(asked.canonical()).encode()
