"""metainf swarm manifests: a whole swarm as a file, to be put up elsewhere."""

from typing import Annotated

import typer

from metainf.cli.names import one_of


def register(swarm: typer.Typer) -> None:
    """Add this command to those of the swarm."""
    swarm.command("manifests")(swarm_manifests)


def swarm_manifests(
    format: Annotated[
        str, typer.Argument(help="compose or kubernetes.", autocompletion=one_of("compose", "kubernetes"))
    ],
    image: Annotated[
        str, typer.Option(help="An image of yours with metainf and its extras swarm, serve and traces.")
    ],
    weights: Annotated[str, typer.Option(help="The model below /models, such as Llama-3.2-1B-Instruct.")],
    nodes: Annotated[int, typer.Option(min=1, help="Nodes to start.")] = 3,
    servers: Annotated[int, typer.Option(min=1, max=5, help="NATS servers; 3 make a cluster.")] = 3,
    workers: Annotated[
        int, typer.Option(min=0, help="Workers of the queue beside an agent; 0 leaves the queue out.")
    ] = 1,
    memory_gib: Annotated[int, typer.Option(min=1, help="Memory for blocks of each node.")] = 8,
    name: Annotated[str, typer.Option(help="Of the whole.")] = "metainf-swarm",
) -> None:
    """Print a whole swarm as a file of Docker Compose or Kubernetes: NATS, nodes, doors, dashboard."""
    from metainf.api.exporting import swarm_manifest

    told = {
        "image": image, "weights": weights, "nodes": nodes, "servers": servers, "memory_gib": memory_gib,
        "name": name, "workers": workers,
    }  # fmt: skip
    typer.echo(swarm_manifest(format, told), nl=False)
