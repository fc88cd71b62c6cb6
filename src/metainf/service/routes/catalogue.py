"""What things are called: models, hardware, workloads, methods, techniques, formats."""

import json
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import TypeAdapter

from metainf import api, catalog
from metainf.api.answers import Kind, Named, Offer, Started
from metainf.domain import BadInput, Model
from metainf.domain.setting import Modality
from metainf.importers import IMPORTERS
from metainf.service.access import Reads
from metainf.service.bodies import JSON, described, read_text
from metainf.service.routes.choosing import computed
from metainf.service.running import Service

router = APIRouter(prefix="/v1", tags=["catalogue"])
Name = Annotated[str, Query(min_length=1, max_length=200)]
MODELS = TypeAdapter(list[Model])
CONFIG: dict[str, Any] = {
    "_name_or_path": "acme/llama-like-8b", "model_type": "llama", "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16",
}  # fmt: skip


STARTED = TypeAdapter(list[Started])


@router.get("/models", response_model=list[Model])
async def models(caller: Reads, modality: Modality | None = None) -> Response:
    """Every model of the catalogue."""
    found = [each for each in api.models() if modality in (None, each.modality)]
    return Response(MODELS.dump_json(found, exclude_none=True), media_type=JSON)


@router.post("/models", response_model=Model, openapi_extra=described({"type": "object"}, {"llama": CONFIG}))
async def read_model(request: Request, caller: Reads) -> Response:
    """A model from its config.json, as its facts: they stand in a question in place of a name."""
    text = await read_text(request)

    def work() -> bytes:
        try:
            config = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"expected a config.json, found no JSON: {error}") from None
        if not isinstance(config, dict):
            raise BadInput(f"expected a config.json, found a {type(config).__name__}")
        return api.model_of_config(config).model_dump_json(exclude_none=True).encode()

    return Response(computed(work), media_type=JSON)


@router.get("/models/{name:path}", response_model=Model)
async def model(caller: Reads, name: str) -> Response:
    """A model by any of its names."""
    with catalog.names_only():
        found = api.model(name, offline=True)
    return Response(found.model_dump_json(exclude_none=True), media_type=JSON)


@router.get("/hardware", response_model=list[Offer], response_model_exclude_none=True)
async def hardware(caller: Reads) -> list[Offer]:
    """Every device of the catalogue, with its price where one is known."""
    return [Offer(device=each, usd_per_device_hour=api.price(each.name)) for each in api.devices()]


@router.get("/hardware/{name}", response_model=Offer, response_model_exclude_none=True)
async def device(caller: Reads, name: str) -> Offer:
    """A device by any of its names."""
    with catalog.names_only():
        found = api.device(name)
    return Offer(device=found, usd_per_device_hour=api.price(found.name))


@router.get("/workloads", response_model=list[Named], response_model_exclude_none=True)
async def workloads(caller: Reads) -> list[Named]:
    """Named workloads with their sources."""
    return [Named(workload=work, source=source) for work, source in api.workloads().values()]


@router.get("/methods", response_model=list[Started])
async def methods(request: Request, caller: Reads, engine: Name, model: Name, hardware: Name) -> Response:
    """The methods that an engine offers for a model on a machine, each with its command."""
    service: Service = request.app.state.service

    def work() -> bytes:
        with catalog.names_only():
            found = api.methods(engine, model, hardware, offline=True)
        rows = [Started(method=method, command=command) for method, command in found]
        return STARTED.dump_json(rows, exclude_none=True)

    key = f"methods {engine!r} {model!r} {hardware!r}".encode()
    return Response(await service.answers.get(key, partial(computed, work)), media_type=JSON)


@router.get("/techniques", response_model=list[Kind])
async def techniques(caller: Reads) -> list[Kind]:
    """Kinds of technique, and which engines have them."""
    offers = api.offers()
    return [
        Kind(kind=kind, meaning=meaning, engines=tuple(offers[kind]))
        for kind, meaning in api.techniques().items()
    ]


@router.get("/formats", response_model=list[str])
async def formats(caller: Reads) -> list[str]:
    """Formats of result files that can be imported."""
    return [*IMPORTERS, "records"]
