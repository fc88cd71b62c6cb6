"""metainf models | hardware | workloads | methods: what things are called, and what is known of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeVar

import typer

from metainf.cli.names import engine_names, hardware_names, model_names, one_of, workload_names
from metainf.cli.options import MODALITIES, MODEL_HELP, Json, Offline
from metainf.cli.show import fields, print_json, table

T = TypeVar("T")
KINDS = ("gpu", "cpu", "apu", "tpu", "npu")
Match = Annotated[str, typer.Argument(help="Show only names that contain this.")]

models = typer.Typer(help="Models of the catalogue.", no_args_is_help=True)
hardware = typer.Typer(help="Devices of the catalogue, and this machine.", no_args_is_help=True)
workloads = typer.Typer(help="Named workloads, from public request traces.", no_args_is_help=True)
methods = typer.Typer(help="Acceleration methods by engine.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these groups to the root."""
    app.add_typer(models, name="models")
    app.add_typer(hardware, name="hardware")
    app.add_typer(workloads, name="workloads")
    app.add_typer(methods, name="methods")


@models.command("list")
def models_list(
    match: Match = "",
    modality: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(MODALITIES)}.", autocompletion=one_of(*MODALITIES)),
    ] = None,
    family: Annotated[str | None, typer.Option(help="Family, such as Qwen3 or FLUX.1.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="Only those that this engine runs.", autocompletion=engine_names)
    ] = None,
    json: Json = False,
) -> None:
    """Models that can be named without a file."""
    from metainf import api

    rows = [m for m in api.models() if match.lower() in m.name.lower()]
    rows = only("modality", modality, rows, lambda m: m.modality, MODALITIES)
    rows = only("family", family, rows, lambda m: m.family, {m.family for m in api.models() if m.family})
    if engine is not None:
        kept = set(api.runnable(engine, [m.name for m in rows]))
        rows = [m for m in rows if m.name in kept]
    if json:
        print_json(rows)
        return
    head = ("model", "modality", "params_b", "active_b", "layers", "experts")
    table(
        head, [(m.name, m.modality, m.params_b, m.active_params_b, m.num_layers, m.num_experts) for m in rows]
    )


@models.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help=MODEL_HELP, autocompletion=model_names)],
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Facts of one model: a catalogue or hub name, a config.json, a diffusers folder or a GGUF file."""
    from metainf import api

    model = api.model(name, offline)
    print_json(model) if json else fields(model)


@hardware.command("list")
def hardware_list(
    match: Match = "",
    vendor: Annotated[str | None, typer.Option(help="Maker, such as NVIDIA.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(KINDS)}.", autocompletion=one_of(*KINDS)),
    ] = None,
    json: Json = False,
) -> None:
    """Devices that can be named without a file, with their usual price."""
    from metainf import api

    every = api.devices()
    rows = [d for d in every if match.lower() in f"{d.name} {d.title} {d.vendor}".lower()]
    rows = only("vendor", vendor, rows, lambda d: d.vendor, {d.vendor for d in every if d.vendor})
    rows = only("kind", kind, rows, lambda d: d.kind, {d.kind for d in every if d.kind})
    if json:
        print_json(rows)
        return
    head = ("device", "vendor", "memory_gib", "gb_per_s", "bf16_tflops", "tdp_w", "usd_per_hour")
    found = [
        (
            *(d.name, d.vendor, d.memory_gib, d.memory_bandwidth_gb_per_s, d.bf16_tflops, d.tdp_w),
            api.price(d.name),
        )
        for d in rows
    ]
    table(head, found)


@hardware.command("show")
def hardware_show(
    name: Annotated[str, typer.Argument(help="Name or .toml file.", autocompletion=hardware_names)],
    json: Json = False,
) -> None:
    """Facts of one device, with its prices: a catalogue name or a small .toml file."""
    from metainf import api

    device, prices = api.device(name), api.prices(name)
    if json:
        print_json(device)
        return
    fields(device)
    if prices:
        head = ("tier", "$/device-hour", "low", "high", "offers", "date", "source")
        rows = [(p.tier, p.usd_per_device_hour, p.low, p.high, p.offers, p.date, p.source) for p in prices]
        table(head, rows, below="source")
    if found := api.quotes(name):
        told = ", ".join(f"{each.provider} {each.usd_per_device_hour:g}" for each in found)
        typer.echo(f"On demand by provider, $/device-hour: {told}")


@hardware.command("detect")
def hardware_detect(json: Json = False) -> None:
    """Recognise this machine: CPU, memory, accelerators."""
    from metainf import api

    found = api.detect()
    if json:
        print_json(found)
        return
    for item in found:
        typer.echo(f"{item.count or '?'} × {item.device.title or item.device.name}")
        fields(item.device)


@workloads.command("list")
def workloads_list(match: Match = "", json: Json = False) -> None:
    """Workloads that can be named without a trace file."""
    from metainf import api

    rows = {name: found for name, found in api.workloads().items() if match.lower() in name.lower()}
    if json:
        print_json([work for work, _ in rows.values()])
        return
    head = ("workload", "tokens in", "tokens out", "requests/s", "prefix share", "requests")
    table(
        head,
        [
            (
                name,
                w.input_tokens.mean if w.input_tokens else None,
                w.output_tokens.mean if w.output_tokens else None,
                *(w.request_rate_per_s, w.prefix_share, w.num_requests),
            )
            for name, (w, _) in rows.items()
        ],
    )


@workloads.command("show")
def workloads_show(
    name: Annotated[str, typer.Argument(help="Name or trace file.", autocompletion=workload_names)],
    json: Json = False,
) -> None:
    """Length moments, rate and prefix sharing of a named workload or of a trace file."""
    from metainf import api

    work = api.workload(name)
    if json:
        print_json(work)
        return
    fields(work)
    if name in api.workloads():
        print(f"{'source':28} {api.workloads()[name][1]}")


@methods.command("list")
def methods_list(
    engine: Annotated[
        str | None, typer.Option(help="Only what this engine offers.", autocompletion=engine_names)
    ] = None,
    json: Json = False,
) -> None:
    """Techniques that MetaInf knows, and the engines that offer them."""
    from metainf import api

    offers = api.offers()
    known = sorted({name for names in offers.values() for name in names})
    if engine is not None and engine not in known:
        from metainf.domain import UnknownName

        raise UnknownName("engine", engine, known)
    rows = {
        name: {"what": text, "engines": offers[name]}
        for name, text in api.techniques().items()
        if engine is None or engine in offers[name]
    }
    if json:
        print_json(rows)
        return
    found = [(name, ", ".join(offers[name]) or "none yet", row["what"]) for name, row in rows.items()]
    table(("technique", "engines", "what it is"), found)


@methods.command("show")
def methods_show(
    engine: Annotated[str, typer.Argument(help="Engine.", autocompletion=engine_names)],
    model: Annotated[str, typer.Argument(help=MODEL_HELP, autocompletion=model_names)],
    on: Annotated[str, typer.Argument(help="Hardware, such as 2xL4.", autocompletion=hardware_names)],
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Candidate methods of an engine for a model on hardware: methods show vllm MODEL 2xL4."""
    from metainf import api

    rows = api.methods(engine, model, on, offline)
    if json:
        print_json([method for method, _ in rows])
        return
    table(("method", "launch command"), rows_of(rows), below="launch command")


def rows_of(rows: Sequence[tuple[object, str]]) -> list[tuple[str, str]]:
    """Method in words beside its command."""
    from metainf import api

    return [(api.method_in_words(method), command) for method, command in rows]


def only(
    what: str, wanted: str | None, rows: list[T], of: Callable[[T], Any], known: Iterable[str]
) -> list[T]:
    """Rows of which a fact is the wanted one, whatever its case. UnknownName for one that no entry has."""
    if wanted is None:
        return rows
    names = sorted(known)
    if wanted.lower() not in [name.lower() for name in names]:
        from metainf.domain import UnknownName

        raise UnknownName(what, wanted, names)
    return [row for row in rows if str(of(row)).lower() == wanted.lower()]
