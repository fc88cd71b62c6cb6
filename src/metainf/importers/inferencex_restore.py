"""Rows of the InferenceX campaign in the long table: facts that the table lost are put back.

The table's rows came through an export that dropped drafting and most worker counts and that multiplied
parallel degrees (tensor = expert * expert). A row is matched with the campaign's own lists by its stated
configuration alone; a fact is filled where every matching point agrees on it. The rest stays unknown.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from functools import cache
from statistics import median
from typing import Any

from metainf.importers.inferencex_runs import Engine, Point, points
from metainf.importers.long_table_method import POOLS, Row, text

CAMPAIGN = "inferencex"
COLUMNS = (
    *("subsource", "source_path", "date", "model", "hardware", "precision", "engine", "engine_version"),
    *("input_len", "output_len", "concurrency", "num_devices"),
    *("tp", "ep", "dp", "disagg", "other_method"),
)
RACK_WIDE = 12
"""Tensor degrees from here on, without experts, are the devices of both pools."""
OWN_POINTS, EACH_KIND = 3, 4
"""Points of the other half that a day's rows must lack, or points of each kind to compare counts on."""


class Restorer:
    """Restores rows one by one; needs all rows first, to see which half of a list a day's rows are from."""

    def __init__(self, rows: Iterable[Row]) -> None:
        days: defaultdict[Hashable, list[Row]] = defaultdict(list)
        for row in rows:
            if text(row, "subsource") == CAMPAIGN:
                days[_day(row)].append(row)
        self.halves = {day: _only_half(members) for day, members in days.items()}

    def __call__(self, row: Row) -> Row:
        """The row with what is known of its configuration; its former degrees go into `source_path`."""
        if text(row, "subsource") != CAMPAIGN:
            return row
        found = candidates(row)
        half = self.halves.get(_day(row), ())
        if half:
            found = [point for point in found if point.drafting == half[0]]
        changes = _pooled(row, found) if _is_pooled(row) else _single(row, found)
        changes |= _drafting(row, found)
        if not changes:
            return row
        return {**row, **changes, "source_path": _note(row, found, changes)}


def restorer_of(table: Any, names: set[str]) -> Restorer | None:
    """What restores the rows of an opened Parquet table; None where the campaign has none in it."""
    if not names.issuperset(("subsource", "concurrency", "tp")):
        return None
    if CAMPAIGN not in set(table.read(columns=["subsource"])["subsource"].to_pylist()):
        return None
    return Restorer(table.read(columns=sorted(names.intersection(COLUMNS))).to_pylist())


def candidates(row: Row) -> list[Point]:
    """Points of the lists that a row may be, by what it states of its configuration."""
    lengths = (_int(row, "input_len"), _int(row, "output_len"))
    there = [
        point
        for point in _listed(row)
        if (point.input_tokens, point.output_tokens) == lengths and _same_layout(row, point)
    ]
    load = _int(row, "concurrency")
    return [point for point in there if point.concurrency == load] or _by_total(row, there)


def readings(row: Row) -> list[tuple[int, bool, bool | None]]:
    """Layouts of one engine that the stated degrees can mean: devices, experts, attention data parallel.

    In the campaign's lists the expert degree is 1 or the tensor degree. The export wrote tensor * expert for
    tensor, and tensor * tensor for data, on half of its rows; both forms name the same run.
    """
    tp, ep, dp = (_int(row, column) or 1 for column in ("tp", "ep", "dp"))
    if dp == 1 and ep == 1:
        return [(tp, False, False)]
    if dp == 1 and tp in (ep, ep * ep):
        return [(ep, True, False)]
    if tp == 1 and ep > 1 and dp in (ep, ep * ep):
        return [(ep, True, True)]
    if tp == dp and ep == tp * dp:
        return [(tp, True, None)]
    return []


def _day(row: Row) -> Hashable:
    named = ("model", "precision", "hardware", "engine", "engine_version", "date", "disagg")
    return tuple(text(row, column) for column in named)


def _same_layout(row: Row, point: Point) -> bool:
    if point.prefill is None:
        mine = point.decode
        if not point.run.degrees_said:
            return readings(row) == [(mine.devices, False, False)]
        return any(
            (devices, experts) == (mine.devices, mine.experts) and attention in (None, mine.attention)
            for devices, experts, attention in readings(row)
        )
    if point.run.pool_total and _total(row) is not None:
        return _total(row) == point.devices
    pools = POOLS.fullmatch(text(row, "other_method") or "")
    if pools is None:
        return False
    first, second = (_said(pools.groupdict(), role) for role in "pd")
    if first[0] is not None:
        return _is(point.prefill, *first) and _is(point.decode, *second)
    if not point.run.degrees_said:
        return first[1] == second[1] == 1
    experts = point.prefill.experts and point.prefill.devices > 1
    return (first[1], second[1]) == (point.prefill.devices, point.decode.devices) and (
        first[2] > 1
    ) == experts


def _said(match: dict[str, Any], role: str) -> tuple[int | None, int, int, int]:
    """Workers (None where not said), tensor, expert and attention data degree of one pool."""
    numbers = [match[f"{role}{letter}"] for letter in "wted"]
    workers, *degrees = (None if word == "nan" else int(float(word)) for word in numbers)
    tensor, expert, attention = (degree or 1 for degree in degrees)
    return workers, tensor, expert, attention


def _is(engine: Engine, workers: int | None, tensor: int, expert: int, attention: int) -> bool:
    mine = (engine.workers, engine.devices, engine.experts, engine.attention)
    return mine == (workers, tensor * attention, expert > 1, attention > 1)


def _total(row: Row) -> int | None:
    """Devices of both pools, where a GB200 row gives them as the tensor degree of everything."""
    if text(row, "hardware") != "GB200":
        return None
    if not _disaggregated(row):
        tp, ep, dp = (_int(row, column) or 1 for column in ("tp", "ep", "dp"))
        return tp if tp >= RACK_WIDE and ep == dp == 1 else None
    match = POOLS.fullmatch(text(row, "other_method") or "")
    if match is None:
        return None
    prefill, decode = (_said(match.groupdict(), role) for role in "pd")
    return prefill[1] if prefill == decode and prefill == (None, max(prefill[1], RACK_WIDE), 1, 1) else None


def _by_total(row: Row, there: Sequence[Point]) -> list[Point]:
    """Loads that a later list left out: the one layout of that size, where there is only one."""
    if _total(row) is None:
        return []
    layouts = {(point.prefill, point.decode, point.drafting) for point in there if point.run.pool_total}
    return list(there[:1]) if len(layouts) == 1 else []


def _only_half(rows: Sequence[Row]) -> tuple[str | None, ...]:
    """("mtp",) or (None,) where all rows of a day are from one half of a list alone, else ().

    All rows fit that half, and either the other half has points of its own that are missing, or the points
    that both halves have occur no more often than those of this half alone.
    """
    family = {point for row in rows for point in _listed(row)}
    seen = {
        drafting: {point.seen for point in family if point.drafting == drafting} for drafting in ("mtp", None)
    }
    fits = [[(point.drafting, point.seen) for point in candidates(row)] for row in rows]
    covering = [half for half in seen if all(any(d == half for d, _ in fit) for fit in fits)]
    if len(covering) != 1 or not all(seen.values()):
        return ()
    mine, other = seen[covering[0]], next(points for half, points in seen.items() if half != covering[0])
    if len(other - mine) >= OWN_POINTS:
        return (covering[0],)
    times = Counter(next(key for drafting, key in fit if drafting == covering[0]) for fit in fits)
    alone = [count for key, count in times.items() if key not in other]
    both = [count for key, count in times.items() if key in other]
    if min(len(alone), len(both)) >= EACH_KIND and median(both) <= median(alone):
        return (covering[0],)
    return ()


def _listed(row: Row) -> list[Point]:
    """Points of the row's family that existed on its day and are pools where the row is."""
    named = [text(row, column) or "" for column in ("precision", "hardware", "engine", "engine_version")]
    day, pooled = text(row, "date") or "", _is_pooled(row)
    return [
        point
        for point in points().get((_model(row), named[0], named[1], named[2], named[3]), ())
        if point.run.since <= day < point.run.before and (point.prefill is not None) == pooled
    ]


def _is_pooled(row: Row) -> bool:
    return _disaggregated(row) or _total(row) is not None


def _model(row: Row) -> str:
    return (text(row, "model") or "").rsplit("/", 1)[-1].lower()


def _single(row: Row, found: Sequence[Point]) -> dict[str, Any]:
    """Degrees and devices of one engine, from the lists or from the stated degrees alone."""
    layouts = {(e.devices, e.experts, e.attention) for e in (point.decode for point in found)}
    said = list(layouts) if len(layouts) == 1 else readings(row)
    if len(said) != 1:
        return {"num_devices": None}
    devices, experts, attention = said[0]
    wanted: dict[str, Any] = {"tp": devices, "ep": devices if experts else 1, "dp": 1, "num_devices": devices}
    if attention is not False:
        wanted |= {"dp": None, "attention_data": attention}
    return {} if all(row.get(key) == value for key, value in wanted.items()) else wanted


def _pooled(row: Row, found: Sequence[Point]) -> dict[str, Any]:
    """Both pools as far as the points agree. Where nothing matches, what the export made up is dropped."""
    match = POOLS.fullmatch(text(row, "other_method") or "")
    if match and _said(match.groupdict(), "p")[0] is not None:
        return {}
    said = None if _total(row) else match
    prefill = _pool([p.prefill for p in found if p.prefill], said, "p")
    decode = _pool([p.decode for p in found], said, "d")
    changes: dict[str, Any] = {"other_method": f"P{prefill}/D{decode}", "disagg": True}
    changes |= dict.fromkeys(("tp", "pp", "ep", "dp"))
    total = {point.devices for point in found}
    return changes | {"num_devices": total.pop() if len(total) == 1 else _total(row)}


def _pool(engines: Sequence[Engine], match: Any, role: str) -> str:
    """`1xtp4ep4dpa1` with nan for what is not known."""
    workers, devices, experts, attention = (
        _agreed([getattr(engine, field) for engine in engines])
        for field in ("workers", "devices", "experts", "attention")
    )
    if not engines and match:
        _, tensor, expert, _ = _said(match.groupdict(), role)
        devices = tensor if tensor > 1 else None
        experts = expert > 1 if devices and role == "p" else None
    if devices is None:
        return f"{_or_nan(workers)}xtpnanepnandpanan"
    width = {None: (devices, None), True: (1, devices), False: (devices, 1)}[attention]
    expert_degree = None if experts is None else devices if experts else 1
    return f"{_or_nan(workers)}xtp{width[0]}ep{_or_nan(expert_degree)}dpa{_or_nan(width[1])}"


def _drafting(row: Row, found: Sequence[Point]) -> dict[str, Any]:
    """Whether tokens are drafted, where the points agree and some run of that family drafts."""
    kinds = {point.drafting for point in found}
    if len(kinds) != 1 or not _drafts(_model(row), text(row, "engine") or ""):
        return {}
    if kinds == {None}:
        return {"spec_decode": "none"}
    tokens = _agreed([point.draft_tokens for point in found])
    return {"spec_decode": "mtp" if tokens is None else f"mtp,speculative-num-draft-tokens={tokens}"}


@cache
def _drafts(model: str, engine: str) -> bool:
    """Whether any run of this model and engine drafts tokens."""
    found = (each for family, each in points().items() if (family[0], family[3]) == (model, engine))
    return any(point.drafting for each in found for point in each)


def _note(row: Row, found: Sequence[Point], changes: dict[str, Any]) -> str:
    stated = " ".join(f"{column}={_int(row, column)}" for column in ("tp", "ep", "dp", "num_devices"))
    told = f"stated {text(row, 'other_method') if _disaggregated(row) else stated}"
    where = sorted({point.run.location for point in found}) or ["the stated degrees"]
    what = "layout" if changes.keys() - {"spec_decode"} else ""
    what = " and ".join(filter(None, (what, "drafting" if "spec_decode" in changes else "")))
    return f"{text(row, 'source_path') or ''}; {what} from {', '.join(where)}; {told}"


def _agreed(values: Sequence[Any]) -> Any:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _or_nan(value: object) -> str:
    return "nan" if value is None else str(value)


def _int(row: Row, column: str) -> int | None:
    value = row.get(column)
    if not isinstance(value, int | float) or value != value:
        return None
    return int(value)


def _disaggregated(row: Row) -> bool:
    return (text(row, "disagg") or "").lower() in ("true", "1", "1.0")
