"""A head over an encrypted activation; `test_swarm_encrypted` runs this file in a process of its own."""

import sys

import numpy as np
import pytest

from metainf.domain import BadInput, MissingExtra
from metainf.swarm.privacy.encrypted import Client, Server


def test_without_the_extra_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(MissingExtra, match="he"):
        Client()


@pytest.fixture(scope="module")
def client() -> Client:
    pytest.importorskip("tenseal", reason="needs the extra he")
    return Client()


@pytest.mark.parametrize(("inputs", "outputs"), [(48, 3), (48, 20), (1, 1), (300, 7)])
def test_the_head_says_what_it_says_in_the_open(client: Client, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(inputs + outputs)
    weights, bias = rng.normal(size=(outputs, inputs)), rng.normal(size=outputs)
    hidden = rng.normal(size=inputs)
    sent = client.encrypted(hidden)
    found = client.decrypted(Server(client.public(), weights, bias).answer(sent))
    assert np.abs(found - (weights @ hidden + bias)).max() < 1e-4


def test_the_server_cannot_decrypt_and_another_key_reads_nothing(client: Client) -> None:
    server, hidden = Server(client.public(), np.eye(4), np.zeros(4)), [0.5, -1.0, 2.0, 3.0]
    sent = client.encrypted(hidden)
    assert sent != client.encrypted(hidden), "encryption is drawn anew each time"
    assert not server._context.is_private()
    other = Client().decrypted(server.answer(sent))
    assert not np.allclose(other, hidden, atol=0.5)


def test_what_does_not_fit_is_refused(client: Client) -> None:
    server = Server(client.public(), np.ones((2, 4)), [0, 0])
    for broken in (b"", b"abc", client.public()[:500], client.encrypted([1.0, 2.0])):
        with pytest.raises(BadInput, match="expected"):
            server.answer(broken)
    secret = client._context.serialize(save_secret_key=True)
    for keys in (b"", b"abc", secret):
        with pytest.raises(BadInput, match="expected public keys"):
            Server(keys, np.ones((2, 4)), [0, 0])
    for numbers in ([], [np.nan], [1e9], [[1.0]], np.zeros(5000)):
        with pytest.raises(BadInput, match="expected"):
            client.encrypted(numbers)
    with pytest.raises(BadInput, match="bias"):
        Server(client.public(), np.ones((2, 4)), [0])


def test_turned_bytes_are_refused_or_answered(client: Client) -> None:
    """Which of them TenSEAL notices depends on the keys, which are drawn anew each time."""
    server, sent = Server(client.public(), np.ones((1, 4)), [0]), client.encrypted([1.0, 2.0, 3.0, 4.0])
    rng, refused = np.random.default_rng(1), 0
    for number in range(30):
        broken = bytearray(sent)
        broken[int(rng.integers(len(broken) if number % 2 else 200))] ^= int(rng.integers(1, 256))
        try:
            server.answer(bytes(broken))
        except BadInput:
            refused += 1
    assert refused > 0
    for part in (b"", sent[: len(sent) // 2], b"x" * len(sent)):
        with pytest.raises(BadInput):
            server.answer(part)
