"""What a method's batching means to an engine that is started for it. Pure."""

from metainf.domain import Batching, Method


def launched(method: Method, in_flight: int | None) -> Method:
    """The method as its engine is started: with room for one sequence without batching, for the whole batch
    with static batches (whose edges the requests' pacing draws), else for the bound that was stated or all
    that are in flight."""
    batching = method.get(Batching)
    if batching is None:
        return method
    size = 1 if batching.mode == "none" else batching.max_sequences or in_flight
    mode = "continuous" if batching.mode == "static" else batching.mode
    return _with(method, batching.model_copy(update={"mode": mode, "max_sequences": size}))


def one_sequence(method: Method) -> Method | None:
    """No batching in the words of an engine that always batches: room for one sequence. None for others."""
    batching = method.get(Batching)
    if batching is None or batching.mode != "none":
        return None
    return _with(method, batching.model_copy(update={"mode": "continuous", "max_sequences": 1}))


def _with(method: Method, changed: Batching) -> Method:
    others = tuple(item for item in method.techniques if not isinstance(item, Batching))
    return method.model_copy(update={"techniques": tuple(sorted((*others, changed), key=lambda t: t.kind))})
