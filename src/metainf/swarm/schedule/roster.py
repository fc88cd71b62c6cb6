"""Nodes that come and go, as rows of arrays that grow: what a caller's scheduler knows of each. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from metainf.swarm.schedule.caching import Prefixes
from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.words import Ask, Floats, Ints, Outcome, Rates, Swarm
from metainf.swarm.words import MOST_METHODS

ROOM = 8
"""Rows at the start."""
PREFIX_TOKENS = 64
"""Of a block of prompts; shorter than in simulation, for many beginnings are short."""
FADES_S = 600.0
"""In so long a third is left of what was learnt: a node that is left alone is tried again at last."""
AGES_S = 1.0
"""So often that is worked out."""
DEAREST = 20.0
GONE = -1.0
"""The reputation of a row whose node is not there."""
ARRAYS = ("kind", "method", "usd_per_s", "reputation", "running", "waiting_tokens", "open_from_s",
          "prefilling", "seen_s", "away_s")  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Seconds of a prompt's token, of a decode step, and what each sequence adds to it; the scale of the
    forecast's error in logs; tokens of beginnings that are kept."""

    prefill_s: float
    step_s: float
    each_s: float
    spread: float = 0.25
    prefix_tokens: int = 0


@dataclass(frozen=True)
class Candidate:
    """A node, or a way through several, that may write a text of up to `room_tokens`, prompt and all. `texts`
    and `waiting_tokens` are those of other callers."""

    name: str
    method: str
    speeds: Mapping[str, Speed]
    places: int = 1
    usd_per_s: float = 0.0
    away_s: float = 0.0
    reputation: float = 1.0
    texts: float = 0.0
    waiting_tokens: float = 0.0
    room_tokens: float = np.inf


@dataclass
class Own:
    """What this caller has at a node: texts, and tokens of prompts without an answer."""

    texts: int = 0
    waiting_tokens: int = 0


def _swarm(count: int) -> Swarm:
    labels = tuple(frozenset[str]() for _ in range(count))
    rows = np.arange(count)  # each node is a kind of its own, for each says how quick it is
    return Swarm(rows, np.zeros(count, dtype=np.int64), np.zeros(count), np.full(count, GONE), labels)


def _rates(count: int) -> Rates:
    shape = (count, MOST_METHODS)
    return Rates(
        methods=tuple(str(each) for each in range(MOST_METHODS)),
        prefill_s_per_token=np.full(shape, np.nan),
        step_s=np.full(shape, np.nan),
        step_per_sequence_s=np.full(shape, np.nan),
        most_sequences=np.ones(shape, dtype=np.int64),
        cached_blocks=np.zeros(shape, dtype=np.int64),
        spread=np.full(shape, 0.25),
    )


@dataclass
class Roster:
    """Arrays with a row for each node that was seen; rows of those that left are taken by others. A column is
    one of a node's methods, whose `names` differ from row to row. `said` has what candidates say of texts,
    waiting tokens, reputation and room."""

    row: dict[str, int] = field(default_factory=dict)
    names: list[list[str]] = field(default_factory=lambda: [[""] * MOST_METHODS for _ in range(ROOM)])
    swarm: Swarm = field(default_factory=lambda: _swarm(ROOM))
    rates: Rates = field(default_factory=lambda: _rates(ROOM))
    learned: Learned = field(default_factory=lambda: Learned(ROOM, ROOM, MOST_METHODS))
    nothing: Learned = field(default_factory=lambda: Learned(ROOM, ROOM, MOST_METHODS))
    prefixes: Prefixes = field(default_factory=lambda: Prefixes([0] * ROOM, PREFIX_TOKENS))
    own: dict[str, Own] = field(default_factory=dict)
    known: dict[str, Candidate] = field(default_factory=dict)
    said: Floats = field(default_factory=lambda: np.zeros((4, 0)))
    aged_s: float | None = None

    def take(self, candidates: Sequence[Candidate], now_s: float, tokens: float = 0.0) -> None:
        """Exactly these may be chosen from now on, at this instant by a text of so many tokens."""
        here = {each.name for each in candidates}
        for each in candidates:
            self._placed(each, here)
        swarm = self.swarm
        shape = (4, len(swarm))
        self.said = np.zeros(shape)
        self.said[2:] = GONE
        swarm.usd_per_s[:] = 0.0
        for each in candidates:
            at = self.row[each.name]
            self.own.setdefault(each.name, Own())
            swarm.usd_per_s[at], swarm.away_s[at] = each.usd_per_s, each.away_s
            self.said[:, at] = each.texts, each.waiting_tokens, each.reputation, each.room_tokens
        self.at(now_s, tokens)

    def at(self, now_s: float, tokens: float = 0.0) -> None:
        """The state at an instant, of the nodes that were taken, for a text of so many tokens."""
        if self.aged_s is None:
            self.aged_s = now_s
        if now_s - self.aged_s >= AGES_S:
            self.learned.aged(now_s - self.aged_s, FADES_S)
            self.aged_s = now_s
        swarm, (texts, waiting, reputation, room) = self.swarm, self.said
        swarm.reputation[:] = np.where(room >= tokens, reputation, GONE)
        swarm.running[:], swarm.waiting_tokens[:] = texts, waiting
        for name, own in self.own.items():
            if (own.texts or own.waiting_tokens) and reputation[at := self.row[name]] > GONE:
                swarm.running[at] += own.texts
                swarm.waiting_tokens[at] += own.waiting_tokens

    def blocks(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """Digests of a prompt's beginnings."""
        found, before = [], 0
        for end in range(PREFIX_TOKENS, len(prompt) + 1, PREFIX_TOKENS):
            before = hash((before, *prompt[end - PREFIX_TOKENS : end]))
            found.append(before)
        return tuple(found)

    def cached(self, ask: Ask) -> Floats:
        """For each row the tokens of the prompt that need not be read."""
        return np.minimum(self.prefixes.tokens(ask.blocks), ask.input_tokens - 1.0)

    def rows(self) -> Ints:
        """Of the nodes that may be chosen."""
        return np.flatnonzero(self.swarm.reputation >= 0)

    def usual_usd(self, ask: Ask) -> float:
        """What the dearest node is expected to cost for a text alone, or DEAREST times the cheapest that
        costs anything, if that is less; 0 where none does."""
        ttft, tpot = self._idle(ask, np.zeros(len(self.swarm)))
        usd = self.swarm.usd_per_s[self.rows()] * (ttft + ask.output_tokens * tpot)
        usd = usd[np.isfinite(usd) & (usd > 0)]
        return float(min(usd.max(), DEAREST * usd.min())) if len(usd) else 0.0

    def running(self) -> Floats:
        """Texts at each node now."""
        found = self.swarm.running.copy()
        for name, at in self.row.items():
            if self.swarm.reputation[at] >= 0:
                found[at] = self.known[name].texts + self.own[name].texts
        return found

    def name(self, row: int) -> str:
        """Of the node in a row."""
        return next(name for name, at in self.row.items() if at == row)

    def saw(self, name: str, method: str, ratios: tuple[float | None, float | None], failed: bool) -> None:
        """Learn from an outcome; of a node that left, nothing."""
        at = self.row.get(name)
        if at is not None and method in self.names[at]:
            self.learned.saw(self.swarm, Outcome(at, self.names[at].index(method), *ratios, failed))

    def _idle(self, ask: Ask, cached: Floats) -> tuple[Floats, Floats]:
        """Of each row that may be chosen: seconds to the first token, and for each other."""
        swarm, rates, at = self.swarm, self.rates, self.rows()
        here = (swarm.kind[at], swarm.method[at])
        prefill = rates.prefill_s_per_token[here] * np.exp(self.learned.shift(swarm, 0)[0][at])
        slower = np.exp(self.learned.shift(swarm, 1)[0][at])
        tpot = (rates.step_s[here] + rates.step_per_sequence_s[here]) * slower
        return swarm.away_s[at] + (ask.input_tokens - cached[at]) * prefill + tpot, tpot

    def _placed(self, each: Candidate, here: set[str]) -> None:
        """Give it a row, and write its rates where they are new."""
        before = self.known.get(each.name)
        if each.name not in self.row:
            self.row[each.name] = self._free(here)
        at = self.row[each.name]
        if before is not None and (before.method, before.speeds, before.places) == (
            each.method, each.speeds, each.places,
        ):  # fmt: skip
            self.known[each.name] = each
            return
        self.known[each.name] = each
        self._named(at, {each.method, *each.speeds})
        rates, names = self.rates, self.names[at]
        for array in (rates.prefill_s_per_token, rates.step_s, rates.step_per_sequence_s):
            array[at] = np.nan
        rates.most_sequences[at] = each.places
        for name, speed in each.speeds.items():
            to = (at, names.index(name))
            rates.prefill_s_per_token[to], rates.step_s[to] = speed.prefill_s, speed.step_s
            rates.step_per_sequence_s[to], rates.spread[to] = speed.each_s, speed.spread
            rates.cached_blocks[to] = speed.prefix_tokens // PREFIX_TOKENS
        column = names.index(each.method)
        room = int(rates.cached_blocks[at, column])
        if before is None or before.method != each.method or self.prefixes.room[at] != room:
            self.prefixes.emptied(at, room)
        self.swarm.method[at] = column

    def _free(self, here: set[str]) -> int:
        """A row that nobody has, or had by somebody who left and has nothing of ours."""
        taken = set(self.row.values())
        free = next((row for row in range(len(self.swarm)) if row not in taken), None)
        if free is None:
            left = next((name for name in self.row if name not in here and not self.own[name].texts), None)
            if left is None:
                free = len(self.swarm)
                self._grow(2 * free)
            else:
                free = self.row.pop(left)
                del self.known[left], self.own[left]
        self.learned.forget(free, free)
        self.names[free] = [""] * MOST_METHODS
        self.swarm.prefilling[free] = self.swarm.open_from_s[free] = 0.0
        return free

    def _named(self, at: int, methods: set[str]) -> None:
        """A column for each of a node's methods; those that it has no more make room."""
        names = self.names[at]
        for method in sorted(methods - set(names)):
            column = next(place for place, name in enumerate(names) if name not in methods)
            names[column] = method
            self.learned.forget_method(at, column)

    def _grow(self, count: int) -> None:
        old, swarm = len(self.swarm), _swarm(count)
        for name in ARRAYS[1:]:
            getattr(swarm, name)[:old] = getattr(self.swarm, name)
        rates = _rates(count)
        for name in ("prefill_s_per_token", "step_s", "step_per_sequence_s", "most_sequences",
                     "cached_blocks", "spread"):  # fmt: skip
            getattr(rates, name)[:old] = getattr(self.rates, name)
        self.prefixes.more(count - old)
        self.swarm, self.rates = swarm, rates
        self.names += [[""] * MOST_METHODS for _ in range(count - old)]
        self.learned = self.learned.grown(count, count, MOST_METHODS)
        self.nothing = Learned(count, count, MOST_METHODS)
