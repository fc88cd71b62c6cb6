"""A simulated node: prefills one after another, then all sequences decode together.

A fluid: between events every running sequence makes tokens at the same pace. A prefill stops the decoding,
as in an engine without chunks.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field


@dataclass
class Sequence:
    """One request on a node. Instants in seconds; `prefill_s` is the work of its `tokens` of prompt."""

    number: int
    prefill_s: float
    output_tokens: float
    asked_s: float
    tokens: float = 0.0
    begun_s: float = 0.0
    first_s: float = 0.0
    ends_at: float = 0.0
    """The node's count of tokens at which it has all of its own."""


@dataclass
class Node:
    """What truly happens. `step_s + n * per_sequence_s` is a step with n sequences."""

    step_s: float
    per_sequence_s: float
    most_sequences: int
    now_s: float = 0.0
    count: float = 0.0
    """Tokens that a sequence which was always there would have made."""
    busy_s: float = 0.0
    closed_until_s: float = 0.0
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[tuple[float, int, Sequence]] = field(default_factory=list)
    prefilling: Sequence | None = None
    left_s: float = 0.0
    waiting_tokens: float = 0.0

    @property
    def load(self) -> int:
        """Requests that it has."""
        return len(self.waiting) + len(self.running) + (self.prefilling is not None)

    def add(self, sequence: Sequence) -> None:
        """Take a request, at the instant to which the node was advanced."""
        self.waiting.append(sequence)
        self.waiting_tokens += sequence.tokens
        self._next_prefill()

    def next_s(self) -> float | None:
        """When something happens next, if nothing comes."""
        start = max(self.now_s, self.closed_until_s)
        if self.prefilling is not None:
            return start + self.left_s
        if self.running:
            return start + max(0.0, self.running[0][0] - self.count) * self._step()
        return None

    def advance(self, now_s: float) -> list[Sequence]:
        """Go on to an instant; the sequences that ended by then."""
        ended: list[Sequence] = []
        while True:
            at_s = self.next_s()
            if at_s is None or at_s > now_s:
                break
            self._pass(at_s)
            if self.prefilling is not None:
                self._prefilled()
            else:
                ended.append(heapq.heappop(self.running)[2])
            self._next_prefill()
        self._pass(now_s)
        return ended

    def _step(self) -> float:
        return self.step_s + len(self.running) * self.per_sequence_s

    def _pass(self, until_s: float) -> None:
        """Time goes by in which nothing ends."""
        spent = max(0.0, until_s - max(self.now_s, self.closed_until_s))
        if self.prefilling is not None:
            self.left_s = max(0.0, self.left_s - spent)
            self.busy_s += spent
        elif self.running:
            self.count += spent / self._step()
            self.busy_s += spent
        self.now_s = max(self.now_s, until_s)

    def _next_prefill(self) -> None:
        if self.prefilling is None and self.waiting and len(self.running) < self.most_sequences:
            self.prefilling = self.waiting.popleft()
            self.waiting_tokens -= self.prefilling.tokens
            self.prefilling.begun_s = max(self.now_s, self.closed_until_s)
            self.left_s = self.prefilling.prefill_s

    def _prefilled(self) -> None:
        done = self.prefilling
        assert done is not None
        self.prefilling = None
        done.first_s = self.now_s
        done.ends_at = self.count + max(1.0, done.output_tokens - 1)
        heapq.heappush(self.running, (done.ends_at, done.number, done))
