"""The page that ships is that of the sources, small, with its licences, and served with safe headers."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from metainf.service.page import WEB

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "web"
NAMES = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src")
LARGEST = 700_000


def sources() -> list[Path]:
    found = [
        path for name in NAMES for path in [SOURCES / name, *(SOURCES / name).rglob("*")] if path.is_file()
    ]
    return sorted(found, key=lambda path: path.relative_to(SOURCES).as_posix())


def built() -> dict[str, Path]:
    return {path.relative_to(WEB).as_posix(): path for path in WEB.rglob("*") if path.is_file()}


def test_it_was_built_of_these_sources() -> None:
    digest = hashlib.sha256()
    for path in sources():
        name = path.relative_to(SOURCES).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    told = json.loads((WEB / "built.json").read_text(encoding="utf-8"))
    assert told["sources"] == digest.hexdigest(), "stale: run npm ci && npm run build in web/"


def test_nobody_wrote_in_what_was_built() -> None:
    told = json.loads((WEB / "built.json").read_text(encoding="utf-8"))["files"]
    there = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in built().items()}
    assert told | {"built.json": there["built.json"]} == there


def test_it_is_small_and_needs_nobody_else() -> None:
    assert sum(path.stat().st_size for path in built().values()) < LARGEST
    page = (WEB / "index.html").read_text(encoding="utf-8")
    assert "http" not in page and "<style" not in page and "onclick" not in page
    licences = (WEB / "licences.txt").read_text(encoding="utf-8")
    told = json.loads((SOURCES / "package.json").read_text(encoding="utf-8"))
    assert {"preact", "echarts"} <= set(told["devDependencies"])
    for name in ("preact", "echarts", "zrender"):
        assert f"{name} " in licences
    assert "Apache License" in licences and "BSD 3-Clause" in licences


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (SOURCES / "package-lock.json").read_text(encoding="utf-8")


def test_building_again_gives_the_same(tmp_path: Path) -> None:
    if "METAINF_BUILD" not in os.environ:
        pytest.skip("builds the page anew where METAINF_BUILD is set: needs Node.js and `npm ci` in web/")
    check = subprocess.run(["npx", "tsc", "--noEmit"], cwd=SOURCES, capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    command = ["npx", "vite", "build", "--outDir", str(tmp_path / "web"), "--logLevel", "error"]
    subprocess.run(command, cwd=SOURCES, check=True, capture_output=True)
    for name, path in built().items():
        assert (tmp_path / "web" / name).read_bytes() == path.read_bytes(), f"{name} is not of these sources"


def test_headers_and_errors(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="needs the extra serve")
    httpx2 = pytest.importorskip("httpx2", reason="needs the extra client")
    from service_process import served

    with served(tmp_path / "records.sqlite", log=tmp_path / "log") as one:
        page = httpx2.get(f"{one.url}/")
        assert page.status_code == 200 and page.text == (WEB / "index.html").read_text(encoding="utf-8")
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'") and "unsafe" not in policy
        assert (
            page.headers["x-content-type-options"] == "nosniff" and page.headers["x-frame-options"] == "DENY"
        )
        for name in ("assets/app.js", "assets/charts.js", "assets/index.css", "licences.txt"):
            found = httpx2.get(f"{one.url}/{name}")
            assert found.status_code == 200 and found.headers["cache-control"] == "no-cache"
            again = httpx2.get(f"{one.url}/{name}", headers={"If-None-Match": found.headers["etag"]})
            assert again.status_code == 304
        for path in (
            "/assets/%00",
            "/assets/../service/app.py",
            "/assets/none",
            f"/assets/{'a' * 500}",
            "/index",
        ):
            assert httpx2.get(one.url + path).status_code == 404
        assert httpx2.post(f"{one.url}/").status_code == 405
