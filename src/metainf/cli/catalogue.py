"""metainf models | hardware | methods: what things are called, and what is known of them."""

from collections.abc import Sequence
from typing import Annotated

import typer

from metainf.cli.show import fields, print_json, table

Json = Annotated[bool, typer.Option("--json", help="Print data instead of a table.")]

models = typer.Typer(help="Models of the catalogue.", no_args_is_help=True)
hardware = typer.Typer(help="Devices of the catalogue, and this machine.", no_args_is_help=True)
methods = typer.Typer(help="Acceleration methods by engine.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these groups to the root."""
    app.add_typer(models, name="models")
    app.add_typer(hardware, name="hardware")
    app.add_typer(methods, name="methods")


@models.command("list")
def models_list(
    match: Annotated[str, typer.Argument(help="Show only names that contain this.")] = "",
    modality: Annotated[str | None, typer.Option(help="text, image, video ...")] = None,
    json: Json = False,
) -> None:
    """Models that can be named without a file."""
    from metainf import api

    rows = [m for m in api.models() if match.lower() in m.name.lower() and modality in (None, m.modality)]
    if json:
        print_json(rows)
        return
    head = ("model", "modality", "params_b", "active_params_b", "layers", "experts")
    table(
        head, [(m.name, m.modality, m.params_b, m.active_params_b, m.num_layers, m.num_experts) for m in rows]
    )


@models.command("show")
def models_show(name: str, json: Json = False) -> None:
    """Facts of one model: a catalogue name, a config.json, a diffusers folder or a GGUF file."""
    from metainf import api

    model = api.model(name)
    print_json(model) if json else fields(model)


@hardware.command("list")
def hardware_list(
    match: Annotated[str, typer.Argument(help="Show only names that contain this.")] = "", json: Json = False
) -> None:
    """Devices that can be named without a file, with their usual price."""
    from metainf import api

    rows = [d for d in api.devices() if match.lower() in f"{d.name} {d.title} {d.vendor}".lower()]
    if json:
        print_json(rows)
        return
    head = ("device", "vendor", "memory_gib", "gb_per_s", "bf16_tflops", "tdp_w", "usd_per_hour")
    table(
        head,
        [
            (
                d.name,
                d.vendor,
                d.memory_gib,
                d.memory_bandwidth_gb_per_s,
                d.bf16_tflops,
                d.tdp_w,
                api.price(d.name),
            )
            for d in rows
        ],
    )


@hardware.command("show")
def hardware_show(name: str, json: Json = False) -> None:
    """Facts of one device: a catalogue name or a small .toml file."""
    from metainf import api

    device = api.device(name)
    print_json(device) if json else fields(device)


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


@methods.command("list")
def methods_list(json: Json = False) -> None:
    """Techniques that MetaInf knows, and the engines that offer them."""
    from metainf import api

    rows = api.techniques()
    if json:
        print_json(rows)
        return
    table(("technique", "what it is"), [(name, text) for name, text in rows.items()])


@methods.command("show")
def methods_show(engine: str, model: str, on: str, json: Json = False) -> None:
    """Candidate methods of an engine for a model on hardware: methods show vllm MODEL 2xL4."""
    from metainf import api

    rows = api.methods(engine, model, on)
    if json:
        print_json([method for method, _ in rows])
        return
    table(("method", "launch command"), rows_of(rows))


def rows_of(rows: Sequence[tuple[object, str]]) -> list[tuple[str, str]]:
    """Method in words beside its command."""
    from metainf import api

    return [(api.method_in_words(method), command) for method, command in rows]
