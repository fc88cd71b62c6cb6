"""Exported files that are torn, foreign or tampered with."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metainf.domain import BadInput, Hardware, Record
from metainf.store import Added, Filter, Store, open_store
from metainf.store.files import read_records, write_records
from metainf.testing.store_suite import sample
from metainf.testing.strategies import records


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store.sqlite")


@settings(max_examples=20, deadline=None)
@given(batch=st.lists(records(), max_size=5), suffix=st.sampled_from([".jsonl", ".parquet"]))
def test_files_give_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, batch: list[Record], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("files") / f"records{suffix}"
    assert write_records(path, batch) == len(batch)
    assert list(read_records(path)) == batch
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_unknown_count_of_devices_stays_unknown(store: Store, tmp_path: Path) -> None:
    """Not one device: canonical JSON leaves the count out, and reading it back must not invent one."""
    plain = sample(0)
    hardware = Hardware(device=plain.setting.hardware.device, count=None)
    record = plain.model_copy(update={"setting": plain.setting.model_copy(update={"hardware": hardware})})
    assert store.add([plain, record]) == Added(2, 0)
    assert [r.setting.hardware.count for r in store.query()] == [1, None]
    for suffix in (".jsonl", ".parquet"):
        store.export(tmp_path / f"out{suffix}")
        assert list(read_records(tmp_path / f"out{suffix}")) == [plain, record]


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_a_torn_last_line_is_named_and_the_lines_before_it_are_kept(
    store: Store, tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "torn.jsonl"
    write_records(path, (sample(i) for i in range(5)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    if cut == 1:  # only the newline is gone: the record is whole
        assert store.merge(path) == Added(5, 0)
        return
    with pytest.raises(BadInput, match=r"torn\.jsonl line 5: the last line is torn.*4 new and 0 known"):
        store.merge(path)
    assert store.count() == 4
    path.write_bytes(whole)
    assert store.merge(path) == Added(1, 4)


@pytest.mark.parametrize("line", ["not json", "[]", '{"setting": {}}', "null", "\xff\x00", '{"a": NaN}'])
def test_a_foreign_line_is_named(store: Store, tmp_path: Path, line: str) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text(f"{sample(0).canonical()}\n\n{line}\n{sample(1).canonical()}\n", encoding="latin-1")
    with pytest.raises(BadInput, match=r"mixed\.jsonl line 3: not a record"):
        store.merge(path)
    assert list(store.query()) == [sample(0)]


def test_concatenated_lines_are_one_export(store: Store, tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    write_records(one, [sample(0), sample(1)])
    write_records(two, [sample(1), sample(2)])
    one.write_bytes(one.read_bytes() + two.read_bytes())
    assert store.merge(one) == Added(3, 1)


def test_a_truncated_parquet_file_at_any_length_is_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "torn.parquet"
    write_records(path, (sample(i) for i in range(50)))
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInput, match=r"torn\.parquet: not a whole Parquet file"):
            store.merge(path)
    assert store.count() == 0


def test_flipped_bytes_of_parquet_never_add_a_foreign_record(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "bits.parquet"
    batch = [sample(i) for i in range(20)]
    write_records(path, batch)
    whole = path.read_bytes()
    wanted = {record.id for record in batch}
    for place in range(4, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            store.merge(path)
        except BadInput as error:
            assert "bits.parquet" in str(error)
        assert {record.id for record in store.query()} <= wanted


def test_foreign_and_tampered_parquet_are_named(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"city": ["Turin"], "people": [850_000]}), path)
    with pytest.raises(BadInput, match=r"foreign\.parquet: expected an export.*city, people"):
        store.merge(path)
    good, bad = sample(0), sample(1)
    for ids, texts in (
        ([good.id, good.id], [good.canonical(), bad.canonical()]),
        ([good.id, bad.id], [good.canonical(), "{}"]),
        ([good.id, bad.id], [good.canonical(), None]),
    ):
        pq.write_table(pa.table({"id": ids, "record": texts}), path)
        with pytest.raises(BadInput, match="row 2"):
            store.merge(path)
    pq.write_table(pa.table({"id": [1], "record": [2]}), path)
    with pytest.raises(BadInput, match=r"foreign\.parquet"):
        store.merge(path)
    assert list(store.query()) == [good]


def test_a_failed_export_leaves_the_old_file(store: Store, tmp_path: Path) -> None:
    store.add([sample(0)])
    path = tmp_path / "out.jsonl"
    store.export(path)
    before = path.read_bytes()

    def broken() -> object:
        yield sample(1)
        raise RuntimeError("stopped")

    for suffix in (".jsonl", ".parquet"):
        with pytest.raises(RuntimeError):
            write_records(path.with_suffix(suffix), broken())  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".part") or p.suffix == ".parquet"]


def test_the_readable_columns_of_parquet(store: Store, tmp_path: Path) -> None:
    store.add([sample(0), sample(1, failed=True)])
    store.export(tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["status"] for row in table] == ["measured", "failed"]
    assert [row["failed_reason"] for row in table] == [None, "out_of_memory"]
    assert [json.loads(row["record"])["provenance"]["trial"] for row in table] == [0, 1]


def test_suffixes_and_absent_files(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"\.parquet, \.jsonl"):
        store.export(tmp_path / "out.csv")
    with pytest.raises(BadInput, match="no file at"):
        store.merge(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    "wrong", [{"status": "broken"}, {"since": "March"}, {"until": "2025-3-1"}, {"model": "a\x00"}]
)
def test_filters_refuse_what_cannot_match(wrong: dict[str, str]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Filter(**wrong)
