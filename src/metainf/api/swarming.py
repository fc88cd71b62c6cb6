"""Running a model through several nodes."""

from collections.abc import Callable
from pathlib import Path

from metainf.swarm.compute.weights import checkpoint_of, packaged
from metainf.swarm.host.demo import Script, Shown
from metainf.swarm.host.demo import demo as _demo

__all__ = ["Script", "Shown", "demo"]


async def demo(model: Path | None, script: Script, say: Callable[[str], None]) -> Shown:
    """Four nodes as processes of this machine write a text, one is killed in the middle.

    `model` is a checkpoint's folder or a GGUF file; by default the packaged one. Raises BadInput,
    MissingExtra, and DidNotStart where a process does not come up.
    """
    if model is None:
        say("weights of the packaged model (the first time they are unpacked, which takes a minute)")
        folder = packaged()
    elif model.suffix == ".gguf":
        folder = checkpoint_of(model)
    else:
        folder = model
    return await _demo(folder, script, say)
