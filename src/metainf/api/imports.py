"""What a service keeps beside the records: keys, and imports that it was handed."""

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from metainf import catalog
from metainf.api.history import Imported, import_file, known_facts
from metainf.domain import MetaInfError, UnknownName
from metainf.importers import IMPORTERS

if TYPE_CHECKING:
    from metainf.store import Added, Store
    from metainf.store.jobs import Job, Jobs
    from metainf.store.keys import Keyring

RECORDS = "records"
"""The format of what `metainf records export` writes."""
FACTS = ("model", "hardware", "engine")


def keyring(opened: "Store") -> "Keyring":
    """The API keys kept in the database of a store."""
    from metainf.store.keys import Keyring

    return Keyring(opened.database, secrets.token_hex)


def jobs(opened: "Store") -> "Jobs":
    """The imports kept in the database of a store."""
    from metainf.store.jobs import Jobs

    return Jobs(opened.database)


def now() -> str:
    """The time as keys and imports write it: ISO, UTC, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def new_job(name: str, format: str | None, said: Mapping[str, str], size: int) -> "Job":
    """An import to come. UnknownName for a format or a fact that is not known, BadInput for an empty one."""
    from metainf.store.jobs import Job

    if format is not None and format not in (*IMPORTERS, RECORDS):
        raise UnknownName("format", format, (*IMPORTERS, RECORDS))
    with catalog.names_only():
        known_facts(dict(said))
        if "model" in said:
            catalog.find_model(said["model"])
        if "hardware" in said:
            catalog.parse_hardware(said["hardware"])
    return Job.of(
        {"job_id": secrets.token_hex(8), "name": name, "state": "queued", "made_at": now(), "bytes": size}
        | {"format": format, "said": dict(said)}
    )


def carry_out(job: "Job", path: Path, into: "Store", tell: Callable[["Job"], None] = lambda _: None) -> "Job":
    """Do an import: every row kept or rejected. `tell` hears how far it is. Failures are told, not raised;
    a StoreError is raised, for then the import has yet to be done."""
    result = Imported(job.name, job.format or "")

    def so_far(_: int = 0) -> None:
        tell(_with(job, result))

    try:
        with catalog.names_only():
            if job.format == RECORDS:
                merged = into.merge(path, lambda added: _merged(result, added, so_far))
                result.read = merged.new + merged.known
            else:
                import_file(path, job.format, dict(job.said), into, True, so_far, result)
    except MetaInfError as error:
        from metainf.domain import StoreError

        if isinstance(error, StoreError):
            raise
        return _with(job, result, str(error).replace(str(path), job.name))
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        return _with(job, result, f"{job.name} could not be read: {type(error).__name__}: {error}"[:1000])
    return _with(job, result).model_copy(update={"state": "done"})


def _merged(result: Imported, added: "Added", tell: Callable[[], None]) -> None:
    result.new, result.known = result.new + added.new, result.known + added.known
    result.read = result.new + result.known
    tell()


def _with(job: "Job", result: Imported, error: str | None = None) -> "Job":
    found = {
        "format": result.format or job.format,
        "read": result.read,
        "new": result.new,
        "known": result.known,
        "rejected": result.rejected,
        "reasons": dict(result.reasons),
    }
    return job.model_copy(update=found | ({"state": "failed", "error": error} if error is not None else {}))
