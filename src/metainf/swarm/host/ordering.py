"""Orders for requests to a queue or a door: made by the agent from its purse, or by the caller, who signs one
with a key of its own, sends it with the request, and settles the claim that comes back."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from metainf.domain import BadInput
from metainf.domain.base import Frozen
from metainf.hosts.asked import Json, Refusal
from metainf.swarm.broker.sizes import CHAT_TOKENS
from metainf.swarm.broker.words import Group, Member
from metainf.swarm.host.course import Course
from metainf.swarm.host.limits import OWN
from metainf.swarm.host.paying import Bill, Purse
from metainf.swarm.ledger.evidence import Answer, Claim
from metainf.swarm.ledger.words import Order
from metainf.swarm.ledger.work import chain
from metainf.swarm.net.hiring import NOT_PAID, ORDER_USED
from metainf.swarm.net.paid import MOST_ORDERS, OVER, USED, fitting, full
from metainf.swarm.trust.signing import Refused

MOST_TAKEN = MOST_ORDERS
"""So many orders of callers a door remembers at the same time."""


class Weights(Frozen):
    """Which weights an order is for: their digest and number of blocks, as `GET /v1/models` tells them."""

    digest: str
    num_blocks: int


class Owed(Frozen):
    """What a worker says of a text that it was paid for: the claim on the order, and the answer's tokens."""

    claim: Claim | None = None
    tokens: Answer = ()


def billed(purse: Purse, body: Json, weights: Weights, wait_s: float | None = None) -> Bill:
    """An order for a request that ends in `wait_s` (as the purse has it by default). The tokens of a prompt
    are not known here: a text has at most as many as bytes. Raises BadInput, and Refused where the ledger
    does not admit the order."""
    text = json.dumps(body, ensure_ascii=False)
    most = body.get("max_completion_tokens") or body.get("max_tokens") or CHAT_TOKENS
    if not isinstance(most, int) or most < 1:
        raise BadInput(f"expected max_tokens to be a whole number from 1 on, found {most!r:.80}")
    tokens = len(text.encode()) + most
    return purse.billed(weights.digest, weights.num_blocks, text, tokens, wait_s)


def signed(purse: Purse, body: Json, weights: Weights, wait_s: float | None = None) -> tuple[Json, Bill]:
    """The caller's side: the request with an order that the caller has signed, and the bill to settle when
    the answer is there. Raises as `billed`."""
    own = dict(body.get(OWN) or {})
    bill = billed(purse, {name: value for name, value in body.items() if name != OWN}, weights, wait_s)
    return body | {OWN: own | {"order": bill.order}}, bill


def taken(purse: Purse, bill: Bill, made: Json) -> None:
    """Settle the claim that came with an answer, where there is one and the payer is the judge; `bill` then
    has the evidence, or says its problem. Raises BadInput where the claim is none."""
    own = made.get(OWN)
    told = {name: own[name] for name in ("claim", "tokens") if name in own} if isinstance(own, dict) else {}
    owed = Owed.of(told)
    if owed.claim is not None:
        bill.claimed(purse, owed.claim, owed.tokens)


def order_of(text: str) -> Order:
    """A caller's own order, whose seal holds. Raises BadInput (Refused)."""
    return chain(text, ()).order


def own_bill(text: str, weights: Weights, now_s: float) -> Bill:
    """The bill of a caller's own order, which nobody settles here. What every node would refuse is refused in
    their words. Raises BadInput (Refused) for what is no order, Refusal for one of other weights or of
    another time."""
    order = order_of(text)
    try:
        fitting(order, (weights.digest, weights.num_blocks), now_s)
    except Refused as error:
        raise _refusal(NOT_PAID, str(error)) from None
    return Bill(text)


@dataclass
class TakenOrders:
    """The callers' orders that a door has taken, as nodes know them (by payer and nonce), until their
    deadlines. An order buys one text, whichever nodes hold the blocks."""

    deadlines_s: dict[tuple[str, int], float] = field(default_factory=dict)

    @contextmanager
    def once(self, text: str | None, course: Course, now_s: float) -> Iterator[None]:
        """Within, a text is written for a caller's order, if there is one. It may come again where no way
        was found, so that nothing was sent to nodes. Raises Refusal, Refused for what is no order."""
        if text is None:
            yield
            return
        order = order_of(text)
        self._take(order, now_s)
        try:
            yield
        finally:
            if not course.routes:
                self.deadlines_s.pop((order.payer, order.nonce), None)

    def _take(self, order: Order, now_s: float) -> None:
        """Without a pause between look and note. None is forgotten before its deadline."""
        key = order.payer, order.nonce
        self.deadlines_s = {at: ends_s for at, ends_s in self.deadlines_s.items() if ends_s > now_s}
        if order.deadline_s <= now_s:  # it was not when the request came, which then waited in line
            raise _refusal(NOT_PAID, OVER)
        if key in self.deadlines_s:
            raise _refusal(ORDER_USED, USED)
        if len(self.deadlines_s) >= MOST_TAKEN:
            raise _refusal(NOT_PAID, full(MOST_TAKEN))
        self.deadlines_s[key] = order.deadline_s


def _refusal(code: str, why: str) -> Refusal:
    return Refusal(402, "invalid_request_error", code, why)


def running(groups: Iterable[Group], members: Sequence[Member], order: Order) -> list[Group]:
    """The groups whose members all run the weights that an order is for."""
    wanted = (order.model, order.num_blocks)
    found: dict[str, bool] = {}
    for each in members:
        found[each.group] = found.get(each.group, True) and (each.digest, each.num_blocks) == wanted
    return [group for group in groups if found.get(group.name)]


def models_told(names: Iterable[str], members: Sequence[Member]) -> Json:
    """OpenAI's list of models, with the weights that an order for each may name."""
    data: list[Json] = []
    for name in sorted(names):
        known = {(m.digest, m.num_blocks) for m in members if m.model == name and m.digest and m.num_blocks}
        weights = [Weights(digest=digest, num_blocks=count) for digest, count in sorted(known)]
        data.append(model_told(name, weights))
    return {"object": "list", "data": data}


def model_told(name: str, weights: Sequence[Weights]) -> Json:
    """One of the models in that list."""
    told = [each.model_dump(mode="json") for each in weights]
    return {"id": name, "object": "model", OWN: {"weights": told}}
