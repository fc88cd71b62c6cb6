"""Watching a swarm, for whoever operates it."""

from pathlib import Path

from metainf.swarm.host.watching import Watch, Watched
from metainf.swarm.net.directory import DirectoryLost
from metainf.swarm.plan.overview import Overview, OverviewAsked
from metainf.swarm.words import Demand

__all__ = ["Demand", "DirectoryLost", "Overview", "OverviewAsked", "Watch", "watch"]


def watch(join: str, reputation: str | None = None, queue: str | None = None) -> Watch:
    """A swarm's directory to look at, with a file of reputations and a broker's address where there are any.

    Nothing is connected before the first look. Raises BadInput for addresses and files that cannot be.
    """
    return Watch(Watched(join, None if reputation is None else Path(reputation), queue))
