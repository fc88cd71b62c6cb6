"""One stage of a route as the client sees it: a stream to one node for one span."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput, MetaInfError
from metainf.swarm.compute.codec import packed, unpacked
from metainf.swarm.net import wire_pb2 as wire
from metainf.swarm.net.node import METHOD, VERSION
from metainf.swarm.trust.tls import grpc
from metainf.swarm.words import Stage, numbers

Activations = NDArray[np.float32]


class StageFailed(MetaInfError):
    """A node that died, hung, refused or answered nonsense."""

    def __init__(self, stage: Stage, why: str) -> None:
        self.stage, self.why = stage, why
        super().__init__(f"{stage.node} {stage.span}: {why}")


@dataclass(frozen=True)
class Terms:
    """What a session agrees on with every node, and the seconds after which a node counts as hung: to open a
    stream; for a step, and in addition for each token of it."""

    session: str
    model: str
    dtype: str = "float32"
    codec: str = "f32"
    open_s: float = 5.0
    step_s: float = 2.0
    token_s: float = 0.2
    quantization: str = "none"

    @property
    def numbers(self) -> str:
        """How every node must calculate."""
        return numbers(self.dtype, self.quantization)

    def deadline_s(self, tokens: int) -> float:
        return self.step_s + self.token_s * (tokens - 1)


class Stream:
    """An open stage. Every failure, of whatever kind, is a StageFailed."""

    def __init__(self, stage: Stage, terms: Terms, channel: Any) -> None:
        self.stage, self.terms = stage, terms
        self._call = channel.stream_stream(METHOD)()
        self.position = 0
        self.node_s = self.wire_s = 0.0

    async def open(self) -> None:
        span, terms = self.stage.span, self.terms
        ask = wire.Open(
            version=VERSION,
            session=terms.session,
            model=terms.model,
            start=span.start,
            end=span.end,
            dtype=terms.numbers,
        )
        answer = await self._ask(wire.ToNode(open=ask), terms.open_s)
        if answer.WhichOneof("kind") != "opened" or answer.opened.node != self.stage.node:
            raise StageFailed(self.stage, "somebody else answered")

    async def step(self, values: Activations) -> Activations:
        """Activations after the span. The next step begins behind these tokens."""
        shape, data = packed(values, self.terms.codec)
        step = wire.Step(position=self.position, shape=shape, codec=self.terms.codec, data=data)
        begun = time.perf_counter()
        answer = await self._ask(wire.ToNode(step=step), self.terms.deadline_s(values.shape[1]))
        took = time.perf_counter() - begun
        if answer.WhichOneof("kind") != "step" or answer.step.position != self.position:
            raise StageFailed(self.stage, "the answer is of another step")
        try:
            made = unpacked(answer.step.shape, answer.step.codec, answer.step.data)
        except BadInput as error:
            raise StageFailed(self.stage, str(error)) from None
        if made.shape != values.shape or not np.isfinite(made).all():
            raise StageFailed(self.stage, "the answer has another shape, or holds what is no number")
        self.position += values.shape[1]
        self.node_s += answer.step.seconds
        self.wire_s += max(0.0, took - answer.step.seconds)
        return made

    def cancel(self) -> None:
        """Leave at once; the node forgets the session."""
        self._call.cancel()

    async def _ask(self, message: Any, seconds: float) -> Any:
        from google.protobuf.message import DecodeError

        library = grpc()
        try:
            answer = await asyncio.wait_for(self._exchange(message), seconds)
            if not isinstance(answer, bytes):
                raise StageFailed(self.stage, "the stream ended")
            told = wire.FromNode.FromString(answer)
        except TimeoutError:
            raise StageFailed(self.stage, f"no answer within {seconds:.1f} s") from None
        except library.aio.AioRpcError as error:
            raise StageFailed(self.stage, f"{error.code().name}: {str(error.details())[:200]}") from None
        except (asyncio.InvalidStateError, library.aio.UsageError) as error:
            raise StageFailed(self.stage, f"the stream is closed: {error}") from None
        except DecodeError:
            raise StageFailed(self.stage, "the answer is no message of this protocol") from None
        if told.WhichOneof("kind") == "refusal":
            raise StageFailed(self.stage, told.refusal.why[:300])
        return told

    async def _exchange(self, message: Any) -> Any:
        await self._call.write(message.SerializeToString())
        return await self._call.read()
