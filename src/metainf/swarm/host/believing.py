"""Beside the texts: what nodes did is remembered, a share of their answers is calculated again, newcomers are
tried. One thing at a time, in a task of its own; what cannot wait any longer is dropped and counted."""

import asyncio
import contextlib
import logging
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from metainf.domain import MetaInfError
from metainf.domain.base import Frozen
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.caller import Caller
from metainf.swarm.net.auditing import Auditor, Finding, OwnBlocks, events_of, outcomes
from metainf.swarm.net.client import Session
from metainf.swarm.net.ending import ended
from metainf.swarm.net.part import Part
from metainf.swarm.net.stream import Terms
from metainf.swarm.trust.audit import Evidence, Settled, drawn
from metainf.swarm.trust.reputation import Event, Policy, reputation
from metainf.swarm.trust.reputation_store import Believed, Reputations
from metainf.swarm.words import numbers

LOG = logging.getLogger("metainf.swarm")
MOST_BYTES, MOST_WAITING = 64 * 2**20, 64
"""Of all that waits for an audit: activations in bytes, stages."""
BELIEVE_EVERY_S, BETWEEN_TRIALS_S = 1.0, 2.0
KNOWN, KNOWN_TOKENS, TRIAL_TOKENS = 8, 128, 8
"""Answers that were audited and serve as trials; the tokens kept of each, and the least that are asked."""
MOST_TOLD = 64
"""Lies of which the words are kept."""


class Watching(Frozen):
    """What is done about nodes that may lie or fail.

    `share` of the answers of a node that was tried are audited, and all of a new one; None: none. Standings
    lie in the file `reputation`; without it they are forgotten at the end. `here`: audits are calculated in
    this process, which holds the blocks for it; else other nodes are asked. `trials`: newcomers are asked for
    answers that are known.
    """

    share: Annotated[float, Field(gt=0, le=1)] | None = None
    reputation: str | None = None
    here: bool = False
    trials: bool = False


class Manner(Frozen):
    """How texts go through the swarm: activations as `codec` on the wire, through nodes whose weights are
    held as `quantization`, and watched or not. Between replicas and a path the `scheduler` chooses, or the
    `speed` that is announced; with `changes` it tells replicas that obey to run other methods. `identity` is
    the file of the caller's key."""

    codec: Literal["f32", "f16", "bf16", "int8"] = "f32"
    quantization: Literal["none", "int8"] = "none"
    watching: Watching | None = None
    choose: Literal["scheduler", "speed"] = "scheduler"
    changes: bool = False
    identity: str | None = None

    @property
    def numbers(self) -> str:
        """How nodes must calculate."""
        return numbers("float32", self.quantization)

    def terms(self, session: str, model: str, **more: Any) -> Terms:
        """What a session agrees on with its nodes."""
        return Terms(session, model, codec=self.codec, quantization=self.quantization, **more)


class Verdicts(Frozen):
    """What audits and trials have found. `lied` has a sentence for each node that was caught; `dropped`
    stages found too long a line."""

    passed: int = 0
    lied: tuple[str, ...] = ()
    undecided: int = 0
    dropped: int = 0
    trials: int = 0
    why_undecided: str = ""


class Watch:
    """Use as an asynchronous context. Sessions get `believed`; `ended` takes them when they are over."""

    def __init__(
        self,
        told: Watching,
        caller: Caller,
        checkpoint: Checkpoint,
        terms: Terms,
        writing: Callable[[], bool] = lambda: False,
    ) -> None:
        """`terms` are those of the sessions; `writing` says whether texts are being written. Raises BadInput
        for a file that holds no reputations."""
        self.told, self.caller, self.terms, self.writing = told, caller, terms, writing
        self._scratch = tempfile.TemporaryDirectory() if told.reputation is None else None
        file = Path(told.reputation or f"{self._scratch.name if self._scratch else ''}/reputation.sqlite")
        policy = Policy() if told.share is None else Policy(audit_share=told.share)
        self.kept = Reputations(file, time.time, policy)
        own = OwnBlocks(checkpoint, terms.dtype, terms.quantization) if told.here else None
        self.auditor = Auditor(caller.look, caller.mine, terms, own)
        self.reputation: dict[str, float] = {}
        self.avoid: set[str] = set()
        self.doubted: set[str] = set()
        self.tell: Callable[[str], None] = LOG.warning
        self.counts: Counter[str] = Counter()
        self._lied: list[str] = []
        self._why = ""
        self._shares: dict[str, float] = {}
        self._events: list[Event] = []
        self._waiting: deque[Evidence] = deque()
        self._bytes, self._busy = 0, False
        self._known: deque[Evidence] = deque(maxlen=KNOWN)
        self._rng = np.random.default_rng()
        self._wake, self._tried_s = asyncio.Event(), 0.0
        self._working: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Watch":
        await self._believe()
        self._working = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        """What waits is left undone; what sessions told is written."""
        await ended(self._working)
        with contextlib.suppress(MetaInfError):
            await asyncio.to_thread(self.kept.record, self._taken())
        await self.auditor.__aexit__()
        if self._scratch is not None:
            self._scratch.cleanup()

    def believed(self, session: Session) -> None:
        """Have a session believe nodes as far as they are known to be right. Who was never heard of is on
        trial."""
        self._strangers()
        session.reputation, session.avoid, session.doubted = self.reputation, self.avoid, self.doubted

    def _strangers(self) -> None:
        for node in {each.word.node for each in self.caller.heard} - self.reputation.keys():
            self.reputation[node] = reputation(None, time.time(), self.kept.policy)
            self.doubted.add(node)

    def ended(self, session: Session, audited: bool = True) -> None:
        """Take what a session says of its nodes, and draw what is audited, if it may be. Quick: nothing is
        calculated."""
        self._events += outcomes(session, self.caller.heard, time.time())
        for part in session.parts if audited and self.told.share is not None else ():
            stage = part.stream.stage
            share = self._shares.get(stage.node, 1.0)
            if part.made and drawn(self.auditor.secret, session.terms.session, stage, share):
                self._take(part)
        self._wake.set()

    def _take(self, part: Part) -> None:
        size = 2 * sum(values.nbytes for values in part.made)
        if len(self._waiting) >= MOST_WAITING or self._bytes + size > MOST_BYTES:
            self.counts["audits_dropped"] += 1
            return
        self._waiting.append(part.evidence())
        self._bytes += size

    async def done(self, within_s: float) -> Verdicts:
        """Wait until nothing waits any more, but not for ever; what was found so far."""
        end = time.monotonic() + within_s
        while (self._waiting or self._busy or self._events) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return self.verdicts()

    def verdicts(self) -> Verdicts:
        """What was found so far."""
        found = self.counts
        return Verdicts(
            passed=found["audits_passed"],
            lied=tuple(self._lied),
            undecided=found["audits_undecided"],
            dropped=found["audits_dropped"] + len(self._waiting),
            trials=found["trials"],
            why_undecided=self._why,
        )

    async def _work(self) -> None:
        """One audit at a time. While texts are written it rests as long as each one took."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BELIEVE_EVERY_S):  # `wait_for` may swallow a cancellation
                    await self._wake.wait()
            self._wake.clear()
            self._busy, begun = True, time.monotonic()
            try:
                await self._once()
            except Exception:  # a fault of ours must not end the watch, nor a text
                LOG.exception("an error of MetaInf's own while watching nodes")
            finally:
                self._busy = False
            if self.writing():
                await asyncio.sleep(time.monotonic() - begun)
            if self._waiting:
                self._wake.set()

    async def _once(self) -> None:
        if self._waiting:
            evidence = self._waiting.popleft()
            self._bytes -= evidence.inputs.nbytes + evidence.outputs.nbytes
            await self._audited(evidence)
        elif self.told.trials and self._known and time.monotonic() - self._tried_s > BETWEEN_TRIALS_S:
            self._tried_s = time.monotonic()
            await self._tried()
        await self._believe()

    async def _audited(self, evidence: Evidence) -> None:
        try:
            finding = await self.auditor.audit(evidence)
        except MetaInfError as error:
            finding = Finding(evidence.stage, Settled(), why=str(error))
        self._found(finding)
        if evidence.stage.node in finding.settled.cleared:
            self._known.append(_first(evidence, KNOWN_TOKENS))

    def _found(self, finding: Finding) -> None:
        self._blamed(finding)
        if finding.stage.node in finding.settled.cleared:
            self.counts["audits_passed"] += 1
        elif not finding.settled.guilty:
            self.counts["audits_undecided"] += 1
            self._why = finding.why

    async def _tried(self) -> None:
        """Give each newcomer that holds the blocks of a known answer a trial, of another length each time."""
        for heard in await self.caller.look():
            word = heard.word
            fitting = [
                each
                for each in self._known
                if word.span.start <= each.stage.span.start and each.stage.span.end <= word.span.end
            ]
            if word.node not in self.doubted or word.profile.numbers != self.terms.numbers or not fitting:
                continue
            known = fitting[int(self._rng.integers(len(fitting)))]
            least = min(TRIAL_TOKENS, known.inputs.shape[1])
            tokens = int(self._rng.integers(least, known.inputs.shape[1] + 1))
            finding = await self.auditor.trial(word.node, _first(known, tokens))
            self.counts["trials"] += 1
            self._blamed(finding)

    def _blamed(self, finding: Finding) -> None:
        self._events += events_of(finding, time.time())
        for node, why in finding.settled.guilty.items():
            self.counts["audits_lied"] += 1
            self._lied = [*self._lied, f"{node} {finding.stage.span}: {why}"][-MOST_TOLD:]
            self.tell(f"lied {self._lied[-1]}")

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    async def _believe(self) -> None:
        """Write what happened, and read how far nodes are believed; others may write to the file, too."""
        names = {each.word.node for each in self.caller.heard}
        events = self._taken()
        known, shares = await asyncio.to_thread(self._exchanged, events, sorted(names))
        for mapping, found in ((self.reputation, known.reputation), (self._shares, shares)):
            mapping.clear()
            mapping.update(found)
        for kept, names_of in ((self.avoid, known.quarantined), (self.doubted, known.on_trial)):
            kept.clear()
            kept.update(names_of)
        self._strangers()  # who came while the file was read

    def _exchanged(self, events: Sequence[Event], names: list[str]) -> tuple[Believed, dict[str, float]]:
        if events:
            self.kept.record(events)
        return self.kept.believed(names), self.kept.audit_shares(names)


def _first(evidence: Evidence, tokens: int) -> Evidence:
    """Its first tokens, which are answered without those behind them."""
    return Evidence(evidence.stage, evidence.inputs[:, :tokens], evidence.outputs[:, :tokens])
