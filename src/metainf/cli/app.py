"""The commands, one group a file."""

from typing import Annotated

import typer

from metainf import __version__
from metainf.cli import (
    catalogue,
    choose,
    gateway,
    history,
    learning,
    ledger,
    measuring,
    nodes,
    queueing,
    serving,
    studying,
    swarming,
    tuning,
)

app = typer.Typer(
    name="metainf",
    help="Which inference acceleration to turn on, on which machine, and what it will cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


choose.register(app)
catalogue.register(app)
history.register(app)
learning.register(app)
measuring.register(app)
studying.register(app)
tuning.register(app)
serving.register(app)
gateway.register(app)
nodes.register(app)
swarming.register(app)
ledger.register(app)
queueing.register(app)
