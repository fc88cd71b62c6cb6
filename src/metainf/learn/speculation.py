"""Speculative decoding that the history has not measured: published acceptance, cost by the roofline.

A step drafts k tokens and verifies them with one pass of the model over k + 1 positions of each sequence.
With acceptance a of each drafted token the step yields (1 - a^(k+1)) / (1 - a) tokens (Leviathan et al.
2023). Weights and cache are read once for all positions, arithmetic is done for each, and a mixture of
experts touches more of them. Drafting costs reads of its own. Acceptance depends on model and text: the
bounds below stand for that, and become the width of the interval.
"""

from dataclasses import dataclass

import numpy as np

from metainf.embed.columns import Columns
from metainf.embed.layout import num, text
from metainf.embed.remembering import coded, of_columns
from metainf.learn.forecast import Z90
from metainf.learn.views import Floats

ENGINE_SCALE = 0.15
"""Log scale of what engines add of their own, about the error on the measured pairs (docs/gaps.md)."""
LONGEST_CHAIN = 5
"""Drafting passes of a step; more drafted tokens than these widen a tree (depths published are 4 to 7)."""
SAME = {"pld": "ngram", "sps": "draft", "nextn": "mtp", "deepseek_mtp": "mtp"}
"""Other names: prompt lookup decoding, speculative sampling with a draft model, multi-token heads."""


@dataclass(frozen=True)
class Draft:
    """Acceptance of one drafted token (5 %, median, 95 %), and what drafting one token costs.

    `reads`: share of the model's own reads and arithmetic of a step; `layers`: that in layers of the
    model; `overhead_s`: seconds for the launch; `tokens`: drafted where a method does not say.
    """

    low: float
    middle: float
    high: float
    tokens: int
    reads: float = 0.0
    layers: float = 0.0
    overhead_s: float = 0.0


DRAFTS = {
    "ngram": Draft(0.10, 0.38, 0.65, 4, overhead_s=2e-5),
    "eagle3": Draft(0.45, 0.62, 0.82, 3, layers=1.5, overhead_s=3e-4),
    "eagle": Draft(0.40, 0.58, 0.75, 3, layers=1.5, overhead_s=3e-4),
    "mtp": Draft(0.60, 0.82, 0.90, 1, layers=1.5, overhead_s=3e-4),
    "medusa": Draft(0.35, 0.50, 0.65, 3, layers=0.2, overhead_s=1e-4),
    "draft": Draft(0.30, 0.55, 0.80, 4, reads=0.08, overhead_s=5e-4),
}
"""ngram: prompt lookup yields 1.5 to 1.75 tokens a step on Spec-Bench (hemingkx/Spec-Bench fd2c1cd7,
ten drafted), its speed-up by task 1.03 to 2.66. draft: 2.0 to 2.3 there (a draft of 68 M). medusa 2.3,
eagle 3.5 with trees; chains yield less. eagle3: 1.74 to 2.20 for Qwen3 of 1.7 B to 32 B (Tencent/AngelSlim
67394ce5, benchmarks.md; its number of drafted tokens is not in the table, two taken), 5.7 with a deep tree
for Vicuna (Spec-Bench). mtp: 0.85 to 0.90 for the second token of DeepSeek-V3 (arXiv 2412.19437, 5.4.3);
no figure for other families, hence the low bound. Costs of drafting: AngelSlim's rates against its yields.
"""


def expected_tokens(acceptance: Floats, drafted: Floats) -> Floats:
    """Tokens of one step, the bonus token included: (1 - a^(k+1)) / (1 - a)."""
    return np.asarray((1 - acceptance ** (drafted + 1)) / (1 - acceptance))


def known(algorithm: str) -> bool:
    """Whether an acceptance was published for this kind of speculation."""
    return _draft_of(algorithm) is not None


def _draft_of(algorithm: str) -> Draft | None:
    name = algorithm.lower()
    return DRAFTS.get(SAME.get(name, name))


@dataclass(frozen=True)
class Gain:
    """What speculation changes in each row: steps' yield in tokens, their cost against a plain step, and
    the log scale of the yield. `rows` marks the rows it holds for; the others have neutral numbers."""

    rows: Floats
    positions: Floats
    tokens: Floats
    cost: Floats
    scale: Floats


def gain(columns: Columns, basis: dict[str, Floats]) -> Gain:
    """Yield and cost from the terms and calibrated parts of the same rows without speculation."""
    on, drafted, tokens, scale, reads, layers, overhead = _drafts(columns)
    share = np.minimum(reads + layers / basis["layers"], 1.0)
    chain = np.minimum(drafted, LONGEST_CHAIN)
    cost = _verify(basis, drafted + 1) + chain * _drafting(basis, share, overhead)
    return Gain(on, drafted + 1, tokens, np.where(on > 0, cost, 1.0), scale)


@of_columns("speculative", "speculative_tokens")
def _drafts(c: Columns) -> tuple[Floats, ...]:
    """1 where an acceptance was published, tokens drafted and yielded by a step, log scale of the yield,
    then what drafting costs (see `Draft`)."""
    algorithms, place = coded(text(c, "speculative"))
    kinds = [_draft_of(algorithm) for algorithm in algorithms]
    neutral = Draft(0.0, 0.0, 0.0, 0)
    facts = [
        (float(kind is not None), d.low, d.middle, d.high, d.tokens, d.reads, d.layers, d.overhead_s)
        for kind, d in ((kind, kind or neutral) for kind in kinds)
    ]
    on, low, middle, high, usual, reads, layers, overhead = np.array(facts, dtype=np.float64).T[:, place]
    drafted = np.where(on > 0, num(c, "speculative_tokens", usual), 0.0)
    tokens = [expected_tokens(a, np.minimum(drafted, LONGEST_CHAIN)) for a in (low, middle, high)]
    scale = np.hypot(np.log(tokens[2] / tokens[0]) / (2 * Z90), ENGINE_SCALE * on)
    return on, drafted, tokens[1], scale, reads, layers, overhead


def _verify(t: dict[str, Floats], positions: Floats) -> Floats:
    """Time of a pass over several positions of every sequence, against a plain step."""
    experts = t["t_moe"] / np.maximum(t["t_moe"] + t["t_dense"], 1e-15)
    memory = t["memory"] + t["weights"] * experts * (more_experts(t, positions) - 1)
    comm = t["comm"] + (positions - 1) * np.minimum(t["t_link"], t["comm"])
    whole = np.hypot(memory, positions * t["compute"]) + comm + t["fixed"]
    return np.asarray(whole / (np.hypot(t["memory"], t["compute"]) + t["comm"] + t["fixed"]))


def _drafting(t: dict[str, Floats], share: Floats, overhead_s: Floats) -> Floats:
    """Time of drafting one token, against a plain step of the model."""
    core = np.hypot(t["memory"], t["compute"]) + t["comm"] + t["fixed"]
    return np.asarray((share * core + overhead_s) / core)


def more_experts(t: dict[str, Floats], positions: Floats) -> Floats:
    """How many times as many experts several positions touch, under uniform routing; 1 without experts."""
    if not t["moe"].any():
        return np.ones_like(positions)
    miss = np.where(t["moe"] > 0, 1 - t["top_k"] / np.maximum(t["experts"], 1), 0.0)
    touched = np.maximum(1 - miss ** t["b"], 1e-9)
    return np.where(t["moe"] > 0, (1 - miss ** (t["b"] * positions)) / touched, 1.0)
