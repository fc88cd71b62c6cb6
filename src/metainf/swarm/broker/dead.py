"""Letters that nobody could serve: what there is, and sending one again."""

import time
from dataclasses import dataclass
from typing import Any

from metainf.domain import BadInput
from metainf.swarm.broker.streams import DEAD, LOST, BrokerLost
from metainf.swarm.broker.words import Job
from metainf.swarm.trust.sealed import digest

MOST_SHOWN = 1000


@dataclass(frozen=True)
class Letter:
    """One message of the stream of dead letters; `job` is None where it is no request."""

    seq: int
    group: str
    why: str
    job: Job | None


async def letters(stream: Any) -> list[Letter]:
    """All of them, the oldest first, MOST_SHOWN at most. Raises BrokerLost."""
    found: list[Letter] = []
    try:
        state = (await stream.stream_info(DEAD)).state
        seq = state.first_seq
        while seq <= state.last_seq and state.messages and len(found) < MOST_SHOWN:
            message = await _next(stream, seq)
            if message is None:
                break
            found.append(_read(message))
            seq = message.seq + 1
    except Exception as error:
        raise BrokerLost(f"the dead letters cannot be read: {error!r}") from None
    return found


def again(letter: Letter, agent: str, now_s: float | None = None) -> Job:
    """The same request under a transaction of its own, with as much time as it had, to be answered to this
    agent. Raises BadInput for what is no request."""
    if letter.job is None:
        raise BadInput(f"letter {letter.seq} is no request: {letter.why}")
    now, job = time.time() if now_s is None else now_s, letter.job
    told = {
        "transaction": digest(f"{job.transaction} again {letter.seq} {now}"),
        "agent": agent,
        "issued_s": now,
        "deadline_s": now + max(1.0, job.deadline_s - job.issued_s),
    }
    return job.model_copy(update=told)


async def removed(stream: Any, letter: Letter) -> None:
    """It was served after all."""
    await stream.delete_msg(DEAD, letter.seq)


async def _next(stream: Any, seq: int) -> Any:
    """The first message from a number on; None where there is none."""
    from nats.js.errors import NotFoundError

    try:
        return await stream.get_msg(DEAD, seq, subject=f"{LOST}.>", next=True)
    except NotFoundError:
        return None


def _read(message: Any) -> Letter:
    why = (message.headers or {}).get("Metainf-Why", "")
    try:
        job = Job.parse(message.data)
    except BadInput:
        job = None
    return Letter(int(message.seq), str(message.subject).split(".", 1)[1], why, job)
