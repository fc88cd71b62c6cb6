"""Known conflicts, silent no-ops and harm between techniques, per engine and version, with sources.

The rows live in `data/compatibility.toml`; its head explains the condition language.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import resources
from typing import Literal

from metainf.domain import (
    BadInput,
    Frozen,
    Hardware,
    Method,
    Model,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.engines.device_support import capability, maker
from metainf.engines.formats import is_gguf

Effect = Literal["conflict", "no_effect", "harmful"]
Fact = float | str | bool | tuple[int, int]

_CONDITION = re.compile(
    r"^(?P<not>not )?(?P<path>[a-z_]+(\.[a-z_0-9]+)?)( (?P<op>==|in|<=|>=|<|>) (?P<value>.+))?$"
)
_BOUND = re.compile(r"^(<=|>=|<|>|==)\s*([0-9][0-9a-z.]*)$")


class Finding(Frozen):
    """One row that applies: what happens, between which techniques, why, and who says so."""

    rule: str
    engine: str
    effect: Effect
    techniques: tuple[str, ...]
    why: str
    source: str


class Row(Frozen):
    """One row of the table, conditions still in text."""

    rule: str
    engine: str
    versions: str
    when: tuple[str, ...]
    effect: Effect
    why: str
    source: str

    @property
    def techniques(self) -> tuple[str, ...]:
        """The technique kinds the conditions speak of."""
        paths = (part.removeprefix("not ").split(" ")[0].split(".")[0] for part in self.when)
        return tuple(dict.fromkeys(path for path in paths if path not in ("model", "workload", "device")))


@cache
def _table() -> tuple[tuple[Row, ...], Mapping[str, str]]:
    text = resources.files("metainf.engines").joinpath("data/compatibility.toml").read_text("utf-8")
    raw = tomllib.loads(text)
    return tuple(Row.of(row) for row in raw["row"]), raw["reference"]


def rows() -> tuple[Row, ...]:
    """Every row of the table, in file order."""
    return _table()[0]


@cache
def rows_of(engine: str, version: str | None) -> tuple[Row, ...]:
    """The rows that speak of one version of an engine, in file order."""
    return tuple(row for row in rows() if row.engine == engine and version_within(version, row.versions))


def reference_version(engine: str) -> str | None:
    """The version that a method without one is taken to run; None for an engine without rows."""
    return _table()[1].get(engine)


def check(
    method: Method, model: Model, workload: Workload, hardware: Hardware | None = None
) -> list[Finding]:
    """Every row that applies to this method. Device conditions need `hardware`; without it they hold not."""
    facts = _facts(method, model, workload, hardware)
    version = method.engine_version or reference_version(method.engine)
    found = []
    for row in rows_of(method.engine, version):
        if all(holds(condition, facts) for condition in row.when):
            found.append(
                Finding(
                    rule=row.rule,
                    engine=row.engine,
                    effect=row.effect,
                    techniques=row.techniques,
                    why=row.why,
                    source=row.source,
                )
            )
    return found


def is_hybrid(model: Model) -> bool:
    """Some layers keep no key-value cache (Mamba, linear attention)."""
    return model.kv_layers is not None and model.num_layers is not None and model.kv_layers < model.num_layers


def _facts(method: Method, model: Model, workload: Workload, hardware: Hardware | None) -> dict[str, Fact]:
    facts = dict(_situation(model, workload, hardware))
    for technique in method.techniques:
        facts |= _told_by(technique)
    quantized = method.get(WeightQuantization)
    facts["weight_quantization.gguf"] = quantized is not None and is_gguf(quantized.format)
    return facts


@lru_cache(maxsize=4096)
def _told_by(technique: Technique) -> Mapping[str, Fact]:
    """The facts of one technique: whether it is on, and its settings."""
    values = {field: value for field, value in technique if value is not None}
    named = {f"{technique.kind}.{field}": value for field, value in values.items()}
    return {technique.kind: values.get("enabled", True), **named}


@lru_cache(maxsize=256)
def _situation(model: Model, workload: Workload, hardware: Hardware | None) -> Mapping[str, Fact]:
    """The facts that every method of a setting shares."""
    facts: dict[str, Fact] = {
        "model.hybrid": is_hybrid(model),
        "model.mla": model.kv_lora_rank is not None,
        "model.moe": (model.num_experts or 1) > 1,
    }
    load = workload.concurrency or workload.batch_size
    if load is not None:
        facts["workload.load"] = float(load)
    if workload.input_tokens is not None:
        facts["workload.input_mean"] = workload.input_tokens.mean
    if hardware is not None:
        facts["device.maker"] = maker(hardware.device)
        found = capability(hardware.device)
        if found is not None:
            facts["device.capability"] = found
    return facts


def holds(condition: str, facts: Mapping[str, Fact]) -> bool:
    """Whether one condition holds. An unknown fact makes it false, negated or not."""
    path, op, value, negated = _parsed(condition)
    fact = facts.get(path)
    if fact is None:
        return False
    return _compare(fact, op, value) != negated


@cache
def _parsed(condition: str) -> tuple[str, str | None, str | None, bool]:
    match = _CONDITION.match(condition)
    if match is None:
        raise BadInput(f"expected `[not ]path[ OP value]`, found {condition!r}")
    return match["path"], match["op"], match["value"], bool(match["not"])


def _compare(fact: Fact, op: str | None, value: str | None) -> bool:
    if op is None or value is None:
        return bool(fact)
    if op in ("==", "in"):
        return str(fact).lower() in [item.strip().lower() for item in value.split(",")]
    if isinstance(fact, tuple):
        return _ordered(fact, op, _numbers(value))
    return isinstance(fact, int | float) and _ordered((float(fact),), op, (float(value),))


def _ordered(left: tuple[float, ...], op: str, right: tuple[float, ...]) -> bool:
    size = max(len(left), len(right))
    a, b = (side + (0,) * (size - len(side)) for side in (left, right))
    return {"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b, "==": a == b}[op]


def _numbers(version: str) -> tuple[int, ...]:
    """Leading numeric parts of a version: `0.26.1rc1` is (0, 26, 1); a `v` or build `b` prefix is dropped."""
    parts: list[int] = []
    for part in version.lstrip("vb").split("+")[0].split("."):
        digits = re.match(r"\d+", part)
        if digits is None:
            break
        parts.append(int(digits[0]))
    return tuple(parts)


@lru_cache(maxsize=4096)
def version_within(version: str | None, bounds: str) -> bool:
    """Whether a version meets every comma-separated bound; an unknown version meets only no bounds."""
    if not bounds.strip():
        return True
    if version is None or not _numbers(version):
        return False
    for bound in bounds.split(","):
        match = _BOUND.match(bound.strip())
        if match is None:
            raise BadInput(f"expected a bound such as `<=0.15.0`, found {bound!r}")
        if not _ordered(_numbers(version), match[1], _numbers(match[2])):
            return False
    return True
