"""What every importer owes. Inherit, set the five names, and pytest runs the promises.

class TestMyTool(ImporterSuite):
    format = "my-tool"
    good = FIXTURES / "my_tool.json"
    context = Context(model=Model(name="m"), hardware=Device(name="d"), engine="vllm")
    rows = 3
"""

from pathlib import Path
from typing import ClassVar

from metainf.domain import BadInput, Measured, Metrics, Record, Rejected
from metainf.importers import Context, detect, read


class ImporterSuite:
    """Promises of `read`: nothing dropped, stable ids, honest refusals."""

    format: ClassVar[str]
    """The importer's name in IMPORTERS."""
    good: ClassVar[Path]
    """A whole file of the tool."""
    context: ClassVar[Context]
    """What the file does not say."""
    rows: ClassVar[int]
    """How many runs the file holds."""
    rejected: ClassVar[int] = 0
    """How many of them cannot become records."""

    def _read(self, path: Path | None = None) -> list[Record | Rejected]:
        return list(read(path or self.good, self.format, self.context))

    def test_the_format_is_recognised(self) -> None:
        assert detect(self.good) == self.format

    def test_every_row_is_kept_or_rejected_with_a_reason(self) -> None:
        found = self._read()
        rejected = [one for one in found if isinstance(one, Rejected)]
        assert len(found) == self.rows
        assert len(rejected) == self.rejected, [one.reason for one in rejected]
        assert all(len(one.reason) > 10 for one in rejected)
        rows = [i for i, one in enumerate(found) if isinstance(one, Rejected)]
        assert [one.row for one in rejected] == rows

    def test_ids_are_stable_and_no_two_records_share_one(self) -> None:
        first, second = ([one.id for one in self._read()] for _ in range(2))
        assert first == second
        records = [one.id for one in self._read() if isinstance(one, Record)]
        assert len(set(records)) == len(records)

    def test_records_parse_back_from_canonical_json(self) -> None:
        for one in self._read():
            if isinstance(one, Record):
                assert Record.parse(one.canonical()) == one

    def test_a_measured_record_has_a_number_and_a_source(self) -> None:
        records = [one for one in self._read() if isinstance(one, Record)]
        assert records
        for one in records:
            assert one.provenance.source
            if isinstance(one.outcome, Measured):
                assert one.outcome.metrics != Metrics()

    def test_foreign_json_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "foreign.json"
        path.write_text('{"colour": "green", "sizes": [1, 2, 3]}', encoding="utf-8")
        _refused(self, path)

    def test_an_empty_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / f"empty{self.good.suffix}"
        path.write_bytes(b"")
        _refused(self, path)

    def test_a_truncated_file_makes_no_new_record(self, tmp_path: Path) -> None:
        whole = self.good.read_bytes()
        known = {_without_place(one) for one in self._read() if isinstance(one, Record)}
        for share in (0.1, 0.5, 0.9):
            path = tmp_path / self.good.name
            path.write_bytes(whole[: int(len(whole) * share)])
            try:
                found = self._read(path)
            except BadInput as error:
                assert str(path) in str(error) or path.name in str(error)
                continue
            kept = {_without_place(one) for one in found if isinstance(one, Record)}
            assert kept <= known
            assert len(kept) < len(known), f"nothing was lost by cutting the file to {share:.0%}"


def _without_place(record: Record) -> str:
    return record.model_copy(
        update={"provenance": record.provenance.model_copy(update={"location": None})}
    ).canonical()


def _refused(suite: ImporterSuite, path: Path) -> None:
    try:
        found = suite._read(path)
    except BadInput as error:
        assert path.name in str(error)
        return
    raise AssertionError(f"{path.name}: expected BadInput, found {found!r:.200}")
