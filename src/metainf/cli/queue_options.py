"""Which options of `metainf swarm serve` cannot act with --queue, and what to use instead."""

import os
from collections.abc import Mapping

WORKERS = "give it to `metainf swarm work`"
NOWHERE = "workers choose by the scheduler among blocks and replicas; only `swarm serve --join` takes it"
INSTEAD = {
    "join": "the queue's workers join swarms; leave one of both away",
    "model": f"{WORKERS}; a request names the model that it asks for",
    "name": "a request names the model that it asks for, as its workers announce it",
    "sessions": "`metainf swarm work --slots` says how many texts a worker writes at once",
    "waiting": "what waits is kept by the queue, under limits of its own",
    "only_blocks": NOWHERE,
    "choose": NOWHERE,
    "identity": NOWHERE,
    "change_methods": NOWHERE,
    "evidence": "each answer that is paid has its evidence in its field `metainf`",
    "codec": WORKERS,
    "quantization": WORKERS,
    "audit": WORKERS,
    "reputation": WORKERS,
    "audit_here": WORKERS,
    "trials": WORKERS,
}


def only_what_acts(given: Mapping[str, tuple[object, object]]) -> None:
    """Refuse what would be passed over: `given` has the value and the default of every option of INSTEAD but
    `join`, whose default may be the environment's. Raises BadInput, which names each."""
    from metainf.domain import BadInput

    found = [name for name, (value, default) in given.items() if value != default]
    if found:
        told = "; ".join(f"--{name.replace('_', '-')}: {INSTEAD[name]}" for name in found)
        raise BadInput(f"expected only options that act with --queue, found {told}")


def from_environment(join: str | None) -> str | None:
    """The default of --join."""
    return os.environ.get("METAINF_SWARM") if join is not None else None
