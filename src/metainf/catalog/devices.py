"""Devices by the names that people and benchmark files give them, and hardware written in one line."""

import re
from functools import cache, lru_cache
from pathlib import Path

from metainf.catalog.names import device_key, may_be_file, memory_in
from metainf.catalog.tables import Entries, table
from metainf.domain import BadInput, Device, Hardware, UnknownName

MEMORY_TOLERANCE = 0.2  # drivers report 22 to 24 GB for a 24 GB card
WIDEST_RANGE = 64
HARDWARE = re.compile(
    r"(?:(?P<low>\d+)(?:\s*[-–—]\s*(?P<high>\d+))?\s*[x×*]\s*(?=\S))?(?P<device>[^@]+?)"
    r"(?:\s*@\s*\$?(?P<price>[\d.]+))?",
    re.IGNORECASE,
)


@cache
def devices() -> Entries[Device]:
    """Every device of the catalogue by its short name."""
    return Entries("devices", Device.of)


@cache
def claims() -> dict[str, list[tuple[float | None, str]]]:
    """Comparison key of every name, title and alias -> (memory stated with it, device) in file order."""
    found: dict[str, list[tuple[float | None, str]]] = {}
    for field in ("aliases", "name", "title"):
        for row in table("devices"):
            given = row.get(field) or ()
            for alias in (given,) if isinstance(given, str) else given:
                claim = (memory_in(alias), row["name"])
                same_key = found.setdefault(device_key(alias), [])
                if claim not in same_key:
                    same_key.append(claim)
    return found


@lru_cache(maxsize=4096)
def lookup(name: str) -> str | None:
    """Catalogue name of a known device name; the memory it states must fit within 20 %.

    Without a memory size the variant that claims the plain name wins: `A100` is the 80 GB SXM card.
    """
    if name in devices():
        return name
    candidates = claims().get(device_key(name), [])
    memory = memory_in(name)
    exact = [device for stated, device in candidates if stated == memory]
    if exact or memory is None:
        return exact[0] if exact else candidates[0][1] if candidates else None
    fitting = [
        (gap, rank, n) for rank, (_, n) in enumerate(candidates) if (gap := _gap(n, memory)) is not None
    ]
    return min(fitting)[2] if fitting else None


def _gap(name: str, memory: float) -> float | None:
    """Relative difference between stated and catalogued memory, None where it is too large."""
    own = devices().row(name).get("memory_gib")
    gap = 0.0 if own is None else abs(memory - float(own)) / float(own)
    return gap if gap <= MEMORY_TOLERANCE else None


def find_device(name_or_path: str) -> Device:
    """The device of that name (`H100`, `A100-80GB`, `NVIDIA H100 80GB HBM3`), or that of a .toml file.

    Raises UnknownName with near misses, or BadInput for a file that cannot be understood.
    """
    return _machine(name_or_path)[0]


def _machine(name_or_path: str) -> tuple[Device, str | None]:
    """The device, and the trusted execution environment that its file names."""
    if name_or_path.endswith(".toml") and may_be_file():
        from metainf.catalog.device_file import read_machine

        return read_machine(Path(name_or_path))
    found = lookup(name_or_path)
    if found is None:
        known = [n for row in table("devices") for n in (row["name"], row["title"], *row.get("aliases", ()))]
        raise UnknownName("device", name_or_path, known)
    return devices()[found], None


def parse_hardware(text: str) -> list[Hardware]:
    """Hardware written in one line: `h100`, `4xL4`, `1-4xL4` (one entry for each count), `2xh100@3.5`.

    Several kinds are separated by commas. Raises BadInput or UnknownName.
    """
    return [hardware for hardware, _ in _parse(text)]


def parse_price(text: str) -> dict[str, float]:
    """Own prices in `parse_hardware` text: device name -> US dollars per device and hour."""
    return {hardware.device.name: usd for hardware, usd in _parse(text) if usd is not None}


def _parse(text: str) -> list[tuple[Hardware, float | None]]:
    found: list[tuple[Hardware, float | None]] = []
    for part in text.split(","):
        if whole := lookup(part.strip()):
            found.append((Hardware(device=devices()[whole], count=1), None))
            continue
        match = HARDWARE.fullmatch(part.strip())
        if match is None:
            raise BadInput(f"cannot read hardware {part.strip()!r}: write h100, 4xL4, 1-4xL4 or 2xh100@3.5")
        low = int(match["low"] or 1)
        high = int(match["high"] or low)
        if not 1 <= low <= high <= 4096:
            raise BadInput(f"cannot read hardware {part.strip()!r}: counts must rise from 1 to at most 4096")
        if high - low >= WIDEST_RANGE:
            raise BadInput(
                f"cannot read hardware {part.strip()!r}: a range holds at most {WIDEST_RANGE} counts, found "
                f"{high - low + 1}; name those you mean: {low}x{match['device']},{high}x{match['device']}"
            )
        usd = _usd(match["price"], part)
        device, attestation = _machine(match["device"].strip())
        found += [
            (Hardware(device=device, count=n, attestation=attestation), usd) for n in range(low, high + 1)
        ]
    return found


def _usd(text: str | None, part: str) -> float | None:
    if text is None:
        return None
    try:
        usd = float(text)
    except ValueError:
        usd = 0.0
    if usd <= 0:
        raise BadInput(
            f"cannot read the price in {part.strip()!r}: give US dollars per device and hour above 0"
        )
    return usd
