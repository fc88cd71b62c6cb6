"""What puts a pair of hardware and method out before it is predicted."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from metainf import catalog
from metainf.api.predictable import why_not
from metainf.domain import DistilledModel, Excluded, Hardware, Method, Model, Speculative, Workload

if TYPE_CHECKING:
    from metainf.learn.predictor import TrainedPredictor

_LIMIT_OF_EFFECT: dict[str, Any] = {"conflict": "conflict", "no_effect": "no_effect", "harmful": "conflict"}


def checker(
    subject: Model, work: Workload, predictor: "TrainedPredictor"
) -> Callable[[Hardware, Method], Excluded | None]:
    """What puts a pair out before it is predicted: conflicts, unknown devices and effects, memory."""
    from metainf import engines

    def check(hardware: Hardware, method: Method) -> Excluded | None:
        unknown = why_not(hardware)
        if unknown is not None and not predictor.ran(hardware.device.name, method.engine):
            return Excluded(hardware=hardware, method=method, limit="unknown", reason=unknown)
        for finding in engines.check(method, subject, work, hardware):
            return Excluded(
                hardware=hardware, method=method, limit=_LIMIT_OF_EFFECT[finding.effect],
                reason=f"{finding.why} ({finding.source})",
            )  # fmt: skip
        larger = _too_large(method, subject, work)
        if larger is not None:
            return Excluded(hardware=hardware, method=method, limit="unsupported", reason=larger)
        unknown = _unmeasured(method, predictor)
        if unknown is not None:
            return Excluded(
                hardware=hardware,
                method=method,
                limit="unknown",
                reason=unknown,
            )
        need = engines.requirement(subject, method, hardware, work)
        if need is not None and not need.fits:
            return Excluded(hardware=hardware, method=method, limit="memory", reason=need.reason)
        return None

    return check


def _unmeasured(method: Method, predictor: "TrainedPredictor") -> str | None:
    """Why the effect of a method cannot be predicted, None where it can."""
    speculative = method.get(Speculative)
    if speculative is None or predictor.predicts_speculation(method.engine, speculative.algorithm):
        return None
    return (
        f"no run and no published acceptance of {speculative.algorithm} speculation to predict its gain from"
    )


def _too_large(method: Method, subject: Model, work: Workload) -> str | None:
    """Why a distilled model cannot stand in, None where it can or none is named."""
    from metainf.engines.stand_ins import too_large

    drawer = method.get(DistilledModel)
    known = catalog.models().get(drawer.model) if drawer is not None else None
    return None if known is None else too_large(known, work, subject)
