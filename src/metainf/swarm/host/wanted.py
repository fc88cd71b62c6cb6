"""What a request says of itself in front of the queue, and what of it the worker is told."""

from typing import Annotated

from pydantic import Field, PositiveFloat

from metainf.domain.base import Frozen
from metainf.hosts.asked import Json
from metainf.swarm.broker.words import Token, Wish
from metainf.swarm.host.limits import either
from metainf.swarm.privacy.words import Required
from metainf.swarm.trust.sealed import MOST_BYTES

FOR_GROUPS = {"hardware", "regions", "labels", "most_usd_per_hour", "wanted_s"}
FOR_WORKERS = {"ttft_s", "tpot_s", "most_usd", "trust", "order"}


class Asked(Frozen):
    """A request's field `metainf`: within how many seconds an answer is wanted, when it is of no use any
    more, who may serve it, limits for the swarm that does (`host.limits`), and the sealed `order` of a
    caller who pays for it."""

    wanted_s: PositiveFloat | None = None
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    tenant: Token = "everybody"
    hardware: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    most_usd_per_hour: PositiveFloat | None = None
    ttft_s: PositiveFloat | None = either("ttft_s")
    tpot_s: PositiveFloat | None = either("tpot_s")
    most_usd: PositiveFloat | None = either("most_usd")
    trust: tuple[str, ...] = ()
    order: Annotated[str, Field(max_length=MOST_BYTES)] | None = None

    def wish(self, model: str, required: Required) -> Wish:
        """What it asks of the group that serves it, for an agent that requires a class of privacy."""
        told = self.model_dump(include=FOR_GROUPS, exclude_none=True)
        return Wish.of({"model": model, "keep": required.keep, **told})

    def limits(self, required: Required) -> Json:
        """What the worker is told: the request's own limits, and the agent's class."""
        told = self.model_dump(mode="json", include=FOR_WORKERS, exclude_defaults=True)
        if required != Required():
            told["required"] = required.model_dump(mode="json")
        return told
