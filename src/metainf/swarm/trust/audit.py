"""Whether a node calculated what it promised: its answers against a replay of the same inputs.

Activations that two honest machines calculate are never equal bit by bit: sums run in another order in one
pass than token by token. How far they may lie apart belongs to the numeric profile (number format,
quantization, codec, engine) and is measured, not guessed. All here is pure; who replays is the caller's
affair.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat

from metainf.domain import NotSupported
from metainf.domain.base import Frozen
from metainf.swarm.compute.codec import packed, unpacked
from metainf.swarm.words import Profile, Stage

Activations = NDArray[np.float32]
LEAST_TYPICAL = 8
"""Tokens below which the median says no more than the worst token does."""
LARGEST = 0.02
"""Share of the channels, the largest, that are left out of the second of the two errors."""
LEAST_ERROR = 1e-6
LEAD = 2
"""By how many votes one side must lead where no replay of one's own decides."""


@dataclass(frozen=True)
class Evidence:
    """What one node was given from a session's beginning and what it answered: [1, tokens, width] each."""

    stage: Stage
    inputs: Activations
    outputs: Activations


class Limit(Frozen):
    """How far a replay may lie from an honest answer under one profile, as relative RMS error of a token.

    `worst` holds for every token, `typical` for the median of at least LEAST_TYPICAL tokens. `honest_*` is
    the largest error of honest runs, `lie_*` the smallest of the mildest lie (int8 weights), as measured;
    `separates` says whether the two leave room for a limit.
    """

    profile: Profile
    worst: PositiveFloat
    typical: PositiveFloat
    separates: bool
    honest_worst: Annotated[float, Field(ge=0)]
    honest_typical: Annotated[float, Field(ge=0)]
    lie_worst: Annotated[float, Field(ge=0)]
    lie_typical: Annotated[float, Field(ge=0)]
    audits: NonNegativeInt
    source: str = Field(max_length=400)


class Limits(Frozen):
    """The limits of all profiles that were measured."""

    limits: tuple[Limit, ...]

    def under(self, profile: Profile) -> Limit:
        """Raises NotSupported for a profile that nobody measured, or that hides lies."""
        for each in self.limits:
            if each.profile == profile:
                if not each.separates:
                    raise NotSupported(
                        f"audits of {named(profile)} cannot tell int8 weights from rounding: honest answers "
                        f"lie up to {each.honest_worst:.1e} apart, that lie {each.lie_worst:.1e}"
                    )
                return each
        known = ", ".join(named(each.profile) for each in self.limits) or "none"
        raise NotSupported(f"expected a profile whose limit was measured ({known}), found {named(profile)}")


@dataclass(frozen=True)
class Verdict:
    """What came of one comparison. Errors are infinite where the answers cannot be compared at all."""

    honest: bool
    why: str
    worst: float = float("inf")
    typical: float = float("inf")
    token: int = 0


def named(profile: Profile) -> str:
    """A profile in a few words."""
    return f"{profile.dtype}/{profile.quantization}/{profile.codec}/{profile.engine}"


def coded(values: Activations, codec: str) -> Activations:
    """Activations as they are after they travelled. Raises BadInput for an unknown codec."""
    shape, data = packed(values, codec)
    return unpacked(shape, codec, data)


def errors(claimed: Activations, replayed: Activations) -> NDArray[np.float64]:
    """Relative RMS error of each token, [tokens]; both [1, tokens, width] and finite.

    The larger of two: over all channels, and over all but the few that are largest in the replay. Language
    models give some tokens a handful of channels thousands of times larger than all others, beside which a
    lie about the others would vanish.
    """
    right = replayed[0].astype(np.float64)
    apart = np.square(claimed[0] - right)
    size = np.square(right)
    few = max(1, int(right.shape[-1] * LARGEST))
    rest = np.argpartition(-size, few - 1, axis=-1)[:, few:]
    whole = _ratio(apart, size)
    return np.maximum(whole, _ratio(np.take_along_axis(apart, rest, -1), np.take_along_axis(size, rest, -1)))


def _ratio(apart: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    least = float(np.finfo(np.float32).tiny)
    return np.asarray(np.sqrt(apart.sum(axis=-1) / np.maximum(size.sum(axis=-1), least)))


def judge(claimed: Activations, replayed: Activations, limit: Limit) -> Verdict:
    """Whether the claim is what an honest node of that profile answers. The replay is taken to be right."""
    if claimed.shape != replayed.shape:
        return Verdict(False, f"expected the shape {list(replayed.shape)}, found {list(claimed.shape)[:8]}")
    if not np.isfinite(claimed).all():
        return Verdict(False, "the answer holds what is no number")
    found = errors(claimed, replayed)
    if not np.isfinite(found).all():
        return Verdict(False, "the replay holds what is no number")
    at = int(found.argmax())
    worst, typical = float(found[at]), float(np.median(found))
    if worst > limit.worst:
        return Verdict(
            False, f"token {at} is off by {worst:.1e}, {limit.worst:.1e} at most", worst, typical, at
        )
    if len(found) >= LEAST_TYPICAL and typical > limit.typical:
        why = f"the tokens are off by {typical:.1e} in the median, {limit.typical:.1e} at most"
        return Verdict(False, why, worst, typical, at)
    return Verdict(True, "", worst, typical, at)


@dataclass(frozen=True)
class Settled:
    """Who is found guilty and who is cleared; nobody where the votes do not suffice. `decided` says which."""

    guilty: Mapping[str, str] = field(default_factory=dict)
    cleared: frozenset[str] = frozenset()
    decided: bool = False


def settle(
    answers: Mapping[str, Activations], limit: Limit, own: Activations | None = None, lead: int = LEAD
) -> Settled:
    """Who of those that answered the same inputs lies.

    A replay of one's own decides alone. Without one, the side that leads by `lead` votes is believed and all
    others are guilty: liars who agree with one another win where they are asked `lead` times more often than
    honest nodes, which nothing but a replay of one's own prevents. Guilt comes with its reason.
    """
    if own is not None:
        verdicts = {node: judge(answer, own, limit) for node, answer in answers.items()}
        return _told(verdicts)
    sides = _sides(answers, limit)
    votes = sorted((len(side) for side in sides), reverse=True)
    if not votes or votes[0] - (votes[1] if len(votes) > 1 else 0) < lead:
        placed = {node for side in sides for node in side}
        return Settled(guilty={n: "the answer holds what is no number" for n in answers if n not in placed})
    believed = max(sides, key=len)
    right = answers[believed[0]]
    return _told(
        {
            node: Verdict(True, "") if node in believed else judge(answer, right, limit)
            for node, answer in answers.items()
        }
    )


def _told(verdicts: Mapping[str, Verdict]) -> Settled:
    return Settled(
        guilty={node: verdict.why for node, verdict in verdicts.items() if not verdict.honest},
        cleared=frozenset(node for node, verdict in verdicts.items() if verdict.honest),
        decided=True,
    )


def _sides(answers: Mapping[str, Activations], limit: Limit) -> list[list[str]]:
    """Those who agree, together. An answer that cannot be right has no side."""
    sides: list[list[str]] = []
    for node, answer in sorted(answers.items()):
        if not np.isfinite(answer).all():
            continue
        for side in sides:
            if judge(answer, answers[side[0]], limit).honest:
                side.append(node)
                break
        else:
            sides.append([node])
    return sides


def drawn(secret: bytes, session: str, stage: Stage, share: float) -> bool:
    """Whether a session's stage is audited: a share of all, fixed by a secret that no node can foresee."""
    told = f"{session} {stage.node} {stage.span}".encode()
    mark = hashlib.blake2b(told, key=secret[:64], digest_size=8).digest()
    return int.from_bytes(mark, "big") < share * 2**64


def undetected(answers: int, share: float, lies: float = 1.0) -> float:
    """The chance that a node which lies in a share of its answers was never caught: (1 - share x lies)^n."""
    return float((1 - share * lies) ** answers)


def spread(honest: Sequence[float], lying: Sequence[float], safety: float = 10.0) -> tuple[float, bool]:
    """A limit between the largest honest error and the smallest of a lie: their geometric mean, and whether
    the two lie at least `safety` apart. Where they do not, the limit is `safety` times the honest one. Honest
    errors below LEAST_ERROR are taken for that: another machine may well show them."""
    most, least = max(*honest, LEAST_ERROR), min(lying)
    if least >= safety * most:
        return float(np.sqrt(most * least)), True
    return safety * most, False
