"""What the queue decides: how urgent a request is, who serves it, whose turn it is, when to retry. Pure."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from metainf.domain import NoFeasible
from metainf.swarm.broker.words import PRIORITIES, Group, Job, Member, Priority, Wish

URGENT, PATIENT = 4.0, 30.0
"""Wanting an answer within so many times its own work makes a request urgent; beyond the other, patient."""
MOST_ATTEMPTS = 5
FIRST_S, LONGEST_S = 0.1, 30.0
EVERY = 8
"""Every so many pulls begin with the lowest class, so that it is never starved."""
Fate = Literal["run", "expired", "worn out"]


def priority_of(wish: Wish) -> Priority:
    """Urgent (0), ordinary (1) or patient (2), by the slack that response time leaves beside the work: of two
    that want their answer as soon, the longer one must begin first. What names no time is ordinary."""
    if wish.wanted_s is None:
        return 1
    slack = wish.wanted_s / max(wish.work_s, 1e-3)
    if slack <= URGENT or wish.wanted_s <= 1.0:
        return 0
    return 1 if slack <= PATIENT else 2


def work_s(group: Group, size: float) -> float:
    """Seconds that a request of this size takes at one slot of a group, by the requests that it had."""
    return group.request_s * size / group.request_size


def choose_group(wish: Wish, groups: Sequence[Group]) -> Group:
    """Who should answer soonest among those that may serve it, a bad reputation counting as slowness.

    The time is that of what waits and of the request itself over the slots. Ties go to the cheaper, then by
    name. Raises NoFeasible, which says what each group lacks.
    """
    lacks = {group.name: _lack(wish, group) for group in groups}
    able = [group for group in groups if not lacks[group.name]]
    if not able:
        told = "; ".join(f"{name}: {why}" for name, why in sorted(lacks.items())) or "no group is there"
        raise NoFeasible(f"expected a consumer group that serves {wish.model}, found none ({told})")
    return min(able, key=lambda group: (expected_s(group), group.usd_per_hour or 0.0, group.name))


def groups_of(
    members: Sequence[Member],
    waiting: Mapping[str, int],
    reputation: Callable[[str], float] = lambda _: 1.0,
) -> list[Group]:
    """The groups that members make together: slots add up, times are their mean by slots, a group costs what
    its dearest member costs, and has the labels that all have. `waiting` counts jobs by group."""
    found: dict[str, list[Member]] = {}
    for member in sorted(members, key=lambda each: (each.group, each.name)):
        found.setdefault(member.group, []).append(member)
    made = []
    for name, each in found.items():
        slots = sum(member.slots for member in each)
        labels = set(each[0].labels).intersection(*(member.labels for member in each))
        prices = [member.usd_per_hour for member in each if member.usd_per_hour is not None]
        made.append(
            Group(
                name=name,
                model=each[0].model,
                hardware=each[0].hardware,
                region=each[0].region,
                labels=tuple(sorted(labels)),
                keep=min(member.keep for member in each),
                slots=slots,
                waiting=waiting.get(name, 0),
                request_s=sum(member.request_s * member.slots for member in each) / slots,
                request_size=sum(member.request_size * member.slots for member in each) / slots,
                usd_per_hour=max(prices, default=None),
                reputation=reputation(name),
            )
        )
    return made


def expected_s(group: Group) -> float:
    """Seconds until one more request is answered; charged as routes are, more below a reputation of 1."""
    rounds = group.waiting // max(group.slots, 1) + 1
    return rounds * group.request_s * (1.0 + max(0.0, 1.0 - group.reputation))


def _lack(wish: Wish, group: Group) -> str:
    if group.model != wish.model:
        return f"serves {group.model}"
    if not group.slots:
        return "has no consumer"
    if wish.hardware and group.hardware not in wish.hardware:
        return f"runs on {group.hardware}"
    if wish.regions and group.region not in wish.regions:
        return f"stands in {group.region}"
    if not set(wish.labels) <= set(group.labels):
        return f"lacks {', '.join(sorted(set(wish.labels) - set(group.labels)))}"
    if group.keep < wish.keep:
        return f"keeps {group.keep} blocks with split, not {wish.keep}"
    if group.reputation < wish.least_reputation:
        return f"has a reputation of {group.reputation:.2g}"
    if wish.most_usd_per_hour is not None and (group.usd_per_hour or 0.0) > wish.most_usd_per_hour:
        return f"costs {group.usd_per_hour} USD/h"
    return ""


def group_name(model: str, hardware: str | None, region: str | None, privacy: str = "") -> str:
    """The name of the group of a model, a class of hardware, a region and what its members require of nodes,
    good as part of a subject."""
    told = "\n".join((model, hardware or "", region or "", *((privacy,) if privacy else ())))
    short = "".join(each if each.isalnum() else "-" for each in model.rsplit("/", 1)[-1])[:32].strip("-")
    return f"{short}-{hashlib.blake2b(told.encode(), digest_size=6).hexdigest()}"


@dataclass
class Turns:
    """Whose turn it is among (priority, tenant) queues: classes in order, tenants of a class in rotation.

    Each class remembers the tenant that it served last. One pull in EVERY begins with the lowest class.
    """

    pulls: int = 0
    last: dict[int, str] = field(default_factory=dict)

    def order(self, waiting: Mapping[tuple[int, str], int]) -> list[tuple[int, str]]:
        """The queues that hold something, in the order in which to ask them now."""
        self.pulls += 1
        classes = list(PRIORITIES) if self.pulls % EVERY else [*PRIORITIES[::-1]]
        found: list[tuple[int, str]] = []
        for priority in classes:
            tenants = sorted(
                tenant for level, tenant in waiting if level == priority and waiting[level, tenant]
            )
            after = self.last.get(priority, "")
            behind = [tenant for tenant in tenants if tenant > after]
            found += [(priority, tenant) for tenant in (*behind, *tenants[: len(tenants) - len(behind)])]
        return found

    def served(self, priority: int, tenant: str) -> None:
        """This tenant had its turn."""
        self.last[priority] = tenant


def share(free: int, queues: int) -> int:
    """How many jobs to take from the queue whose turn it is: an even part of the free slots."""
    return max(1, free // max(1, queues))


def fate(job: Job, attempt: int, now_s: float) -> Fate:
    """What to do with a job that arrives for the `attempt`-th time."""
    if now_s >= job.deadline_s:
        return "expired"
    return "run" if attempt <= MOST_ATTEMPTS else "worn out"


def wait_s(attempt: int, jitter: float) -> float:
    """Seconds until a failed attempt is made again; `jitter` in [0, 1) spreads those that failed together."""
    return float(min(LONGEST_S, FIRST_S * 2.0 ** (attempt - 1)) * (0.5 + jitter / 2))
