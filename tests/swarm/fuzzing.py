"""Messages to a node for the tests of hostile input, and what it answers to them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from audit_place import WIDTH
from fuzzing_bytes import mutants

from metainf.swarm.compute.codec import packed
from metainf.swarm.net import wire_pb2 as wire

__all__ = ["hand_made", "last_answer", "mutants", "opening", "step"]


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


async def last_answer(
    way: Any, method: str, messages: Sequence[bytes], unanswered: Sequence[int] = (), within_s: float = 20.0
) -> Any:
    """What comes back on a stream after its last message: a message, or the status with which it ended. Those
    with the numbers `unanswered` may be answered or not; where the stream is over before the next could be
    written, that is CANCELLED, for gRPC then keeps the answer to itself."""
    import grpc

    call = way.stream_stream(method)()
    try:
        answer: Any = grpc.aio.EOF
        for number, message in enumerate(messages):
            try:
                await call.write(message)
            except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                if number - 1 not in unanswered:
                    raise
                return grpc.StatusCode.CANCELLED
            if number in unanswered:
                continue
            answer = await asyncio.wait_for(call.read(), within_s)
            if answer is grpc.aio.EOF:
                return await call.code()
        return wire.FromNode.FromString(answer)
    except grpc.aio.AioRpcError as error:
        return error.code()
    finally:
        call.cancel()
