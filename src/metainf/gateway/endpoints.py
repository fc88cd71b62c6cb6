"""The file of endpoints: TOML tables `[[endpoint]]`, read with what the catalogue and the engines know."""

import os
import tomllib
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeFloat, PositiveFloat

from metainf import api, engines
from metainf.api.catalogue import hardware_of
from metainf.domain import BadInput, Frozen, Hardware, Method, Model, UnknownName
from metainf.gateway.words import Endpoint
from metainf.measure.recipes import methods_of
from metainf.measure.serving import serving_engine

DEFAULT_METHOD = "continuous"
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._:/@-]+$")]


class Row(Frozen):
    """One endpoint as it is written. `url` with or without /v1; `method` a recipe of `metainf measure` or a
    Method as JSON; prices in US dollars, that of the machine taken from the catalogue where none is given.

    `api_key_env` names the environment variable that holds its key: keys are never written into the file.
    `usage = false` for a server that refuses `stream_options`.
    """

    name: Name | None = None
    url: str
    model: str
    served_as: str | None = None
    aliases: tuple[str, ...] = ()
    hardware: str | None = None
    engine: str | None = None
    method: str | None = None
    usd_per_hour: PositiveFloat | None = None
    usd_per_million_input_tokens: NonNegativeFloat | None = None
    usd_per_million_output_tokens: NonNegativeFloat | None = None
    api_key_env: str | None = None
    usage: bool = True


def read_endpoints(path: Path, offline: bool = True) -> tuple[Endpoint, ...]:
    """The endpoints of a file. Raises BadInput and UnknownName saying which endpoint and what is wrong."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"expected a TOML file of endpoints at {path}: {error}") from None
    rows = said.get("endpoint")
    if set(said) != {"endpoint"} or not isinstance(rows, list) or not rows:
        raise BadInput(f"{path.name}: expected tables [[endpoint]], found {', '.join(said) or 'nothing'}")
    found: list[Endpoint] = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(_endpoint(Row.of(row), offline))
        except UnknownName as error:
            raise error.explained(f"in endpoint {number} of {path.name}") from None
        except BadInput as error:
            raise BadInput(f"{path.name}, endpoint {number}: {error}") from None
    names = [each.name for each in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"{path.name}: expected a name of its own for each endpoint, found {twice[0]} twice")
    return tuple(found)


def _endpoint(row: Row, offline: bool) -> Endpoint:
    where = urlsplit(row.url)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise BadInput(f"expected a url such as http://10.0.0.5:8000, found {row.url!r}")
    if row.api_key_env is not None and not os.environ.get(row.api_key_env):
        raise BadInput(f"expected a key in the environment variable {row.api_key_env}, found none")
    if row.hardware is None and row.engine is not None:
        raise BadInput(f"expected the hardware that {row.engine} runs on, such as 1xL4, found none")
    subject = _model(row, offline)
    hardware, per_hour = (None, None) if row.hardware is None else _machine(row.hardware)
    by_token = row.usd_per_million_output_tokens is not None
    served_as = row.served_as or row.model
    return Endpoint(
        name=row.name or where.netloc,
        url=row.url.rstrip("/").removesuffix("/v1"),
        model=subject,
        served_as=served_as,
        names=tuple(
            dict.fromkeys([subject.name, row.model, subject.name.rpartition("/")[2], served_as, *row.aliases])
        ),
        hardware=hardware,
        method=None if hardware is None else _method(row),
        usd_per_hour=None if by_token else row.usd_per_hour or per_hour,
        usd_per_million_input_tokens=row.usd_per_million_input_tokens,
        usd_per_million_output_tokens=row.usd_per_million_output_tokens,
        api_key_env=row.api_key_env,
        usage=row.usage,
    )


def _model(row: Row, offline: bool) -> Model:
    """The model's facts; of an endpoint whose hardware nobody tells the name is enough."""
    try:
        return api.model(row.model, offline)
    except UnknownName:
        if row.hardware is not None:
            raise
        return Model(name=row.model)


def _machine(text: str) -> tuple[Hardware, float | None]:
    found = hardware_of([text])
    if len(found) != 1:
        raise BadInput(f"expected one piece of hardware, such as 2xL4, found {len(found)} in {text!r}")
    return found[0]


def _method(row: Row) -> Method:
    if row.engine is None:
        raise BadInput("expected the engine that answers, such as vllm, found none")
    engine = serving_engine(engines.engine(row.engine))
    found = methods_of(row.method or DEFAULT_METHOD, engine)
    return found[0][1]
