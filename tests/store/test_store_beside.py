"""Keys and imports beside the records."""

from pathlib import Path

import pytest

from metainf.domain import BadInput, UnknownName
from metainf.store import open_store
from metainf.store.jobs import SILENT_S, Job, Jobs
from metainf.store.keys import SCOPES, Keyring, digest
from metainf.testing.store_suite import sample


def secrets(start: int = 0):  # type: ignore[no-untyped-def]
    """Numbers in place of chance."""
    numbers = iter(range(start, start + 1000))
    return lambda size: f"{next(numbers):0{2 * size}x}"


def test_a_key_opens_until_it_is_revoked(tmp_path: Path) -> None:
    with open_store(tmp_path / "s.sqlite") as store:
        ring = Keyring(store.database, secrets())
        key, text = ring.add("grafana", "write", "2026-01-01T00:00:00+00:00")
        other, _ = ring.add("x", "read", "2026-01-02T00:00:00+00:00")
        assert ring.find(text) == key and [each.key_id for each in ring.all()] == [key.key_id, other.key_id]
        assert [key.allows(scope) for scope in SCOPES] == [True, True, False]
        for wrong in (
            "",
            "metainf",
            f"{text}0",
            text.upper(),
            f"metainf_{key.key_id}_",
            "metainf_\x00_a",
            "a_b_c_d",
        ):
            assert ring.find(wrong) is None
        gone = ring.revoke(key.key_id, "2026-01-03T00:00:00+00:00")
        assert ring.find(text) == gone and not any(gone.allows(scope) for scope in SCOPES)
        assert ring.revoke(key.key_id, "2027-01-01T00:00:00+00:00") == gone
        store.add([sample(0)])
    assert text.encode() not in (tmp_path / "s.sqlite").read_bytes()
    assert digest(text).encode() in (tmp_path / "s.sqlite").read_bytes()
    with open_store(tmp_path / "s.sqlite", create=False) as again:
        assert again.count() == 1 and again.check() == 1


@pytest.mark.parametrize(
    ("name", "scope", "error"),
    [
        ("a", "all", UnknownName),
        (" ", "read", BadInput),
        ("a\x00", "read", BadInput),
        ("a" * 101, "read", BadInput),
    ],
)
def test_a_key_needs_a_name_and_a_scope(
    tmp_path: Path, name: str, scope: str, error: type[Exception]
) -> None:
    with open_store(tmp_path / "s.sqlite") as store, pytest.raises(error):
        Keyring(store.database, secrets()).add(name, scope, "2026-01-01")


def job(number: int) -> Job:
    return Job(
        job_id=f"{number:016x}", name="a.json", state="queued", made_at=f"2026-01-{number:02}", bytes=number
    )


def test_imports_are_claimed_in_order_and_once(tmp_path: Path) -> None:
    with open_store(tmp_path / "s.sqlite") as store:
        jobs = Jobs(store.database)
        for number in (2, 1, 3):
            jobs.add(job(number), f"/spool/{number}", 0.0)
        claims = [jobs.claim(owner, 1.0) for owner in ("a", "b", "a", "b")]
        assert [claim and (claim[0].bytes, claim[1]) for claim in claims] == [
            (1, "/spool/1"), (2, "/spool/2"), (3, "/spool/3"), None
        ]  # fmt: skip
        assert claims[0] is not None and claims[0][0].state == "running"
        assert [each.bytes for each in jobs.latest(2)] == [3, 2]


def test_an_import_of_a_silent_worker_is_taken_over(tmp_path: Path) -> None:
    with open_store(tmp_path / "s.sqlite") as store:
        jobs = Jobs(store.database)
        jobs.add(job(1), "/spool/1", 0.0)
        taken = jobs.claim("a", 1.0)
        assert taken is not None and jobs.claim("b", SILENT_S) is None
        assert jobs.keep(taken[0].model_copy(update={"read": 10}), "a", SILENT_S)
        assert jobs.claim("b", SILENT_S + 2) is None
        again = jobs.claim("b", 2 * SILENT_S + 1)
        assert again is not None and again[0].read == 10
        assert not jobs.keep(taken[0], "a", 2 * SILENT_S + 2)
        assert jobs.keep(again[0].model_copy(update={"state": "done"}), "b", 2 * SILENT_S + 2)
        assert jobs.claim("a", 1e9) is None
        found = jobs.get(job(1).job_id)
        assert found is not None and found.over and jobs.get("0") is None


def test_pages(tmp_path: Path) -> None:
    with open_store(tmp_path / "s.sqlite") as store:
        store.add(sample(trial) for trial in range(7))
        first = store.page(0, None, 3)
        second = store.page(first[-1][0], None, 10)
        assert [record for _, record in first + second] == list(store.query())
        assert store.page(second[-1][0], None, 3) == []
