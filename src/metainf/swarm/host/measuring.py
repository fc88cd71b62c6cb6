"""How fast a node is, measured with blocks of the very model, and kept in the user's cache folder."""

import asyncio
import contextlib
import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveFloat

from metainf import __version__
from metainf.catalog.detect import detect
from metainf.domain import BadInput, Hardware
from metainf.domain.base import Frozen
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.net.node import Node, Offer
from metainf.swarm.words import Profile, Span

MEASURED_BLOCKS = 2
LIBRARIES = ("torch", "transformers")
MOST_NAME = 128


class Speed(Frozen):
    """Milliseconds of one block for one token, and for each token of a prompt."""

    decode_ms_per_block: PositiveFloat
    prefill_ms_per_token_block: NonNegativeFloat


@dataclass(frozen=True)
class Circumstances:
    """All that a measured speed depends on, as far as it is known."""

    hardware: str
    model: str
    profile: Profile
    threads: int

    @property
    def mark(self) -> str:
        """A name that changes with any of it, and with the versions of the programs that calculate."""
        told = "\n".join(
            [self.hardware, self.model, self.profile.canonical(), str(self.threads), *software()]
        )
        return hashlib.blake2b(told.encode(), digest_size=10).hexdigest()


def software() -> list[str]:
    """The programs that calculate, with their versions."""
    found = [f"metainf {__version__}"]
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found


def hardware_name(found: list[Hardware]) -> str:
    """What a node calls its hardware: the processor, for blocks are calculated there."""
    mine = next((each for each in found if each.device.kind == "cpu"), None)
    if mine is None:
        return "unknown"
    count = f"{mine.count}x " if (mine.count or 1) > 1 else ""
    return f"{count}{mine.device.name}{f', {mine.platform}' if mine.platform else ''}"[:MOST_NAME]


def here() -> str:
    """The name of this machine's hardware."""
    return hardware_name(detect())


def cache_folder() -> Path:
    """Where speeds are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("metainf") / "swarm"


async def measured(
    checkpoint: Checkpoint, told: Circumstances, fit: int, cache: Path | None = None, again: bool = False
) -> tuple[Speed, bool]:
    """The speed, and whether it was measured now: with blocks of the middle, at most `fit` of them, or read
    from the cache folder. `again` measures in any case."""
    file = (cache or cache_folder()) / f"speed-{told.mark}.json"
    if not again and (kept := _kept(file)) is not None:
        return kept, False
    count = min(MEASURED_BLOCKS, fit, checkpoint.num_blocks)
    start = (checkpoint.num_blocks - count) // 2
    span, profile = Span(start=start, end=start + count), told.profile
    offer = Offer("measuring", told.model, span, profile.dtype, quantization=profile.quantization)
    node = await asyncio.to_thread(Node, checkpoint, offer)
    try:
        decode_ms, prefill_ms = await node.measure()
    finally:
        await node.stop(0)
    speed = Speed(decode_ms_per_block=decode_ms, prefill_ms_per_token_block=prefill_ms)
    with contextlib.suppress(OSError):  # a folder that cannot be written to costs a measurement each time
        _keep(file, speed)
    return speed, True


def _kept(file: Path) -> Speed | None:
    try:
        return Speed.parse(file.read_bytes())
    except (OSError, BadInput):
        return None


def _keep(file: Path, speed: Speed) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(f".{os.getpid()}")
    scratch.write_text(speed.canonical(), encoding="utf-8")
    scratch.replace(file)
