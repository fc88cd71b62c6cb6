"""Audits of real nodes: what a session kept is calculated again, by oneself or by another node.

Deciding is in `trust.audit`; here the replay is fetched. A peer cannot tell an audit from a session that
moves to it after another node's failure.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metainf.domain import BadInput, NotSupported
from metainf.swarm.compute.blocks import Blocks
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.net.client import Session
from metainf.swarm.net.stream import OtherInput, StageFailed, Stream, Terms
from metainf.swarm.plan.table import current
from metainf.swarm.trust.audit import Activations, Evidence, Limits, Settled, coded, drawn, settle
from metainf.swarm.trust.audit_limits import shipped
from metainf.swarm.trust.certificates import Certified
from metainf.swarm.trust.reputation import Event, Kind
from metainf.swarm.trust.signing import Heard
from metainf.swarm.trust.tls import channel
from metainf.swarm.words import Features, Profile, Stage, numbers

PIECE_TOKENS = 256
MOST_SPANS, MOST_PEERS = 4, 5
"""Spans whose weights an auditor holds at once; other nodes asked at most where nobody replays it oneself."""
Look = Callable[[], Awaitable[list[Heard]]]


@dataclass(frozen=True)
class Finding:
    """What came of one audit: whose answers were compared, and who is guilty or cleared by it."""

    stage: Stage
    settled: Settled
    asked: tuple[str, ...] = ()
    why: str = ""
    seconds: float = 0.0


def profile_of(word_profile: Profile, codec: str) -> Profile:
    """The profile under which a session's answers are compared: the node's, with the codec that was
    spoken."""
    return word_profile.model_copy(update={"codec": codec})


@dataclass
class OwnBlocks:
    """Blocks that the auditor holds itself: their replay decides alone."""

    checkpoint: Checkpoint
    dtype: str = "float32"
    quantization: str = "none"
    _made: dict[tuple[int, int], Blocks] = field(default_factory=dict)
    """At most MOST_SPANS, the last ones."""

    @property
    def numbers(self) -> str:
        """How they calculate, as profiles say it."""
        return numbers(self.dtype, self.quantization)

    def replay(self, evidence: Evidence, codec: str) -> Activations:
        """The answer that an honest node of the same profile gives, [1, tokens, width], in one pass."""
        key = (evidence.stage.span.start, evidence.stage.span.end)
        if key not in self._made:
            while len(self._made) >= MOST_SPANS:
                del self._made[next(iter(self._made))]
            self._made[key] = Blocks(self.checkpoint, evidence.stage.span, self.dtype, self.quantization)
        blocks, name = self._made[key], f"audit {secrets.token_hex(8)}"
        given = pieces(evidence.inputs)
        sent = np.concatenate([coded(piece, codec) for piece in given], axis=1)
        try:
            made = blocks.step(name, 0, blocks.torch.from_numpy(sent)).float().numpy()
        finally:
            blocks.close(name)
        return np.concatenate([coded(piece, codec) for piece in pieces(made)], axis=1)


def pieces(values: Activations) -> list[Activations]:
    """The same tokens in messages that may be sent."""
    return [values[:, at : at + PIECE_TOKENS] for at in range(0, values.shape[1], PIECE_TOKENS)]


class Auditor:
    """Audits of what sessions kept. Use as an asynchronous context, which closes its channels."""

    def __init__(
        self,
        look: Look,
        mine: Certified,
        terms: Terms,
        own: OwnBlocks | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`own` replays what it can; without it other nodes are asked, at most MOST_PEERS of them."""
        self.look, self.mine, self.terms, self.own = look, mine, terms, own
        self.limits = limits or shipped()
        self.secret = secrets.token_bytes(32)
        self._channels: dict[tuple[str, str], Any] = {}

    async def __aenter__(self) -> "Auditor":
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self._channels.values():
            await each.close()

    async def sample(self, evidence: Sequence[Evidence], share: Callable[[str], float]) -> list[Finding]:
        """Audit those stages on which the lot falls; `share` says for a node how often that is (0 to 1)."""
        found = []
        for each in evidence:
            if drawn(self.secret, self.terms.session, each.stage, share(each.stage.node)):
                found.append(await self.audit(each))
        return found

    async def audit(self, evidence: Evidence) -> Finding:
        """One stage. A Finding that decides nothing says why, and blames nobody."""
        begun, suspect = time.perf_counter(), evidence.stage.node
        heard = {each.word.node: each for each in await self.look()}
        if suspect not in heard:
            return Finding(evidence.stage, Settled(), why=f"{suspect} announces no profile any more")
        profile = heard[suspect].word.profile
        try:
            limit = self.limits.under(profile_of(profile, self.terms.codec))
        except NotSupported as error:
            return Finding(evidence.stage, Settled(), why=str(error))
        answers = {suspect: evidence.outputs}
        if self.own is not None and self.own.numbers == profile.numbers:
            own = await asyncio.to_thread(self.own.replay, evidence, self.terms.codec)
            settled, why = settle(answers, limit, own), ""
        else:
            settled, why = Settled(), "no other node of the same profile holds these blocks and answers"
            for peer in self._peers(evidence.stage, heard, profile):
                try:
                    answers[peer.word.node] = await self._asked(peer, evidence)
                except (StageFailed, BadInput):
                    continue
                settled = settle(answers, limit)
                why = "the nodes asked disagree" if len(answers) > 1 else why
                if settled.decided:
                    break
        took = time.perf_counter() - begun
        return Finding(evidence.stage, settled, tuple(answers), "" if settled.decided else why, took)

    async def trial(self, node: str, known: Evidence) -> Finding:
        """Have a node calculate what is known already, before it is given work: `known` was audited."""
        heard = {each.word.node: each for each in await self.look()}
        stage = Stage(node=node, span=known.stage.span)
        if node not in heard:
            return Finding(stage, Settled(), why=f"{node} is not announced")
        peer = heard[node]
        try:
            limit = self.limits.under(profile_of(peer.word.profile, self.terms.codec))
            answer = await self._asked(peer, known)
        except (NotSupported, StageFailed, BadInput) as error:
            return Finding(stage, Settled(), (node,), str(error))
        return Finding(stage, settle({node: answer}, limit, known.outputs), (node,))

    def _peers(self, stage: Stage, heard: dict[str, Heard], profile: Profile) -> list[Heard]:
        """Other nodes that can replay the span under the same profile, in an order nobody can foresee."""
        able = [
            heard[word.node]
            for word in current([each.word for each in heard.values()], self.terms.model, time.time())
            if word.node != stage.node
            and word.profile == profile
            and word.span.start <= stage.span.start
            and stage.span.end <= word.span.end
        ]
        secrets.SystemRandom().shuffle(able)
        return able[:MOST_PEERS]

    async def _asked(self, peer: Heard, evidence: Evidence) -> Activations:
        """The answer of another node to the same inputs, in as few messages as may be."""
        node, key = peer.word.node, (peer.word.node, peer.word.address)
        if key not in self._channels:
            self._channels[key] = channel(peer.word.address, node, peer.certificate, self.mine)
        terms = replace(self.terms, session=secrets.token_hex(8))
        stream = Stream(Stage(node=node, span=evidence.stage.span), terms, self._channels[key])
        try:
            await stream.open()
            return np.concatenate([await stream.step(piece) for piece in pieces(evidence.inputs)], axis=1)
        except StageFailed:  # perhaps it came back under another certificate
            await self._channels.pop(key).close()
            raise
        finally:
            stream.cancel()


def events_of(finding: Finding, now_s: float) -> list[Event]:
    """What an audit says of nodes, for their reputation."""
    lied = [Event(node=node, at_s=now_s, kind="lied") for node in finding.settled.guilty]
    return lied + [Event(node=node, at_s=now_s, kind="passed") for node in sorted(finding.settled.cleared)]


def promised_s(said: Features, blocks: int, lengths: Sequence[int]) -> float:
    """Seconds that steps of so many tokens take, by what a node announces. Where it tells nothing of prompts,
    each of their tokens counts as one that is written."""
    decode = said.decode_ms_per_block
    prompt = said.prefill_ms_per_token_block or decode
    return blocks * sum(decode if tokens == 1 else prompt * tokens for tokens in lengths) / 1000


NONSENSE = ("another shape", "no number", "no message of this protocol", "of another step")
"""Words of failures that a node which merely broke down does not cause."""


def outcomes(session: Session, heard: Sequence[Heard], now_s: float) -> list[Event]:
    """What a session that has ended says of its nodes: who served and how quickly, who failed and how. Where
    two nodes disagree on what one gave the other, neither is blamed."""
    speeds = {each.word.node: each.word.features for each in heard}
    events = []
    for failure in session.failures:
        if isinstance(failure, OtherInput):
            continue
        kind: Kind = "nonsense" if any(word in failure.why for word in NONSENSE) else "failed"
        events.append(Event(node=failure.stage.node, at_s=now_s, kind=kind))
    for part in session.parts:
        stage, said = part.stream.stage, speeds.get(part.stream.stage.node)
        if not part.made:
            continue
        lengths = [each.shape[1] for each in part.made]
        promised = 0.0 if said is None else promised_s(said, len(stage.span), lengths)
        served = Event(node=stage.node, at_s=now_s, kind="served", seconds=part.stream.node_s)
        events.append(served.model_copy(update={"promised_s": promised or None}))
    return events
