"""A selection as a file of the tool that will run it."""

from collections.abc import Mapping
from typing import Any

from metainf.domain import BadInput, NotSupported, Selection, UnknownName
from metainf.exports import EXPORTS, deployment, export

FORMATS = ("command", *EXPORTS)
SWARM_FORMATS = ("compose", "kubernetes")


def exported(found: Selection, format: str, place: int = 1, image: str | None = None) -> str:
    """The file of one answer of a selection (the first by default); `command` is the launch command itself.

    Raises UnknownName for another format, NotSupported where the tool cannot run it, MissingExtra without
    PyYAML, BadInput for a place that the selection does not have.
    """
    from metainf import engines

    if format not in FORMATS:
        raise UnknownName("export", format, FORMATS)
    if not 1 <= place <= len(found.ranked):
        raise BadInput(f"expected an answer from 1 to {len(found.ranked)}, found {place}")
    chosen = found.ranked[place - 1]
    if found.privacy is not None and found.privacy.name == "split":
        return _of_a_swarm(chosen.command or "", format)
    maker = engines.engine(chosen.method.engine)
    launch = maker.launch(found.model, chosen.method, chosen.hardware, found.workload)
    if format == "command":
        return launch.command + "\n"
    return export(format)(deployment(found.model, chosen, launch, image))


def _of_a_swarm(command: str, format: str) -> str:
    if format == "command":
        return command + "\n"
    raise NotSupported(
        f"a split model runs in a swarm, which is no single {format} file: export its command, and put the "
        "swarm up with `metainf swarm manifests`"
    )


def swarm_manifest(format: str, told: Mapping[str, Any]) -> str:
    """A whole swarm as a file; `told` as `metainf.exports.swarm.SwarmDeployment`.

    Raises UnknownName for another format, BadInput for what cannot be deployed, MissingExtra without PyYAML.
    """
    from metainf.exports.swarm import SwarmDeployment
    from metainf.exports.swarm_compose import compose
    from metainf.exports.swarm_kubernetes import kubernetes

    if format not in SWARM_FORMATS:
        raise UnknownName("manifest", format, SWARM_FORMATS)
    made = SwarmDeployment.of(dict(told))
    return compose(made) if format == "compose" else kubernetes(made)
