"""A selection as a file of the tool that will run it."""

from metainf.domain import BadInput, Selection, UnknownName
from metainf.exports import EXPORTS, deployment, export

FORMATS = ("command", *EXPORTS)


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
    maker = engines.engine(chosen.method.engine)
    launch = maker.launch(found.model, chosen.method, chosen.hardware, found.workload)
    if format == "command":
        return launch.command + "\n"
    return export(format)(deployment(found.model, chosen, launch, image))
