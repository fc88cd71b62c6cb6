"""When a node counts as hung, when as slow, and for how long it is left alone. Pure: clocks are passed in."""

from dataclasses import dataclass, field

LATE = 4.0
"""A step may take so many times the usual before the node counts as hung."""
WEIGHT = 0.2
"""How much a new step counts in what is usual."""
MEASURED = 3
"""Steps after which a node's own pace is known."""
LAGGING, LAGGING_STEPS, ASK_EVERY = 3.0, 8, 16
"""A node lags that has taken so many times what it promised, over so many steps; another way is looked for
once in so many steps."""
BAN_S, MOST_BAN_S = 15.0, 3600.0


@dataclass
class Pace:
    """How long the steps of one stage take. All in seconds, the way to the node and back included.

    `promised_s` is what the node announced for a step of one token, `promised_token_s` for each token of a
    prompt. `patience` is more for a node that was judged wrongly before.
    """

    promised_s: float = 0.0
    promised_token_s: float = 0.0
    patience: float = 1.0
    usual_s: float = 0.0
    usual_token_s: float = 0.0
    steps: int = 0
    chunks: int = 0
    _lagging: int = 0
    _asked: int = 0

    def deadline_s(self, tokens: int, first_s: float, token_s: float, floor_s: float) -> float:
        """Seconds after which a step of so many tokens counts as hung.

        max(floor, LATE x usual) once the pace is known; at most, and before that, `first_s` and for each
        further token ten times the promise, at most `token_s`."""
        each = min(token_s, 10 * self.promised_token_s) if self.promised_token_s else token_s
        most = first_s + each * (tokens - 1)
        known = self.steps >= MEASURED if tokens == 1 else self.chunks > 0
        usual = self.usual_s if tokens == 1 else self.usual_token_s * tokens
        return self.patience * (min(most, max(floor_s, LATE * usual)) if known else most)

    def took(self, tokens: int, seconds: float) -> None:
        """A step of so many tokens was answered after so long."""
        if tokens > 1:
            each = seconds / tokens
            self.usual_token_s += (WEIGHT if self.chunks else 1.0) * (each - self.usual_token_s)
            self.chunks += 1
            return
        self.usual_s += (WEIGHT if self.steps else 1.0) * (seconds - self.usual_s)
        self.steps += 1
        slow = self.promised_s > 0 and seconds > LAGGING * self.promised_s
        self._lagging = self._lagging + 1 if slow else 0

    def lags(self) -> bool:
        """Whether it is time to look for somebody quicker."""
        if self._lagging < LAGGING_STEPS or (self._asked and self.steps - self._asked < ASK_EVERY):
            return False
        self._asked = self.steps
        return True


def worth(now_s: float, then_s: float, left: int, moving_s: float) -> bool:
    """Whether steps of `then_s` instead of `now_s`, for all that are left, pay twice what moving costs."""
    return (now_s - then_s) * left > 2 * moving_s


@dataclass
class Bans:
    """Nodes that failed, and until when they are left out: BAN_S, twice as long each time."""

    until_s: dict[str, float] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)

    def ban(self, node: str, now_s: float) -> None:
        """Leave it out from now on."""
        times = self.times.get(node, 0)
        self.times[node] = times + 1
        self.until_s[node] = now_s + min(BAN_S * 2 ** min(times, 20), MOST_BAN_S)

    def now(self, now_s: float) -> frozenset[str]:
        """Who is left out at the moment."""
        return frozenset(node for node, until in self.until_s.items() if until > now_s)

    def lift(self) -> None:
        """Let all be tried again: a node in doubt is better than none. What they did is not forgotten."""
        self.until_s.clear()

    def patience(self, node: str) -> float:
        """How much more time a node gets than one that never failed: busy is not dead."""
        return float(2 ** min(self.times.get(node, 0), 3))
