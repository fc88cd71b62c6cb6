"""The classes of privacy that a text may require, and when one may be called private. Pure: what was measured
comes in as rows."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from metainf.domain import privacy as domain
from metainf.domain.base import Frozen
from metainf.domain.privacy import CLASSES as CLASSES
from metainf.domain.privacy import Class as Class
from metainf.swarm.words import Announcement

MOST_RECOVERED = 0.05
"""What may be called private gives less of a prompt away than this."""
CONFIDENCE = 0.95


class Attacked(Frozen):
    """One way to hide a prompt and what an attack made of it. `blocks` are those that the client runs itself;
    `noise` is a share of a token's RMS activation; `most` the candidates tried for a token where not the
    whole vocabulary was; `same_next` the share of next tokens that such activations still lead to."""

    model: str
    blocks: NonNegativeInt
    codec: str
    noise: NonNegativeFloat = 0.0
    permuted: bool = False
    tokens: PositiveInt
    recovered: NonNegativeInt
    most: PositiveInt | None = None
    tried_per_token: NonNegativeFloat
    seconds_per_token: NonNegativeFloat
    same_next: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Attacked":
        if self.recovered > self.tokens:
            raise ValueError(f"expected at most {self.tokens} recovered tokens, found {self.recovered}")
        return self

    @property
    def share(self) -> float:
        """Of the tokens, those that were read back."""
        return self.recovered / self.tokens

    @property
    def most_likely_below(self) -> float:
        """The true share lies below this with 95 % confidence (one-sided, Clopper-Pearson)."""
        return upper(self.recovered, self.tokens)


def upper(found: int, of: int, confidence: float = CONFIDENCE) -> float:
    """Upper bound of a share, exact for the binomial."""
    from scipy.stats import beta

    return 1.0 if found >= of else float(beta.ppf(confidence, found + 1, of - found))


def is_private(rows: Iterable[Attacked]) -> bool:
    """Whether a way to hide prompts may be called private: it was attacked with the whole vocabulary, and
    each time even the upper bound of what was recovered is below 5 %. What nobody attacked is not private."""
    attacked = list(rows)
    return bool(attacked) and all(
        row.most is None and row.most_likely_below < MOST_RECOVERED for row in attacked
    )


class Required(domain.Required):
    """What a text requires. `trust`: labels, regions (`region:fra`) or names of nodes (`ed-…`), one of which
    a node must have; `keep`: blocks that the client runs itself."""

    def admits(self, word: Announcement) -> bool:
        """Whether a node may see activations. Labels and regions are what the node says of itself; its name
        is the hash of its key."""
        if not self.trust:
            return True
        said = {word.node, *word.features.labels}
        if word.features.region is not None:
            said.add(f"region:{word.features.region}")
        return bool(said & set(self.trust))


class What(Frozen):
    """A class in words; `private` is the rule's answer, `recovery` the most that was recovered (1 is all)."""

    name: Class
    protects: str
    exposes: str
    cost: str
    private: bool = False
    recovery: float | None = None
