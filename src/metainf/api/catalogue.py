"""What things are called, and what is known of them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from metainf import catalog
from metainf.domain import Device, Hardware, Method, Model, NotSupported, Setting, Technique, Workload
from metainf.domain.errors import BadInput, UnknownName
from metainf.domain.shown import method_words

if TYPE_CHECKING:
    from metainf.selection.admitting import Machine

HERE = "here"
LONGEST_NAME = 200
TRACE_ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".txt")


def models() -> list[Model]:
    """Every model of the catalogue."""
    return list(catalog.models().values())


def model(name_or_path: str, offline: bool = False) -> Model:
    """A model by name, or read from config.json, a diffusers folder or a GGUF file.

    A name of the form organisation/name that the catalogue does not know is looked up on the Hugging Face
    hub, unless `offline` (see `catalog.hub`). Raises UnknownName saying what came of it.
    """
    try:
        return catalog.find_model(name_or_path)
    except UnknownName as unknown:
        from metainf.catalog.hub import Hub, HubError, looks_like_repository

        if not looks_like_repository(name_or_path):
            raise
        hub = None if offline else Hub.of_environment(os.environ)
        if hub is None:
            raise unknown.explained("the Hugging Face hub was not asked (offline)") from None
        try:
            return hub.model(name_or_path)
        except HubError as error:
            raise unknown.explained(str(error)) from None


def model_of_config(config: dict[str, Any]) -> Model:
    """A model from the parsed text of its config.json. BadInput saying what is missing or wrong."""
    from metainf.catalog.huggingface import model_of

    name = config.get("_name_or_path") or config.get("model_type")
    told = name if isinstance(name, str) and 0 < len(name) <= LONGEST_NAME else "a model"
    try:
        found = model_of(config, told)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise BadInput(f"expected a Hugging Face configuration: {type(error).__name__}: {error}") from None
    return found.model_copy(update={"source": "config.json as it was given"})


def devices() -> list[Device]:
    """Every device of the catalogue."""
    return list(catalog.devices().values())


def device(name_or_path: str) -> Device:
    """A device by name or from a small .toml."""
    return catalog.find_device(name_or_path)


def price(device_name: str) -> float | None:
    """Median on-demand price in US dollars per device and hour, None where none is known."""
    try:
        found = catalog.price(device_name)
    except UnknownName:
        return None
    return None if found is None else found.usd_per_device_hour


def prices(name_or_path: str) -> list[catalog.Price]:
    """Newest price of each tier of a device, none for one that the catalogue does not know."""
    try:
        found = [catalog.price(name_or_path, tier) for tier in catalog.tiers(name_or_path)]
    except BadInput:
        return []
    return [price for price in found if price is not None]


def quotes(name_or_path: str) -> list[catalog.Quote]:
    """What providers ask for a device on demand, cheapest first."""
    found = catalog.quotes(device(name_or_path).name)
    return sorted(found, key=lambda quote: (quote.usd_per_device_hour, quote.provider))


def detect() -> list[Hardware]:
    """The hardware of this machine."""
    return list(catalog.detect())


def workloads() -> dict[str, tuple[Workload, str]]:
    """Named workloads with their sources."""
    return dict(catalog.workloads())


def techniques() -> dict[str, str]:
    """Kinds of technique, with what they are."""
    union = get_args(get_args(Technique)[0])
    return {
        kind.model_fields["kind"].default: (kind.__doc__ or kind.__name__).partition("\n")[0]
        for kind in union
    }


def offers() -> dict[str, list[str]]:
    """Kind of technique -> the engines that have a setting for it."""
    from metainf import engines

    kinds = [(name, maker.offers) for name, maker in engines.engines().items()]
    union = {kind.model_fields["kind"].default: kind for kind in get_args(get_args(Technique)[0])}
    return {name: [engine for engine, offered in kinds if kind in offered] for name, kind in union.items()}


def runnable(engine: str, names: Sequence[str]) -> list[str]:
    """The models for which an engine has a method on some common hardware (eight H100 or one MI300X)."""
    from metainf import engines

    maker = engines.engine(engine)
    machines = [machine for machine, _ in hardware_of(["8xh100", "mi300x"])]
    return [
        n for n in names if any(maker.methods(model(n, True), machine, Workload()) for machine in machines)
    ]


def methods(engine: str, model_name: str, on: str, offline: bool = False) -> list[tuple[Method, str]]:
    """Candidate methods of an engine, each with its launch command. NotSupported, naming others, for none."""
    from metainf import engines

    found: list[tuple[Method, str]] = []
    subject = model(model_name, offline)
    for hardware in hardware_of([on]):
        maker = engines.engine(engine)
        for method in maker.methods(subject, hardware[0], Workload()):
            found.append((method, maker.launch(subject, method, hardware[0], Workload()).command))
    if not found:
        machines = [hardware for hardware, _ in hardware_of([on])]
        others = [n for n, e in engines.engines().items() if any(e.methods(subject, m) for m in machines)]
        can = f"{', '.join(others)} can" if others else "no engine that is known can"
        raise NotSupported(f"{engine} cannot run {subject.name} on {on}: {can}")
    return found


def hardware_of(given: Sequence[str | Hardware]) -> list[tuple[Hardware, float | None]]:
    """Hardware with its price per hour; see `machines_of`."""
    return [(each.hardware, each.usd_per_hour) for each in machines_of(given)]


def machines_of(given: Sequence[str | Hardware]) -> "list[Machine]":
    """Hardware with its prices per hour from texts such as "1-4xL4" or "2xh100-sxm@3.5", or as it is.

    "here" is the hardware of this machine. Hardware that is named twice counts once. A stated price wins over
    the catalogue's; raises BadInput for two different stated ones.
    """
    found: dict[str, Hardware] = {}
    stated: dict[str, float] = {}
    own: set[str] = set()
    for text in given:
        if isinstance(text, Hardware):
            found[text.id] = text
            continue
        if text.strip().lower() == HERE and catalog.may_be_file():
            here = {item.id: item for item in detect()}
            found.update(here)
            own.update(here)
            continue
        prices_stated = catalog.parse_price(text)
        for item in catalog.parse_hardware(text):
            found[item.id] = item
            each = prices_stated.get(item.device.name)
            if each is None:
                continue
            if stated.setdefault(item.id, each) != each:
                raise BadInput(
                    f"{item.count} × {item.device.name}: expected one price, found {stated[item.id]:g} and "
                    f"{each:g} dollars per device and hour"
                )
    if not found:
        raise BadInput('expected hardware such as "1-4xL4", found none')
    return [_machine(item, stated.get(item.id), item.id in own) for item in found.values()]


def _machine(item: Hardware, stated: float | None, here: bool) -> "Machine":
    from metainf.selection.admitting import Machine

    usd = _per_hour(item, stated)
    if usd is None or stated is not None or here:
        return Machine(item, usd, own=True)
    count = item.count or 1
    asked = {quote.provider: quote.usd_per_device_hour * count for quote in catalog.quotes(item.device.name)}
    return Machine(item, usd, quotes=asked)


def _per_hour(item: Hardware, stated: float | None) -> float | None:
    each = price(item.device.name) if stated is None else stated
    return None if each is None or item.count is None else each * item.count


def workload(name_or_path: str) -> Workload:
    """A workload by name, or the moments of a trace file. A known name wins over a file of that name."""
    if not name_or_path.strip():
        raise BadInput("expected the name of a workload or a trace file, found an empty text")
    path = Path(name_or_path)
    known = name_or_path in catalog.workloads() or not catalog.may_be_file()
    if not known and (path.exists() or path.suffix in TRACE_ENDINGS):
        from metainf.importers.traces import read_trace

        return read_trace(name_or_path)
    return catalog.find_workload(name_or_path)


def workload_of(text: str | None, changes: dict[str, Any]) -> Workload:
    """A named workload or a trace file, with fields replaced. Lengths may be plain token counts."""
    base: dict[str, Any] = {}
    if text is not None:
        base = workload(text).model_dump(mode="json", exclude_none=True)
    for side in ("input_tokens", "output_tokens"):
        if isinstance(changes.get(side), (int, float)):
            changes = changes | {side: {"mean": changes[side]}}
    given = {key: value for key, value in changes.items() if value is not None}
    if "concurrency" in given:
        base.pop("request_rate_per_s", None)
    merged = Workload.of(base | given)
    for side, lengths in (("input", merged.input_tokens), ("output", merged.output_tokens)):
        if lengths is not None and not 0 < lengths.mean <= 10_000_000:
            raise BadInput(f"expected between 1 and 10,000,000 {side} tokens, found {lengths.mean:g}")
    _check_load(merged)
    return merged


def _check_load(work: Workload) -> None:
    from metainf.embed.physics import MOST_IN_FLIGHT

    if work.concurrency is not None and not 1 <= work.concurrency <= MOST_IN_FLIGHT:
        raise BadInput(
            f"expected between 1 and {MOST_IN_FLIGHT:,.0f} requests in flight, found {work.concurrency:g}"
        )


def describe(model_name: str, hardware: str | None, workload: str | None, offline: bool = False) -> str:
    """The generated description, in paragraphs."""
    from metainf.embed.describe import describe as describe_setting
    from metainf.embed.describe import describe_hardware, describe_model, describe_workload

    subject = model(model_name, offline)
    if hardware and workload:
        machine = hardware_of([hardware])[-1][0]
        return describe_setting(Setting(model=subject, workload=workload_of(workload, {}), hardware=machine))
    parts = [describe_model(subject)]
    if hardware:
        parts.append(describe_hardware(hardware_of([hardware])[-1][0]))
    if workload:
        parts.append(describe_workload(workload_of(workload, {})))
    return "\n\n".join(parts)


def method_in_words(method: Any) -> str:
    """A method on one short line."""
    if not isinstance(method, Method):
        raise NotSupported(f"expected a method, found {type(method).__name__}")
    return method_words(method)
