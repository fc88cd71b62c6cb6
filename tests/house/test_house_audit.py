"""The audit of dependencies, asked of a source of advisories that answers as the package index does."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

AUDIT = Path(__file__).resolve().parents[2] / ".ci" / "audit"
OLD = {"/jinja2/2.4.1/json": [{"id": "PYSEC-2014-8", "aliases": [], "fixed_in": ["2.7.2"]}]}
OURS = f"/pydantic/{version('pydantic')}/json"
BAD = {"id": "GHSA-xxxx", "aliases": ["CVE-2026-1"], "fixed_in": ["99.1"], "withdrawn": None}


@contextmanager
def source(known: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """A source that knows these paths and no others."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = known.get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(b"" if found is None else json.dumps({"vulnerabilities": found}).encode())

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def audited(where: str, excused: Path) -> tuple[int, str]:
    ran = subprocess.run(
        [sys.executable, AUDIT], capture_output=True, text=True, timeout=60,
        env={**os.environ, "METAINF_ADVISORIES": where, "METAINF_EXCUSED": str(excused)},
    )  # fmt: skip
    return ran.returncode, ran.stdout + ran.stderr


def test_a_known_vulnerability_fails_unless_it_is_excused(tmp_path: Path) -> None:
    excused = tmp_path / "excused"
    with source({**OLD, OURS: [BAD]}) as where:
        status, said = audited(where, excused)
        assert status == 1 and "GHSA-xxxx, fixed in 99.1" in said and "1 packages checked" in said
        for name in ("GHSA-xxxx", "CVE-2026-1"):
            excused.write_text(f"# why\n\n{name} pydantic is never asked so\n", encoding="utf-8")
            status, said = audited(where, excused)
            assert status == 0 and "(excused)" in said and "0 advisories" in said
        excused.write_text("# GHSA-xxxx\nGHSA-yyyy other\n", encoding="utf-8")
        assert audited(where, excused)[0] == 1


def test_what_was_withdrawn_or_is_not_known_passes(tmp_path: Path) -> None:
    with source({**OLD, OURS: [BAD | {"withdrawn": "2026-01-01T00:00:00Z"}]}) as where:
        status, said = audited(where, tmp_path / "none")
    assert status == 0 and "1 packages checked" in said and "0 advisories" in said


def test_without_a_source_of_advisories_it_says_so_in_a_line(tmp_path: Path) -> None:
    with source({OURS: [], "/jinja2/2.4.1/json": []}) as where:
        found = [audited(where, tmp_path / "none")]
    found.append(audited("http://127.0.0.1:9", tmp_path / "none"))
    for status, said in found:
        assert status == 0 and len(said.splitlines()) == 1 and "SKIPPED, nothing was checked" in said


def test_the_check_ends_with_it() -> None:
    check = AUDIT.parents[1] / "check"
    assert check.read_text(encoding="utf-8").splitlines()[-1] == ".ci/audit"
    assert os.access(AUDIT, os.X_OK)
