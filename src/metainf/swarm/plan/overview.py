"""A swarm as its operator sees it: the state, who is believed, and what waits in the queue."""

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from metainf.domain.base import Frozen
from metainf.swarm.plan.coverage import SwarmState


class Belief(Frozen):
    """How far a node is believed by the file of reputations (1 is neutral), and what for. Counts fade with
    time; a node that nobody has asked yet is not `known`."""

    node: str
    reputation: NonNegativeFloat
    known: bool = True
    quarantined: bool = False
    on_trial: bool = False
    served: NonNegativeFloat = 0.0
    failed: NonNegativeFloat = 0.0
    passed: NonNegativeFloat = 0.0
    strikes: NonNegativeInt = 0


class Waiting(Frozen):
    """Jobs of a group in one class (0 is served first), those in work included, of so many tenants."""

    group: str
    priority: NonNegativeInt
    jobs: NonNegativeInt
    tenants: NonNegativeInt


class Queue(Frozen):
    """What waits at the broker. `dead` jobs failed for good and are kept for a person to look at; `strange`
    messages wait under names that no agent uses. `lost` says why nothing is known."""

    waiting: tuple[Waiting, ...] = ()
    dead: NonNegativeInt = 0
    strange: NonNegativeInt = 0
    lost: str | None = None


class Overview(Frozen):
    """All of it at one moment. `directory` is its address without secrets; `believed` and `queue` are absent
    where the service was not told of a file or a broker."""

    directory: str
    complete: bool
    state: SwarmState
    believed: tuple[Belief, ...] | None = None
    queue: Queue | None = None


class OverviewAsked(Frozen):
    """The request for which routes are shown."""

    prompt_tokens: NonNegativeInt = Field(default=64, le=1_000_000)
    new_tokens: int = Field(default=128, ge=1, le=1_000_000)
