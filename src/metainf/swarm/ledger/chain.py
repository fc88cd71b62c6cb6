"""The same promises on an Ethereum virtual machine: the contract `escrow.vy` behind web3.

`escrow.json` beside it is what `python -m metainf.swarm.ledger.chain` compiles from it; a test compiles it
anew. Node identities are Ed25519 keys and wallets are not, so a `Link`, signed by both, tells which wallet is
paid.
"""

import json
import sys
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Literal

from pydantic import Field

from metainf.domain import BadInput, MetaInfError, MissingExtra
from metainf.domain.base import Frozen
from metainf.swarm.ledger.words import Order, Settlement
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.sealed import opened, sealed
from metainf.swarm.trust.signing import Refused
from metainf.swarm.words import NodeId

SOURCE, COMPILED = "escrow.vy", "escrow.json"
NOBODY = "0x" + "0" * 40
MOST_DEPTH = 10_000
"""Python's recursion limit where wallets are used. Their library raises it to 100,000, at which a message of
nested brackets from anybody ends the process."""
Address = Field(pattern=r"^0x[0-9a-fA-F]{40}$")


class ChainFailed(MetaInfError):
    """The chain refused, or does not answer; says the contract's reason."""


class Link(Frozen):
    """Which wallet belongs to a node: sealed by the node, and signed by the wallet over the node's name."""

    version: Literal[1] = 1
    node: NodeId
    wallet: str = Address
    signature: str = Field(pattern=r"^0x[0-9a-f]{130}$")


def link(identity: Identity, key: str) -> str:
    """The sealed link of an identity and a wallet's private key (hex)."""
    account = _account().from_key(key)
    signature = "0x" + account.sign_message(_told(identity.node)).signature.hex().removeprefix("0x")
    return sealed(identity, Link(node=identity.node, wallet=account.address, signature=signature))


def linked(text: str) -> Link:
    """Check a sealed link. Raises Refused unless node and wallet both signed it."""
    found = opened(Link, text)
    if found.signer != found.word.node:
        raise Refused(f"{found.signer} links a wallet to {found.word.node}")
    if _recovered(_told(found.word.node), found.word.signature) != found.word.wallet.lower():
        raise Refused("the wallet did not sign the link")
    return found.word


class Escrows:
    """A deployed contract, as one wallet uses it. `web3` is a connected web3.Web3."""

    def __init__(self, web3: Any, address: str, key: str) -> None:
        self.web3, self.account = web3, _account().from_key(key)
        self.contract = web3.eth.contract(address=address, abi=compiled()["abi"])

    @classmethod
    def deployed(cls, web3: Any, key: str) -> "Escrows":
        """Put a new contract on the chain."""
        account = _account().from_key(key)
        made = web3.eth.contract(abi=compiled()["abi"], bytecode=compiled()["bytecode"])
        receipt = _sent(web3, account, made.constructor(), 0)
        return cls(web3, receipt["contractAddress"], key)

    def open(self, order: Order, transaction: str, arbiter: str | None, wei: int) -> bytes:
        """Hold back money for an order; the key under which it is held."""
        deadline = int(order.deadline_s)
        call = self.contract.functions.open(_bytes(transaction), arbiter or NOBODY, deadline)
        _sent(self.web3, self.account, call, wei)
        return self.key_of(self.account.address, transaction)

    def key_of(self, payer: str, transaction: str) -> bytes:
        return bytes(self.contract.functions.key_of(payer, _bytes(transaction)).call())

    def signed(self, key: bytes, settlement: Settlement, paid: Sequence[tuple[str, int]]) -> bytes:
        """The judge's signature (65 bytes) under what each wallet gets (wei)."""
        from eth_account.messages import encode_defunct

        message = self.contract.functions.message(*self._terms(key, settlement, paid)).call()
        return bytes(self.account.sign_message(encode_defunct(primitive=bytes(message))).signature)

    def settle(
        self, key: bytes, settlement: Settlement, paid: Sequence[tuple[str, int]], signature: bytes
    ) -> None:
        """Bring a judge's signature; anybody may."""
        if len(signature) != 65:
            raise BadInput(f"expected a signature of 65 bytes, found {len(signature)}")
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        terms = self._terms(key, settlement, paid)
        self._send(self.contract.functions.settle(*terms, signature[64], r, s))

    def refund(self, key: bytes) -> None:
        """Money back to the payer, after the deadline."""
        self._send(self.contract.functions.refund(key))

    def withdraw(self) -> None:
        """Fetch what this wallet is owed."""
        self._send(self.contract.functions.withdraw())

    def owed(self, wallet: str) -> int:
        """Wei that a wallet can fetch."""
        return int(self.contract.functions.owed(wallet).call())

    def state(self, key: bytes) -> dict[str, Any]:
        """What is held under a key: payer, judge, amount (wei), deadline (s), done."""
        return dict(
            zip(
                ("payer", "judge", "amount", "deadline", "done"),
                self.contract.functions.held(key).call(),
                strict=True,
            )
        )

    def _send(self, call: Any) -> None:
        _sent(self.web3, self.account, call, 0)

    def _terms(self, key: bytes, settlement: Settlement, paid: Sequence[tuple[str, int]]) -> tuple[Any, ...]:
        wallets, amounts = [wallet for wallet, _ in paid], [amount for _, amount in paid]
        return key, _bytes(settlement.root), _bytes(settlement.answer), wallets, amounts


def compiled() -> dict[str, Any]:
    """Interface (`abi`) and `bytecode` of the contract, with the compiler's version."""
    found: dict[str, Any] = json.loads((files(__package__) / COMPILED).read_text(encoding="utf-8"))
    return found


def compile_contract() -> dict[str, Any]:
    """Compile the source that lies beside this file. Raises MissingExtra without the compiler."""
    try:
        import vyper
        from vyper import compile_code
    except ImportError:
        raise MissingExtra("compiling the contract", "evm") from None
    source = (files(__package__) / SOURCE).read_text(encoding="utf-8")
    made = compile_code(source, output_formats=["abi", "bytecode"])
    return {"compiler": f"vyper {vyper.__version__}", "abi": made["abi"], "bytecode": made["bytecode"]}


def _sent(web3: Any, account: Any, call: Any, wei: int) -> Any:
    """Sign, send and wait. Raises ChainFailed with the contract's reason."""
    try:
        told = {"from": account.address, "value": wei}
        told["nonce"] = web3.eth.get_transaction_count(account.address)
        built = call.build_transaction(told)
        sent = web3.eth.send_raw_transaction(account.sign_transaction(built).raw_transaction)
        receipt = web3.eth.wait_for_transaction_receipt(sent)
    except Exception as error:  # of web3, of the provider and of the test chain, in many kinds
        raise ChainFailed(f"the chain refused: {str(error)[:300]}") from None
    if receipt["status"] != 1:
        raise ChainFailed("the chain undid the transaction")
    return receipt


def _bytes(told: str) -> bytes:
    return bytes.fromhex(told.removeprefix("sha256:"))


def _told(node: str) -> Any:
    _account()
    from eth_account.messages import encode_defunct

    return encode_defunct(text=f"metainf wallet of {node}")


def _recovered(message: Any, signature: str) -> str:
    try:
        return str(_account().recover_message(message, signature=signature)).lower()
    except Exception:  # a signature of no point, of several libraries' kinds
        return ""


def _account() -> Any:
    try:
        from eth_account import Account
    except ImportError:
        raise MissingExtra("a ledger on a chain", "evm") from None
    sys.setrecursionlimit(min(sys.getrecursionlimit(), MOST_DEPTH))
    return Account


if __name__ == "__main__":
    from pathlib import Path

    place = Path(__file__).with_name(COMPILED)
    place.write_text(json.dumps(compile_contract(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
