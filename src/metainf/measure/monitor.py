"""What the machine was like during a run, seen from outside the engine: memory, other load, energy.

Sampled five times a second by a thread that sleeps in between. What the machine does not tell stays None.
Energy is that of whole devices: of a whole GPU (NVML's energy counter), or of a whole processor package
with everything on it (RAPL), which is told only where other processes used little of it.
"""

import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metainf.domain import Conditions, MissingExtra

PERIOD_S = 0.2
SHARED_EVERY = 10
"""Samples between two exact counts of a tree of several processes, which share pages."""
QUIET_SHARE, BUSY_SHARE = 0.1, 0.2
"""Of the cores, used by others: up to the first, energy is ours; above the second, speeds are doubtful."""
SHORTEST_S = 0.5
"""Below this the counters of processor time, of a hundredth of a second, tell too little."""
GIB = 2**30
POWERCAP = Path("/sys/class/powercap")
OOM_COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))


@dataclass
class Observation:
    """Filled when the watching ends. GiB, joules, seconds; None where the machine does not tell."""

    memory_gib: float | None = None
    device_memory_gib: float | None = None
    gpu_energy_j: float | None = None
    package_energy_j: float | None = None
    load_before: float | None = None
    other_cpu_share: float | None = None
    duration_s: float | None = None

    def energy_j(self, on_gpu: bool) -> float | None:
        """Energy of the devices that did the work; of a processor only where it was ours alone."""
        if on_gpu:
            return self.gpu_energy_j
        quiet = self.other_cpu_share is not None and self.other_cpu_share <= QUIET_SHARE
        return self.package_energy_j if quiet else None

    def conditions(self, host: str | None, on_gpu: bool) -> Conditions:
        """As a record keeps them."""
        told = self.energy_j(on_gpu) is not None
        return Conditions(
            host=host,
            cores=os.cpu_count(),
            other_load=self.load_before,
            other_cpu_share=self.other_cpu_share,
            duration_s=self.duration_s or None,
            energy=("whole GPUs (NVML)" if on_gpu else "whole processor packages (RAPL)") if told else None,
        )


@contextmanager
def watching(pid: int | None) -> Iterator[Observation]:
    """Watch the processes below `pid` until the block ends. None: the engine was not started here and may be
    elsewhere, so neither memory nor GPUs of this machine are told."""
    try:
        import psutil
    except ImportError:
        raise MissingExtra("measuring", "measure") from None
    seen, stop = Observation(load_before=os.getloadavg()[0]), threading.Event()
    tree = Tree(psutil, pid)
    before, gpus = _Start(psutil, tree), Gpus(None, []) if pid is None else Gpus.found()
    package_j, gpu_j = rapl_j(), gpus.energy_j()
    thread = threading.Thread(target=_sample, args=(tree, gpus, seen, stop), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
        seen.gpu_energy_j = _gain(gpu_j, gpus.energy_j())
        seen.package_energy_j = _rapl_gain(package_j, rapl_j())
        seen.duration_s = time.monotonic() - before.at_s
        seen.other_cpu_share = before.other_share(psutil, tree) if pid is not None else None


def _sample(tree: "Tree", gpus: "Gpus", seen: Observation, stop: threading.Event) -> None:
    turn = 0
    while True:
        memory = tree.memory_gib(exact=turn % SHARED_EVERY == 0)
        if memory is not None:
            seen.memory_gib = max(seen.memory_gib or 0.0, memory)
        on_device = gpus.memory_gib({process.pid for process in tree.processes()})
        if on_device is not None:
            seen.device_memory_gib = max(seen.device_memory_gib or 0.0, on_device)
        turn += 1
        if stop.wait(PERIOD_S):
            return


class Tree:
    """The processes below one, which itself (the guard) does not count."""

    def __init__(self, psutil: Any, pid: int | None) -> None:
        self._psutil = psutil
        try:
            self._root = None if pid is None else psutil.Process(pid)
        except psutil.Error:
            self._root = None

    def processes(self) -> list[Any]:
        try:
            return [] if self._root is None else self._root.children(recursive=True)
        except self._psutil.Error:
            return []

    def memory_gib(self, exact: bool) -> float | None:
        """Resident memory. Of several processes the sum of their own shares (PSS), which costs a walk
        through their pages and so is taken only where `exact`; None in between."""
        found = self.processes()
        if not found or (len(found) > 1 and not exact):
            return None
        total = 0
        for process in found:
            try:
                total += process.memory_info().rss if len(found) == 1 else self._own_share(process)
            except self._psutil.Error:
                continue
        return total / GIB or None

    def _own_share(self, process: Any) -> int:
        whole = process.memory_full_info()
        return int(getattr(whole, "pss", None) or whole.rss)

    def cpu_s(self) -> float:
        """Processor time of the tree so far, with children that have ended."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except self._psutil.Error:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total


class _Start:
    """Processor times when the watching began."""

    def __init__(self, psutil: Any, tree: Tree) -> None:
        self.at_s, self.busy_s = time.monotonic(), busy_s(psutil)
        self.ours_s = tree.cpu_s() + time.process_time()

    def other_share(self, psutil: Any, tree: Tree) -> float | None:
        """Share of all cores that neither the engine nor this process used, but somebody did."""
        room_s = (time.monotonic() - self.at_s) * (os.cpu_count() or 1)
        ours_s = tree.cpu_s() + time.process_time() - self.ours_s
        if room_s < SHORTEST_S * (os.cpu_count() or 1):
            return None
        return min(1.0, max(0.0, (busy_s(psutil) - self.busy_s - ours_s) / room_s))


def busy_s(psutil: Any) -> float:
    """Processor time of all cores since the machine started, with what a hypervisor gave to others."""
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return float(sum(getattr(times, name, 0.0) for name in names))


def oom_kills(paths: Sequence[Path] = OOM_COUNTERS) -> int | None:
    """Processes that the system has killed for want of memory so far; None where it does not count."""
    found = None
    for path in paths:
        try:
            rows = [line.split() for line in path.read_text().splitlines()]
        except OSError:
            continue
        found = (found or 0) + sum(int(row[1]) for row in rows if len(row) == 2 and row[0] == "oom_kill")
    return found


def rapl_j(folder: Path = POWERCAP) -> dict[str, tuple[float, float]]:
    """Package -> (energy counter, the value at which it begins anew), in joules; empty where unreadable."""
    found = {}
    for zone in sorted(folder.glob("intel-rapl:*")):
        if zone.name.count(":") > 1:
            continue
        try:
            if not (zone / "name").read_text().startswith("package"):
                continue
            energy, top = (int((zone / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
        except (OSError, ValueError):
            continue
        found[zone.name] = (energy / 1e6, top / 1e6)
    return found


def _rapl_gain(before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]) -> float | None:
    if not before or before.keys() != after.keys():
        return None
    gains = [(after[zone][0] - joules) % top for zone, (joules, top) in before.items()]
    return sum(gains) or None


def _gain(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or after <= before else after - before


class Gpus:
    """NVIDIA GPUs through NVML (extra `nvidia`); of no GPU nothing is known."""

    def __init__(self, nvml: Any, handles: list[Any]) -> None:
        self._nvml, self._handles = nvml, handles

    @classmethod
    def found(cls) -> "Gpus":
        """All of this machine that a driver tells of, also those that the engine does not use."""
        try:
            import pynvml
        except ImportError:
            return cls(None, [])
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            return cls(pynvml, [pynvml.nvmlDeviceGetHandleByIndex(place) for place in range(count)])
        except pynvml.NVMLError:
            return cls(None, [])

    def energy_j(self) -> float | None:
        """Energy of all of them since their driver was loaded."""
        return self._sum(lambda it: self._nvml.nvmlDeviceGetTotalEnergyConsumption(it) / 1e3)

    def memory_gib(self, pids: Collection[int]) -> float | None:
        """Memory that these processes use on all of them; all that is in use where the driver knows none of
        them (in a container it may call them otherwise). None without a GPU."""
        ours = self._sum(lambda it: sum(self._used(each) for each in self._processes(it) if each.pid in pids))
        return ours or self._sum(lambda it: self._nvml.nvmlDeviceGetMemoryInfo(it).used / GIB)

    def _processes(self, handle: Any) -> Sequence[Any]:
        found: Sequence[Any] = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        return found

    @staticmethod
    def _used(process: Any) -> float:
        return (process.usedGpuMemory or 0) / GIB

    def _sum(self, read: Any) -> float | None:
        if not self._handles:
            return None
        try:
            return float(sum(read(handle) for handle in self._handles))
        except self._nvml.NVMLError:
            return None


def free_gib() -> float:
    """Memory that can be had now without swapping. MissingExtra without psutil."""
    try:
        import psutil
    except ImportError:
        raise MissingExtra("measuring", "measure") from None
    return float(psutil.virtual_memory().available / GIB)
