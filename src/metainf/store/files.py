"""Exported records: Parquet or JSON lines, written whole or not at all, read with a finger on the line."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from metainf.domain import BadInput, Failed, Record, StoreError
from metainf.store.rows import read_record

SUFFIXES = (".parquet", ".jsonl")
GROUP = 20_000
"""Records of one Parquet row group."""
READABLE = ("id", "source", "campaign", "date", "model", "device", "engine", "status", "failed_reason")


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write a .parquet or .jsonl file and return the number of records.

    Written beside its final place and renamed when complete. Raises BadInput for another suffix,
    StoreError when the disk refuses.
    """
    if path.suffix not in SUFFIXES:
        raise BadInput(f"cannot export to {path}: expected a suffix of {', '.join(SUFFIXES)}")
    try:
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise StoreError(f"could not export to {path}: {error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            count = (_write_parquet if path.suffix == ".parquet" else _write_lines)(file, records)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(scratch).chmod(0o666 & ~umask)
        Path(scratch).replace(path)
    except OSError as error:
        raise StoreError(f"could not export to {path}: {error}; nothing was written") from error
    finally:
        Path(scratch).unlink(missing_ok=True)
    return count


def read_records(path: Path) -> Iterator[Record]:
    """Records of an exported file. Raises BadInput naming the line or row that is torn or foreign."""
    if path.suffix not in SUFFIXES:
        raise BadInput(f"cannot read {path}: expected a suffix of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise BadInput(f"no file at {path}: check the path")
    yield from (_read_parquet if path.suffix == ".parquet" else _read_lines)(path)


def _write_lines(file: BinaryIO, records: Iterable[Record]) -> int:
    count = 0
    for record in records:
        file.write(record.canonical().encode() + b"\n")
        count += 1
    return count


def _read_lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = read_record(line)
            except BadInput as error:
                torn = not line.endswith(b"\n")
                what = "the last line is torn" if torn else "not a record"
                raise BadInput(f"{path} line {number}: {what}: {error}") from None
            yield record


def _write_parquet(file: BinaryIO, records: Iterable[Record]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in (*READABLE, "record")], metadata={"metainf": "1"})
    count, source = 0, iter(records)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while rows := [_readable(record) for record in islice(source, GROUP)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def _readable(record: Record) -> dict[str, Any]:
    provenance, outcome = record.provenance, record.outcome
    return {
        "id": record.id,
        "source": provenance.source,
        "campaign": provenance.campaign,
        "date": provenance.date,
        "model": record.setting.model.name,
        "device": record.setting.hardware.device.name,
        "engine": record.method.engine,
        "status": outcome.kind,
        "failed_reason": outcome.reason if isinstance(outcome, Failed) else None,
        "record": record.canonical(),
    }


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if not {"id", "record"} <= set(names):
                raise BadInput(
                    f"{path}: expected an export of MetaInf with columns id and record, "
                    f"found {', '.join(names[:8])}"
                )
            for batch in file.iter_batches(batch_size=GROUP, columns=["id", "record"]):
                for row in batch.to_pylist():
                    number += 1
                    yield _checked(path, number, row)
    except (pa.ArrowException, OSError) as error:
        after = f" after row {number}" if number else ""
        raise BadInput(f"{path}: not a whole Parquet file{after}: {error}") from None


def _checked(path: Path, number: int, row: dict[str, Any]) -> Record:
    try:
        record = read_record(row["record"] or "")
    except BadInput as error:
        raise BadInput(f"{path} row {number}: not a record: {error}") from None
    if record.id != row["id"]:
        raise BadInput(
            f"{path} row {number}: the record is not the one of id {row['id']}: changed or damaged"
        )
    return record
