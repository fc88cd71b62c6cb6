"""metainf ledger and metainf swarm verify."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("cryptography", reason="needs the extra swarm")

from metainf.cli.app import app
from metainf.domain import BadInput
from metainf.swarm.ledger.evidence import Evidence, answer_digest
from metainf.swarm.ledger.words import Order, Receipt
from metainf.swarm.ledger.work import chain, settled
from metainf.swarm.trust.identity import Identity, kept
from metainf.swarm.trust.sealed import digest, sealed
from metainf.swarm.trust.signing import Refused
from metainf.swarm.words import Span


def run(*words: str) -> tuple[int, str]:
    ran = CliRunner().invoke(app, list(words))
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.exit_code, ran.stdout


def evidence(answer: list[int]) -> Evidence:
    """Of a request that one node answered."""
    payer, node = Identity(b"\1" * 32), Identity(b"\2" * 32)
    order = Order(
        payer=payer.node, nonce=1, model="b2:" + "0" * 32, num_blocks=4, request=digest(b""),
        nanousd_per_pass=5, most_passes=100, issued_s=1e9, deadline_s=1e9 + 60,
    )  # fmt: skip
    placed = sealed(payer, order)
    receipt = Receipt(
        order=digest(placed), node=node.node, previous=digest(placed), span=Span(start=0, end=4), tokens=10,
        outputs=digest(b""), issued_s=1e9,
    )  # fmt: skip
    done = (sealed(node, receipt),)
    end = sealed(payer, settled(chain(placed, done), answer_digest(answer), 10))
    return Evidence(order=placed, receipts=done, settlement=end)


def test_deposits_are_shown_and_counted_once(tmp_path: Path) -> None:
    book, key = str(tmp_path / "ledger.sqlite"), str(tmp_path / "operator.key")
    account = Identity(b"\1" * 32).node
    told = ("ledger", "deposit", book, account, "2.5", "--identity", key, "--reference")
    code, out = run(*told, "bank 1", "--json")
    assert (code, json.loads(out)["balances"]) == (0, {account: 2_500_000_000})
    with pytest.raises(BadInput, match="known already"):
        run(*told, "bank 1")
    operator = kept(tmp_path / "operator.key").node
    code, out = run("ledger", "show", book, "--operator", operator)
    assert code == 0
    assert "2.5" in out
    assert run("ledger", "refund", book, "--identity", key) == (0, "0 orders refunded\n")
    assert json.loads(run("ledger", "head", book, "--identity", key)[1])["public"]
    with pytest.raises(BadInput, match="expected a ledger in"):
        run("ledger", "show", str(tmp_path / "none"), "--operator", operator)


def test_evidence_is_verified_and_another_answer_is_told(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    path.write_text(evidence([5, 9]).canonical(), encoding="utf-8")
    code, out = run("swarm", "verify", str(path), "--answer", "5,9")
    assert code == 0
    assert "10 through all blocks, 0.000000200 USD" in out
    assert run("swarm", "verify", str(path), "--answer", "5,8", "--json")[0] == 1
    assert json.loads(run("swarm", "verify", str(path), "--json")[1])["paid_nanousd"] == 200


def test_bad_evidence_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    with pytest.raises(BadInput, match="expected evidence in"):
        run("swarm", "verify", str(path))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match="not a valid Evidence"):
        run("swarm", "verify", str(path))
    changed = evidence([5]).canonical().replace(":10,", ":11,", 1)
    assert changed != evidence([5]).canonical()
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(Refused):
        run("swarm", "verify", str(path))
    with pytest.raises(BadInput, match=r"expected tokens such as 5,9,1, found 'five'"):
        run("swarm", "verify", str(path), "--answer", "five")
