"""Many honest audits and many lies against the limits that are shipped; writes a table into docs/swarm.md.

python benchmarks/bench_swarm_audit.py [AUDITS] [--write]
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from metainf.domain import NotSupported
from metainf.swarm.trust.audit import judge, named
from metainf.swarm.trust.audit_calibrating import PROFILES, Plan, Workshop, honest, lying
from metainf.swarm.trust.audit_limits import shipped
from metainf.swarm.words import Profile
from metainf.testing.random_models import random_model

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- audits: written by benchmarks/bench_swarm_audit.py -->", "<!-- end of audits -->"
SEEDS = 5


def small_model(folder: Path, seed: int) -> Path:
    """A Llama of four layers with random weights."""
    return random_model(folder, seed, std=0.1, hidden_size=64, intermediate_size=96)


def row(profile: Profile, audits: int, folder: Path) -> str:
    """Honest audits and int8 lies of one profile on small models of several seeds."""
    try:
        limit = shipped().under(profile)
    except NotSupported:
        known = next(each for each in shipped().limits if each.profile == profile)
        return (
            f"| {named(profile)} | {known.honest_worst:.1e} / {known.honest_typical:.1e} "
            f"| {known.lie_worst:.1e} / {known.lie_typical:.1e} | none | not audited | not audited |"
        )
    begun, flagged, found, lies = time.perf_counter(), 0, 0, 0
    for seed in range(SEEDS):
        shop = Workshop(small_model(folder / f"{named(profile).replace('/', '-')}-{seed}", seed), profile)
        plan = Plan(audits=audits // SEEDS, most_tokens=16, lies=max(1, audits // SEEDS // 10))
        flagged += sum(
            not judge(*pair, limit).honest
            for pair in honest(shop, profile.codec, plan, np.random.default_rng(seed))
        )
        found += sum(
            not judge(*pair, limit).honest
            for pair in lying(shop, profile.codec, plan, np.random.default_rng(seed))
        )
        lies += plan.lies
    print(f"{named(profile)}: {time.perf_counter() - begun:.0f} s", flush=True)
    return (
        f"| {named(profile)} | {limit.honest_worst:.1e} / {limit.honest_typical:.1e} "
        f"| {limit.lie_worst:.1e} / {limit.lie_typical:.1e} | {limit.worst:.1e} / {limit.typical:.1e} "
        f"| {flagged:,} of {audits // SEEDS * SEEDS:,} | {found:,} of {lies:,} |"
    )


def main(arguments: list[str]) -> None:
    audits = int(next((each for each in arguments if each.isdigit()), "10000"))
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(each, audits if each == PROFILES[0] else audits // 10, Path(folder)) for each in PROFILES]
    lines = [
        BEGIN,
        "| profile | honest: worst token / median | int8 weights, the least: worst / median | limits "
        "| honest audits flagged | int8 lies found |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        END,
    ]
    print("\n".join(lines))
    if "--write" in arguments:
        page = DOCS / "swarm.md"
        text = page.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        page.write_text(before + "\n".join(lines) + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
