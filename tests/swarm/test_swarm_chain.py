"""The contract on real Ethereum virtual machines: py-evm in this process, and anvil where it is installed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("web3")
pytest.importorskip("vyper")

from orders import NODES, PAYER, WHOLE, order, receipts

from metainf.swarm.ledger.chain import ChainFailed, Escrows, compile_contract, compiled, link, linked
from metainf.swarm.ledger.words import Order
from metainf.swarm.ledger.work import chain, settled
from metainf.swarm.trust.sealed import digest, opened
from metainf.swarm.trust.signing import Refused
from running_process import free_port

KEYS = [f"0x{number:064x}" for number in (0xA11CE, 0xB0B, 0xCA1, 0xD0, 0xE1)]
ETHER = 10**18


def anvil() -> str | None:
    """The program: on the path, or where METAINF_ANVIL says."""
    beside = Path(__file__).parents[2] / ".venv/anvil/node_modules/.bin/anvil"
    return (
        os.environ.get("METAINF_ANVIL") or shutil.which("anvil") or (str(beside) if beside.exists() else None)
    )


def test_wallets_leave_a_process_that_nested_brackets_do_not_end() -> None:
    code = (
        "import json, sys\n"
        "from metainf.swarm.ledger.chain import link\n"
        "from metainf.swarm.trust.identity import Identity\n"
        "link(Identity(bytes(32)), '0x' + '11' * 32)\n"
        "try:\n json.loads('[' * 1_000_000)\nexcept RecursionError:\n print('refused')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.stdout == "refused\n", ran.stderr


@pytest.fixture(scope="module", params=["py-evm", "anvil"])
def web3(request: pytest.FixtureRequest) -> Iterator[Any]:
    from web3 import EthereumTesterProvider, Web3

    if request.param == "py-evm":
        pytest.importorskip("eth_tester")
        yield _funded(Web3(EthereumTesterProvider()))
        return
    program = anvil()
    if program is None:
        pytest.skip("anvil is not installed")
    port = free_port()
    process = subprocess.Popen([program, "--port", str(port), "--silent"])
    try:
        found = Web3(Web3.HTTPProvider(f"http://127.0.0.1:{port}"))
        end = time.monotonic() + 20
        while not found.is_connected() and time.monotonic() < end:
            time.sleep(0.1)
        yield _funded(found)
    finally:
        process.terminate()
        process.wait(10)


def _funded(web3: Any) -> Any:
    from eth_account import Account

    rich = web3.eth.accounts[0]
    for key in KEYS:
        web3.eth.wait_for_transaction_receipt(
            web3.eth.send_transaction(
                {"from": rich, "to": Account.from_key(key).address, "value": 10 * ETHER}
            )
        )
    return web3


@pytest.fixture(scope="module")
def payer(web3: Any) -> Escrows:
    return Escrows.deployed(web3, KEYS[0])


def other(payer: Escrows, number: int) -> Escrows:
    return Escrows(payer.web3, payer.contract.address, KEYS[number])


def placed(payer: Escrows, nonce: int, arbiter: str | None, wait_s: float = 3600) -> tuple[str, bytes]:
    now = float(payer.web3.eth.get_block("latest")["timestamp"])
    text = order(nonce, issued_s=now, deadline_s=now + wait_s)
    return text, payer.open(opened(Order, text).word, digest(text), arbiter, 1000)


def settlement_of(text: str) -> Any:
    return settled(chain(text, receipts(text, WHOLE)), digest(b"answer"), 20)


def test_what_ships_is_what_the_source_compiles_to() -> None:
    assert compile_contract() == compiled()


def test_nodes_are_paid_on_the_arbiters_signature_and_the_rest_goes_back(payer: Escrows) -> None:
    arbiter, node = other(payer, 1), other(payer, 2)
    text, key = placed(payer, 1, arbiter.account.address)
    assert payer.state(key)["amount"] == 1000
    told, paid = settlement_of(text), [(node.account.address, 700)]
    signature = arbiter.signed(key, told, paid)
    before = payer.owed(payer.account.address)
    node.settle(key, told, paid, signature)
    assert node.owed(node.account.address) == 700
    assert payer.owed(payer.account.address) - before == 300
    rich = node.web3.eth.get_balance(payer.contract.address)
    node.withdraw()
    assert node.owed(node.account.address) == 0
    assert rich - node.web3.eth.get_balance(payer.contract.address) == 700
    with pytest.raises(ChainFailed, match="nothing owed"):
        node.withdraw()
    with pytest.raises(ChainFailed, match="done"):
        node.settle(key, told, paid, signature)


def test_nobody_else_settles_and_no_word_of_a_settlement_can_be_changed(payer: Escrows) -> None:
    arbiter, node = other(payer, 1), other(payer, 2)
    text, key = placed(payer, 2, arbiter.account.address)
    told, paid = settlement_of(text), [(node.account.address, 700)]
    for liar in (payer, node):
        with pytest.raises(ChainFailed, match="not the judge"):
            node.settle(key, told, paid, liar.signed(key, told, paid))
    signature = arbiter.signed(key, told, paid)
    with pytest.raises(ChainFailed, match="not the judge"):
        node.settle(key, told, [(node.account.address, 999)], signature)
    with pytest.raises(ChainFailed, match="not the judge"):
        node.settle(key, told.model_copy(update={"answer": digest(b"other")}), paid, signature)
    too_much = [(node.account.address, 1001)]
    with pytest.raises(ChainFailed, match="more than is held"):
        node.settle(key, told, too_much, arbiter.signed(key, told, too_much))
    _, second = placed(payer, 3, arbiter.account.address)
    with pytest.raises(ChainFailed, match="not the judge"):
        node.settle(second, told, paid, signature)
    assert not payer.state(key)["done"]


def test_an_order_is_admitted_once_and_nobody_takes_its_key(payer: Escrows) -> None:
    text, key = placed(payer, 4, None)
    with pytest.raises(ChainFailed, match="known"):
        payer.open(opened(Order, text).word, digest(text), None, 1000)
    thief = other(payer, 3)
    assert thief.open(opened(Order, text).word, digest(text), None, 1) != key
    assert payer.state(key)["judge"] == payer.account.address
    with pytest.raises(ChainFailed, match="nothing sent"):
        thief.open(opened(Order, order(5)).word, digest(order(5)), None, 0)


def test_money_goes_back_after_the_deadline_only(payer: Escrows) -> None:
    text, key = placed(payer, 6, None, wait_s=30)
    with pytest.raises(ChainFailed, match="not over"):
        payer.refund(key)
    before = payer.owed(payer.account.address)
    _later(payer.web3, 60)
    told = settlement_of(text)
    with pytest.raises(ChainFailed, match="deadline is over"):
        payer.settle(key, told, [], payer.signed(key, told, []))
    other(payer, 3).refund(key)
    assert payer.owed(payer.account.address) - before == 1000
    with pytest.raises(ChainFailed, match="done"):
        payer.refund(key)


def test_a_wallet_is_linked_by_both_signatures() -> None:
    text = link(NODES[0], KEYS[2])
    assert linked(text).node == NODES[0].node
    word = linked(text)
    from metainf.swarm.ledger.chain import Link
    from metainf.swarm.trust.sealed import sealed

    with pytest.raises(Refused, match="wallet did not sign"):
        linked(sealed(NODES[1], Link(node=NODES[1].node, wallet=word.wallet, signature=word.signature)))
    with pytest.raises(Refused, match="links a wallet to"):
        linked(sealed(PAYER, word))


def _later(web3: Any, seconds: int) -> None:
    from web3 import EthereumTesterProvider

    if isinstance(web3.provider, EthereumTesterProvider):
        tester = web3.provider.ethereum_tester
        tester.time_travel(web3.eth.get_block("latest")["timestamp"] + seconds)
        tester.mine_block()
    else:
        web3.provider.make_request("evm_increaseTime", [seconds])
        web3.provider.make_request("evm_mine", [])
