"""Merkle trees as in RFC 6962: leaves and nodes are hashed apart, so that neither can pass for the other."""

import hashlib
from collections.abc import Sequence

from metainf.domain import BadInput

EMPTY = hashlib.sha256(b"").digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The 32 bytes that stand for all leaves in their order."""
    if not leaves:
        return EMPTY
    if len(leaves) == 1:
        return _leaf(leaves[0])
    middle = _split(len(leaves))
    return _node(root(leaves[:middle]), root(leaves[middle:]))


def proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes beside the way from a leaf to the root, lowest first. Raises BadInput for no leaf."""
    if not 0 <= index < len(leaves):
        raise BadInput(f"expected a leaf below {len(leaves)}, found {index}")
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    if index < middle:
        return [*proof(leaves[:middle], index), root(leaves[middle:])]
    return [*proof(leaves[middle:], index - middle), root(leaves[:middle])]


def proven(leaf: bytes, index: int, count: int, beside: Sequence[bytes], top: bytes) -> bool:
    """Whether the leaf is number `index` of the `count` leaves under that root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < count:
        return False
    found, at, last = _leaf(leaf), index, count - 1
    for each in beside:
        if last == 0:
            return False
        if at % 2 or at == last:
            found = _node(each, found)
            while not at % 2 and at:
                at, last = at // 2, last // 2
        else:
            found = _node(found, each)
        at, last = at // 2, last // 2
    return last == 0 and found == top


def _split(count: int) -> int:
    """The largest power of two below the count."""
    return 1 << (count - 1).bit_length() - 1


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
