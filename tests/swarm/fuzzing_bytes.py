"""Broken bytes for the tests of hostile input."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

Mutation = Callable[[bytes, np.random.Generator], bytes]


def flipped(message: bytes, rng: np.random.Generator) -> bytes:
    made = bytearray(message)
    for _ in range(int(rng.integers(1, 8))):
        made[int(rng.integers(0, len(made)))] ^= 1 << int(rng.integers(0, 8))
    return bytes(made)


def overwritten(message: bytes, rng: np.random.Generator) -> bytes:
    """Near the front, where fields and lengths stand."""
    made = bytearray(message)
    for _ in range(int(rng.integers(1, 5))):
        made[int(rng.integers(0, min(60, len(made))))] = int(rng.integers(0, 256))
    return bytes(made)


def cut_off(message: bytes, rng: np.random.Generator) -> bytes:
    return message[: int(rng.integers(0, len(message)))]


def lengthened(message: bytes, rng: np.random.Generator) -> bytes:
    return message + rng.bytes(int(rng.integers(1, 300)))


def doubled(message: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(0, len(message)))
    return message[:at] + message + message[at:]


def lying_length(message: bytes, rng: np.random.Generator) -> bytes:
    """A length that says more than there is: a varint of many bytes where a length may stand."""
    at = int(rng.integers(1, min(8, len(message))))
    return message[:at] + bytes([255] * int(rng.integers(1, 9))) + b"\x7f" + message[at + 1 :]


def garbage(message: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, 400)))


def nested(message: bytes, rng: np.random.Generator) -> bytes:
    """JSON or protobuf that opens many levels and closes none."""
    return bytes(rng.choice([b"[", b'{"a":', b"\x0a\x7f", b"\x0b"])) * int(rng.integers(1, 4000))


MUTATIONS: tuple[Mutation, ...] = (
    flipped, overwritten, cut_off, lengthened, doubled, lying_length, garbage, nested,
)  # fmt: skip


def mutants(messages: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` broken messages, all mutations and all messages in turn."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        mutation = MUTATIONS[number % len(MUTATIONS)]
        yield mutation(messages[number // len(MUTATIONS) % len(messages)], rng)
