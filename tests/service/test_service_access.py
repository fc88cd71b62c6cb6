"""Who may do what, how often, and how much at once."""

import contextlib
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from service_process import Served, served

from metainf import api
from metainf.api import imports
from metainf.client import Asked, Client, Refused
from metainf.domain import BadInput, UnknownName
from metainf.service.settings import Settings
from metainf.service.start import Listening, listen
from metainf.testing.store_suite import sample

ASKED = Asked(model="Llama-3.1-8B-Instruct", workload="sharegpt", hardware=("L4",), top=1)


@contextlib.contextmanager
def with_keys(folder: Path, *options: str) -> Iterator[tuple[Served, dict[str, str]]]:
    """A service with one key of each scope."""
    store = folder / "records.sqlite"
    with api.store(str(store)) as opened:
        ring = imports.keyring(opened)
        keys = {
            scope: ring.add(f"a {scope} key", scope, imports.now())[1] for scope in ("read", "write", "admin")
        }
    with served(store, *options, log=folder / "log") as one:
        yield one, keys


def status(call: object) -> int:
    """The status of a refusal, 200 where there is none."""
    try:
        call()  # type: ignore[operator]
    except Refused as refused:
        return refused.problem.status
    return 200


def test_scopes(tmp_path: Path) -> None:
    with with_keys(tmp_path, "--rate", "none") as (service, keys):
        with Client(service.url) as nobody, Client(service.url, "metainf_00_11") as stranger:
            assert status(lambda: nobody.select(ASKED)) == 401 == status(lambda: stranger.select(ASKED))
            assert status(nobody.health) == 200 == status(nobody.ready)
        allowed = {}
        for scope, secret in keys.items():
            with Client(service.url, secret) as client:
                allowed[scope] = (
                    status(lambda: client.select(ASKED)),
                    status(lambda: client.append([sample(1)])),
                    status(lambda: client.hand_in(b"{}", "a.json")),
                    status(client.all_keys),
                    status(lambda: client.add_key("another", "read")),
                )
        assert allowed == {
            "read": (200, 403, 403, 403, 403),
            "write": (200, 200, 200, 403, 403),
            "admin": (200, 200, 200, 200, 200),
        }
        with Client(service.url, keys["admin"]) as admin:
            made = admin.add_key("soon gone", "read")
            with Client(service.url, made.secret) as client:
                assert status(lambda: client.select(ASKED)) == 200
                assert admin.revoke_key(made.key.key_id).revoked_at is not None
                until = time.monotonic() + 10
                while status(lambda: client.select(ASKED)) == 200:
                    assert time.monotonic() < until
                    time.sleep(0.2)
                assert status(lambda: client.select(ASKED)) == 401
            with pytest.raises(UnknownName):
                admin.revoke_key("nobody")
            assert not any(made.secret in key.model_dump_json() for key in admin.all_keys())
    text = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert not any(secret.rsplit("_", 1)[-1].encode() in text for secret in keys.values())


def test_too_fast_is_told_when_to_come_back(tmp_path: Path) -> None:
    with with_keys(tmp_path, "--rate", "5/minute") as (service, keys):
        answers = [
            httpx2.get(f"{service.url}/v1/workloads", headers={"Authorization": f"Bearer {keys['read']}"})
            for _ in range(7)
        ]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert 0 < int(answers[-1].headers["retry-after"]) <= 60
        assert answers[-1].json()["type"].endswith("too-fast")
        with Client(service.url, keys["write"]) as other:
            assert status(other.workloads) == 200


def test_bodies_have_limits(service: Served) -> None:
    url = f"{service.url}/v1/select"
    large = httpx2.post(url, content=b" " * 1_000_000, headers={"Content-Type": "application/json"})
    assert large.status_code == 413 and "at most" in large.json()["detail"]

    def drops() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 65_536

    told_late = httpx2.post(url, content=drops(), headers={"Content-Type": "application/json"})
    assert told_late.status_code == 413
    form = httpx2.post(url, content=b"{}", headers={"Content-Type": "text/plain"})
    assert form.status_code == 415


def test_other_pages_may_not_call_it(service: Served) -> None:
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    answer = httpx2.options(f"{service.url}/v1/select", headers=asked)
    assert "access-control-allow-origin" not in answer.headers
    renamed = httpx2.get(f"{service.url}/v1/workloads", headers={"Host": "a.example"})
    assert renamed.status_code == 400


def test_pages_that_are_named_may(tmp_path: Path) -> None:
    with served(tmp_path / "s.sqlite", "--origin", "https://a.example", log=tmp_path / "log") as one:
        asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
        answer = httpx2.options(f"{one.url}/v1/select", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        other = httpx2.options(f"{one.url}/v1/select", headers=asked | {"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


def test_without_a_key_it_listens_here_alone(tmp_path: Path) -> None:
    settings = Settings(store=str(tmp_path / "records.sqlite"))
    with pytest.raises(BadInput, match="metainf keys add"):
        listen(settings, Listening("0.0.0.0", 0), print)
    with pytest.raises(BadInput, match="a rate such as"):
        listen(settings.model_copy(update={"rate": "often"}), Listening("127.0.0.1", 0), print)


def test_https(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
         "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl is not here")
    options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    with served(tmp_path / "s.sqlite", *options, log=tmp_path / "log") as one:
        assert one.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(certificate))
        with Client(one.url, verify=context) as client:
            assert client.health().status == "ok"
