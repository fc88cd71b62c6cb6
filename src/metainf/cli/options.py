"""Options that several commands share, so that one word means one thing everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from metainf.cli.names import engine_names, hardware_names, model_names, workload_names

MODEL_HELP = "Name, hub name (organisation/name), config.json, diffusers folder or GGUF file."
AIMS = ("throughput", "throughput_per_dollar", "cost", "latency", "ttft", "tpot", "energy")
MODALITIES = ("text", "multimodal", "image", "video", "audio")
"""Repeated from `domain`, whose words cost more to load than a help text may (a test compares them)."""
HARDWARE_HELP = 'Candidates: "1-4xL4", "A100-80GB", "2xh100@3.5" ($/device-hour), "mine.toml", "here".'

Json = Annotated[bool, typer.Option("--json", help="Print data instead of a table.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the Hugging Face hub.")]
Store = Annotated[
    str | None, typer.Option("--store", help="SQLite file or database URL.", envvar="METAINF_STORE")
]
Predictor = Annotated[
    Path | None, typer.Option("--predictor", help="A trained predictor; the shipped one by default.")
]
Ray = Annotated[
    str | None, typer.Option("--ray", help="Work on the Ray cluster at this address (auto, host:6379).")
]
ModelName = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP, autocompletion=model_names)]
HardwareNames = Annotated[
    list[str], typer.Option("--hardware", "-H", help=HARDWARE_HELP, autocompletion=hardware_names)
]
WorkloadName = Annotated[
    str | None,
    typer.Option("--workload", "-w", help="A named workload or a trace file.", autocompletion=workload_names),
]
Engines = Annotated[
    list[str] | None, typer.Option("--engine", help="Only these engines.", autocompletion=engine_names)
]
InputTokens = Annotated[
    float | None, typer.Option(help="Mean tokens of a prompt, instead of the workload's.")
]
OutputTokens = Annotated[
    float | None, typer.Option(help="Mean tokens of an answer, instead of the workload's.")
]
Ttft = Annotated[str | None, typer.Option(help="Longest time to the first token, such as 500ms.")]
Tpot = Annotated[str | None, typer.Option(help="Longest time per output token after it, such as 30ms.")]
E2e = Annotated[str | None, typer.Option(help="Longest time of a whole request, such as 10s.")]
Dollars = Annotated[float | None, typer.Option(help="Most US dollars per hour for all the hardware.")]
Top = Annotated[int, typer.Option(min=1, help="How many answers.")]
Concurrency = typer.Option("--concurrency", "-c", help="Requests in flight.")
