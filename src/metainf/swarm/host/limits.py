"""What a request may say of itself in its field `metainf`: its limits, its budget, whom it trusts."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AliasChoices, Field, PositiveFloat

from metainf.domain import BadInput
from metainf.domain.base import Frozen
from metainf.hosts.asked import Ask
from metainf.swarm.privacy.words import Required
from metainf.swarm.trust.sealed import MOST_BYTES
from metainf.swarm.words import Announcement

OWN = "metainf"
"""The field of a request and of its answer that is MetaInf's own."""


def either(name: str) -> Any:
    """A number that may be told by either name: ours, or the gateway's."""
    other = name.replace("most_", "max_") if name.startswith("most_") else f"max_{name}"
    return Field(default=None, validation_alias=AliasChoices(name, other))


class Limits(Frozen):
    """Seconds to the first token, for each other token, and to the end; US dollars; labels, regions
    (`region:fra`) or names of nodes, one of which each node must have. `required` is the class of privacy of
    who hands the request on, such as an agent of the queue: it binds beside the request's own words. `order`
    is the sealed order of a caller who pays with its own key."""

    ttft_s: PositiveFloat | None = either("ttft_s")
    tpot_s: PositiveFloat | None = either("tpot_s")
    most_usd: PositiveFloat | None = either("most_usd")
    deadline_s: PositiveFloat | None = None
    trust: tuple[str, ...] = ()
    required: Required = Field(default_factory=Required)
    order: Annotated[str, Field(max_length=MOST_BYTES)] | None = None

    @property
    def everybody(self) -> bool:
        """Whether every node may see this text."""
        return not (self.trust or self.required.trust)

    def admits(self, word: Announcement) -> bool:
        """Whether a node may see this text."""
        return self.required.admits(word) and Required(trust=self.trust).admits(word)


def limits_of(told: Any) -> Limits:
    """The field of a request. Raises BadInput, also for a limit that nobody knows."""
    if told is None:
        return Limits()
    if not isinstance(told, dict):
        raise BadInput(f"expected an object of limits as {OWN}, found {told!r:.80}")
    return Limits.of(told)


@dataclass(frozen=True)
class Bounded(Ask):
    """A question with its limits."""

    limits: Limits = field(default_factory=Limits)


def bounded(ask: Ask, limits: Limits) -> Bounded:
    """The same question with limits."""
    return Bounded(**vars(ask), limits=limits)


def limits_in(ask: Ask) -> Limits:
    """Those of a question; none where it has none."""
    return ask.limits if isinstance(ask, Bounded) else Limits()
