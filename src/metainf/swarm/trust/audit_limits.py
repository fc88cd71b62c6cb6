"""The limits that were measured, as they are shipped or kept in a file of one's own."""

from functools import cache
from importlib import resources
from pathlib import Path

from metainf.domain import BadInput
from metainf.swarm.trust.audit import Limits

SHIPPED = "audit_limits.json"


@cache
def shipped() -> Limits:
    """Those of this package; `source` in each says on which machine and model."""
    return Limits.parse(resources.files("metainf.swarm.trust").joinpath(SHIPPED).read_bytes())


def read(path: Path) -> Limits:
    """Those that `python -m metainf.swarm.trust.audit_calibrating` wrote. Raises BadInput."""
    try:
        return Limits.parse(path.read_bytes())
    except OSError as error:
        raise BadInput(f"expected measured limits in {path}: {error.strerror}") from None
