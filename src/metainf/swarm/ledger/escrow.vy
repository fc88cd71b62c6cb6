# pragma version ~=0.4.3
# @license Apache-2.0
"""
@title Escrow for requests to a swarm
@notice A payer holds back money for an order. Until its deadline the order's judge (the arbiter, or the payer where
        there is none) signs who is paid; after it the money goes back. Payments are fetched, never sent.
"""

MOST_NODES: constant(uint256) = 64
LONGEST_S: constant(uint256) = 7 * 86400

struct Held:
    payer: address
    judge: address
    amount: uint256
    deadline: uint256
    done: bool

event Opened:
    key: indexed(bytes32)
    payer: indexed(address)
    order: bytes32
    judge: address
    amount: uint256
    deadline: uint256

event Settled:
    key: indexed(bytes32)
    root: bytes32
    answer: bytes32
    paid: uint256

event Refunded:
    key: indexed(bytes32)
    amount: uint256

held: public(HashMap[bytes32, Held])
owed: public(HashMap[address, uint256])


@external
@view
def key_of(payer: address, order: bytes32) -> bytes32:
    """
    @notice Under which key an order of a payer is held: nobody can take the key of another's order.
    """
    return self._key(payer, order)


@external
@payable
def open(order: bytes32, arbiter: address, deadline: uint256) -> bytes32:
    """
    @notice Hold back what is sent for an order (its transaction). Each order of a payer is admitted once.
    """
    key: bytes32 = self._key(msg.sender, order)
    assert self.held[key].payer == empty(address), "known"
    assert msg.value > 0, "nothing sent"
    assert deadline > block.timestamp, "deadline is over"
    assert deadline <= block.timestamp + LONGEST_S, "deadline is too far"
    judge: address = arbiter
    if arbiter == empty(address):
        judge = msg.sender
    self.held[key] = Held(payer=msg.sender, judge=judge, amount=msg.value, deadline=deadline, done=False)
    log Opened(key=key, payer=msg.sender, order=order, judge=judge, amount=msg.value, deadline=deadline)
    return key


@external
@view
def message(
    key: bytes32,
    root: bytes32,
    answer: bytes32,
    nodes: DynArray[address, MOST_NODES],
    amounts: DynArray[uint256, MOST_NODES],
) -> bytes32:
    """
    @notice What the judge signs (as an EIP-191 personal message): bound to this chain and this contract.
    """
    return self._message(key, root, answer, nodes, amounts)


@external
def settle(
    key: bytes32,
    root: bytes32,
    answer: bytes32,
    nodes: DynArray[address, MOST_NODES],
    amounts: DynArray[uint256, MOST_NODES],
    v: uint256,
    r: uint256,
    s: uint256,
):
    """
    @notice Credit the nodes, and the payer with the rest. Anybody may bring the judge's signature.
    """
    found: Held = self.held[key]
    assert found.payer != empty(address), "unknown"
    assert not found.done, "done"
    assert block.timestamp <= found.deadline, "deadline is over"
    assert len(nodes) == len(amounts), "lengths differ"
    inner: bytes32 = self._message(key, root, answer, nodes, amounts)
    signed: bytes32 = keccak256(concat(b"\x19Ethereum Signed Message:\n32", inner))
    signer: address = ecrecover(signed, v, r, s)
    assert signer != empty(address), "no signature"
    assert signer == found.judge, "not the judge"
    self.held[key].done = True
    paid: uint256 = 0
    for i: uint256 in range(len(nodes), bound=MOST_NODES):
        self.owed[nodes[i]] += amounts[i]
        paid += amounts[i]
    assert paid <= found.amount, "more than is held"
    self.owed[found.payer] += found.amount - paid
    log Settled(key=key, root=root, answer=answer, paid=paid)


@external
def refund(key: bytes32):
    """
    @notice Credit the payer after the deadline. Anybody may ask for it.
    """
    found: Held = self.held[key]
    assert found.payer != empty(address), "unknown"
    assert not found.done, "done"
    assert block.timestamp > found.deadline, "deadline is not over"
    self.held[key].done = True
    self.owed[found.payer] += found.amount
    log Refunded(key=key, amount=found.amount)


@external
def withdraw() -> uint256:
    """
    @notice Fetch what one is owed.
    """
    amount: uint256 = self.owed[msg.sender]
    assert amount > 0, "nothing owed"
    self.owed[msg.sender] = 0
    raw_call(msg.sender, b"", value=amount)
    return amount


@internal
@view
def _key(payer: address, order: bytes32) -> bytes32:
    return keccak256(abi_encode(payer, order))


@internal
@view
def _message(
    key: bytes32,
    root: bytes32,
    answer: bytes32,
    nodes: DynArray[address, MOST_NODES],
    amounts: DynArray[uint256, MOST_NODES],
) -> bytes32:
    return keccak256(abi_encode(chain.id, self, key, root, answer, nodes, amounts))
