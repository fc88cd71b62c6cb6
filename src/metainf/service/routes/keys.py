"""API keys over HTTP, for those whose key is good for it."""

from typing import Any

from fastapi import APIRouter, Request

from metainf.api import imports
from metainf.api.answers import Key, KeyAsked, MadeKey
from metainf.service.access import Rules
from metainf.service.bodies import described, read
from metainf.service.running import Service

router = APIRouter(prefix="/v1", tags=["keys"])
EXAMPLE: dict[str, Any] = {"name": "grafana", "scope": "read"}


@router.get("/keys", response_model=list[Key], response_model_exclude_none=True)
async def every(request: Request, caller: Rules) -> list[Key]:
    """All keys, revoked ones too; never what opens the door."""
    service: Service = request.app.state.service
    return await service.knowing.run(service.keyring.all)


@router.post("/keys", status_code=201, response_model=MadeKey, response_model_exclude_none=True,
             openapi_extra=described("KeyAsked", {"key": EXAMPLE}))  # fmt: skip
async def make(request: Request, caller: Rules) -> MadeKey:
    """A new key; its secret is shown this once."""
    service: Service = request.app.state.service
    asked = await read(request, KeyAsked)
    key, secret = await service.knowing.run(
        lambda: service.keyring.add(asked.name, asked.scope, imports.now())
    )
    return MadeKey(key=key, secret=secret)


@router.delete("/keys/{key_id}", response_model=Key, response_model_exclude_none=True)
async def revoke(request: Request, caller: Rules, key_id: str) -> Key:
    """Make a key useless for good; other processes follow within two seconds."""
    service: Service = request.app.state.service
    return await service.knowing.run(lambda: service.keyring.revoke(key_id, imports.now()))
