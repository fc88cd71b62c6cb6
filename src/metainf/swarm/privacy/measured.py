"""What was measured of the classes, as it is shipped; `what` says it of each."""

import json
from functools import cache
from importlib import resources
from typing import Any

from metainf.domain import BadInput
from metainf.swarm.privacy.words import CLASSES, Attacked, Class, What, is_private

SAID: dict[Class, tuple[str, str, str]] = {
    "transport": (
        "the way between machines (TLS on both sides)",
        "every node on the route reads the prompt from its activations; the last one also the answer",
        "nothing beyond TLS",
    ),
    "trusted": (
        "against nodes outside a list of names, labels or a region: they are not on the route",
        "the nodes on the list read everything; a label or a region is a node's own word, a name is its key",
        "fewer nodes to choose from",
    ),
    "split": (
        "tokens and logits do not leave the client: less traffic than logits, not secrecy",
        "the first node reads the prompt back from activations, the last one the answer (it knows the head)",
        "the client runs the first blocks and the head itself",
    ),
    "attested": (
        "as far as a verifier of hardware evidence that the operator supplies; none is shipped",
        "without a verifier it is refused",
        "not measured",
    ),
    "encrypted-head": (
        "the input of one linear head under CKKS: the server sees ciphertexts only",
        "nothing of that input; sizes and times; all blocks must run at the client",
        "the client runs all blocks; see the table of heads",
    ),
}


def table(name: str) -> dict[str, Any]:
    """A shipped table: `source` (the command that makes it), `machine`, `rows`."""
    found: dict[str, Any] = json.loads(
        resources.files("metainf.swarm.privacy").joinpath(f"data/{name}.json").read_bytes()
    )
    return found


@cache
def attacks() -> tuple[Attacked, ...]:
    """The measured attacks."""
    return tuple(Attacked.model_validate(row) for row in table("recovery")["rows"])


def what(name: str, keep: int | None = None) -> What:
    """What a class protects, what it does not, and whether the measured table lets it be called private. Of
    `split`, `keep` blocks; without it the kindest measurement of all. Raises BadInput."""
    if name not in CLASSES:
        raise BadInput(f"expected a class of {', '.join(CLASSES)}, found {name[:40]!r}")
    said: Class = name
    rows = _attacks_on(said, keep)
    protects, exposes, cost = SAID[said]
    if said == "encrypted-head":
        heads = table("encrypted")["rows"]
        times = min(row["slowdown"] for row in heads)
        bytes_more = min(row["sent_bytes"] / row["f16_bytes"] for row in heads)
        cost = f"all blocks at the client; {times:,} times the work, {bytes_more:,.0f} times the bytes"
    return What(
        name=said, protects=protects, exposes=exposes, cost=cost, private=is_private(rows),
        recovery=max((row.share for row in rows), default=None),
    )  # fmt: skip


def _attacks_on(name: Class, keep: int | None) -> list[Attacked]:
    """Attacks that meet this class as the swarm runs it: without noise or permutation, which it does not
    do."""
    plain = [row for row in attacks() if not row.noise and not row.permuted]
    if name in ("transport", "trusted"):
        return [row for row in plain if row.blocks == 0]
    if name == "split":
        return [row for row in plain if (row.blocks == keep if keep is not None else row.blocks > 0)]
    return []


def refusal() -> str:
    """Why no whole language model runs encrypted, with the measured arithmetic."""
    told = table("encrypted")
    head = max(told["rows"], key=lambda row: int(row["inputs"]) * int(row["outputs"]))
    products, blocks = 7, 30
    hours = head["server_s"] * products * blocks / 3600
    return (
        "privacy: a language model under homomorphic encryption is refused: one product of "
        f"{head['inputs']} × {head['outputs']} took {head['server_s']:.1f} s ({head['slowdown']:,.0f} times "
        f"the plain one), a token of SmolLM2-135M needs {products} of about that size in each of {blocks} "
        f"blocks ({hours:.2g} hours), and neither softmax, SiLU nor RMSNorm exists under CKKS: use trusted "
        "nodes, or encrypt one linear head (metainf.swarm.privacy.encrypted)"
    )
