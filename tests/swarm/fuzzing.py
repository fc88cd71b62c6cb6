"""Broken bytes for the tests of hostile input, and what a node may answer to them."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from audit_place import WIDTH

from metainf.swarm.compute.codec import packed
from metainf.swarm.net import wire_pb2 as wire

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


def opening(model: str, **told: Any) -> bytes:
    ask = {"version": 1, "session": "s", "model": model, "start": 0, "end": 4, "dtype": "float32", **told}
    return bytes(wire.ToNode(open=wire.Open(**ask)).SerializeToString())


def step(position: int = 0, tokens: int = 2, **told: Any) -> bytes:
    shape, data = packed(np.ones((1, tokens, WIDTH), dtype=np.float32))
    sent = {"position": position, "shape": shape, "codec": "f32", "data": data, **told}
    return bytes(wire.ToNode(step=wire.Step(**sent)).SerializeToString())


def hand_made(model: str) -> list[list[bytes]]:
    """Streams of whole messages that no honest client sends; the last message of each is the wrong one."""
    good, two = opening(model), b"\x00" * (2 * WIDTH * 4)
    nan = np.full((1, 2, WIDTH), np.nan, dtype=np.float32).tobytes()
    return [
        [b""],
        [step()],
        [good, good],
        [good, b""],
        [good, step(), step(position=1)],
        [good, step(), step(position=2), step(position=2)],
        [good, step(position=2**32 - 1)],
        [good, step(shape=[1, 2, WIDTH], data=two[:-1])],
        [good, step(shape=[1, 2**32 - 1, 2**32 - 1], data=b"")],
        [good, step(shape=[1] * 1000)],
        [good, step(shape=[])],
        [good, step(shape=[2, 1, WIDTH], data=two)],
        [good, step(shape=[1, 2, WIDTH - 1], data=two[: 8 * (WIDTH - 1)])],
        [good, step(codec="f64")],
        [good, step(codec="x" * 100_000)],
        [good, step(data=nan)],
        [opening(model, version=2)],
        [opening(model, version=2**32 - 1)],
        [opening(model, session="")],
        [opening(model, session="s" * 10_000)],
        [opening("b2:" + "0" * 32)],
        [opening("m" * 100_000)],
        [opening(model, dtype="float16")],
        [opening(model, start=3, end=3)],
        [opening(model, start=4, end=1)],
        [opening(model, start=0, end=2**32 - 1)],
    ]


async def last_answer(way: Any, method: str, messages: Sequence[bytes], within_s: float = 20.0) -> Any:
    """What comes back on a stream after its last message: a message, or the status with which it ended."""
    import grpc

    call = way.stream_stream(method)()
    try:
        answer: Any = grpc.aio.EOF
        for message in messages:
            await call.write(message)
            answer = await asyncio.wait_for(call.read(), within_s)
            if answer is grpc.aio.EOF:
                return await call.code()
        return wire.FromNode.FromString(answer)
    except grpc.aio.AioRpcError as error:
        return error.code()
    finally:
        call.cancel()
