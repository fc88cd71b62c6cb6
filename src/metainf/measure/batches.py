"""What a method's batching means to an engine that is started for it. Pure."""

from metainf.domain import Batching, Method


def sized(method: Method, in_flight: int | None) -> Method:
    """With the bound of its batches: the stated one, else all requests that are in flight."""
    batching = method.get(Batching)
    if batching is None or batching.mode == "none" or batching.max_sequences is not None:
        return method
    return _with(method, batching.model_copy(update={"max_sequences": in_flight}))


def launched(method: Method) -> Method:
    """The method as its engine is started. The edges of static batches are drawn by the requests' pacing, on
    an engine with room for one batch: engines without continuous batching begin with whichever request comes
    first, alone."""
    batching = method.get(Batching)
    if batching is None or batching.mode != "static":
        return method
    return _with(method, batching.model_copy(update={"mode": "continuous"}))


def one_sequence(method: Method) -> Method | None:
    """No batching in the words of an engine that always batches: room for one sequence. None for others."""
    batching = method.get(Batching)
    if batching is None or batching.mode != "none":
        return None
    return _with(method, batching.model_copy(update={"mode": "continuous", "max_sequences": 1}))


def _with(method: Method, changed: Batching) -> Method:
    others = tuple(item for item in method.techniques if not isinstance(item, Batching))
    return method.model_copy(update={"techniques": tuple(sorted((*others, changed), key=lambda t: t.kind))})
