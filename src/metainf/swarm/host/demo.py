"""Four nodes of different speed on this machine write a text together; one is killed in the middle."""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metainf.domain import BadInput
from metainf.domain.base import Frozen
from metainf.swarm.compute.blocks import Blocks, Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.embedded import Running, all_stopped, ready, start_node
from metainf.swarm.host.nats import started
from metainf.swarm.host.running import Book, Told, guest
from metainf.swarm.net.client import Session
from metainf.swarm.net.directory import joined
from metainf.swarm.net.stream import Terms
from metainf.swarm.trust.certificates import certify
from metainf.swarm.trust.identity import SEED_BYTES, Identity
from metainf.swarm.words import Span

SLOWNESS = (1.0, 1.5, 2.5, 4.0)
STEP_S = 10.0
"""Generous: all four nodes share the processors of this machine."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Script:
    """What is shown: the question, how many tokens, after how many the busiest node is killed."""

    question: str = "Write three sentences about rivers."
    tokens: int = 40
    kill_after: int = 15

    def __post_init__(self) -> None:
        """Raises BadInput where nobody would be killed."""
        if not 0 < self.kill_after < self.tokens:
            last = self.tokens - 1
            raise BadInput(
                f"expected a kill after 1 to {last} of {self.tokens} tokens, found {self.kill_after}"
            )


class Shown(Frozen):
    """What came of it. `same` says whether the text is the one that a single process writes."""

    text: str
    tokens: int
    same: bool
    killed: str
    routes: tuple[str, ...]
    recovery_s: float
    replayed_tokens: int
    seconds: float


def halves(blocks: int) -> tuple[Span, ...]:
    """Spans of four nodes such that any one of them can be missing: two halves, and two of two thirds."""
    if blocks < 3:
        raise BadInput(f"expected a model of at least 3 blocks, found {blocks}")
    half, third = blocks // 2, blocks // 3
    return (
        Span(start=0, end=half),
        Span(start=half, end=blocks),
        Span(start=0, end=blocks - third),
        Span(start=third, end=blocks),
    )


async def demo(folder: Path, script: Script, say: Say) -> Shown:
    """Play it with the checkpoint in the folder. Raises BadInput, MissingExtra, DidNotStart."""
    begun = time.perf_counter()
    checkpoint = Checkpoint(folder)
    with tempfile.TemporaryDirectory() as scratch:
        server = started(Path(scratch))
        say(f"directory at {server.url}")
        nodes: list[Running] = []
        try:
            nodes = await _nodes(folder, checkpoint, server.url, say)
            shown = await _play(checkpoint, (nodes, server.url), script, say)
        finally:
            await all_stopped(nodes)
            server.stop()
    return shown.model_copy(update={"seconds": time.perf_counter() - begun})


async def _nodes(folder: Path, checkpoint: Checkpoint, url: str, say: Say) -> list[Running]:
    spans = halves(checkpoint.num_blocks)
    nodes = []
    for number, (span, slowness) in enumerate(zip(spans, SLOWNESS, strict=True), 1):
        told = Told(checkpoint=str(folder), join=url, span=span, slowness=slowness)
        nodes.append(await start_node(f"node {number}", told))
    try:
        for each in nodes:
            await ready(each)
            held = f"blocks {each.told.span}, {each.words[4]} ms a block and token"
            say(f"{each.name} is {each.node[:11]}, {held}")
    except BaseException:
        await all_stopped(nodes)
        raise
    return nodes


async def _play(
    checkpoint: Checkpoint, swarm: tuple[Sequence[Running], str], script: Script, say: Say
) -> Shown:
    nodes, url = swarm
    ends, tokenizer = Ends(checkpoint), _tokenizer(checkpoint)
    prompt = _prompt(tokenizer, script.question)
    directory = await joined(url)
    identity, stop = Identity(os.urandom(SEED_BYTES)), asyncio.Event()
    book, mine = Book(directory), certify(identity, time.time())
    present = asyncio.create_task(guest(book, mine, identity, stop))
    await asyncio.sleep(1.5)  # nodes read the directory each second
    routes: list[str] = []
    killed = ""

    def tell(line: str) -> None:
        if line.startswith("route "):
            routes.append(line)
        say(line)

    made: list[int] = []
    terms = Terms("demo", checkpoint.digest(), step_s=STEP_S)
    try:
        async with Session(ends, book.look, mine, terms, tell) as session:
            async for token in session.generate(prompt, script.tokens, tokenizer.eos_token_id):
                made.append(token)
                if len(made) == script.kill_after:
                    say("text  " + tokenizer.decode(made).replace("\n", " "))
                    killed = await _killed(session, nodes, say)
            recoveries = session.recoveries
    finally:
        stop.set()
        await present
        await directory.close()
    alone = one_process(checkpoint, ends, prompt, len(made))
    return Shown(
        text=tokenizer.decode(made),
        tokens=len(made),
        same=alone == made,
        killed=killed,
        routes=tuple(routes),
        recovery_s=sum(each.seconds for each in recoveries),
        replayed_tokens=sum(each.replayed_tokens for each in recoveries),
        seconds=0.0,
    )


async def _killed(session: Session, nodes: Sequence[Running], say: Say) -> str:
    """Kill the node that holds most of the route, without a warning."""
    stage = max(session.route, key=lambda each: len(each.span))
    victim = next(each for each in nodes if each.node == stage.node)
    victim.process.kill()
    await victim.process.wait()
    say(f"killed {victim.name}, which ran blocks {stage.span}")
    return victim.name


def one_process(checkpoint: Checkpoint, ends: Ends, prompt: Sequence[int], count: int) -> list[int]:
    """The same tokens written by all blocks in this process."""
    blocks = Blocks(checkpoint, Span(start=0, end=checkpoint.num_blocks))
    made: list[int] = []
    fed, position = list(prompt), 0
    while len(made) < count:
        hidden = blocks.step("alone", position, ends.embed(fed))
        position += len(fed)
        made.append(ends.greedy(hidden))
        fed = made[-1:]
    return made


def _tokenizer(checkpoint: Checkpoint) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint.folder)


def _prompt(tokenizer: Any, question: str) -> list[int]:
    if not tokenizer.chat_template:
        return [int(each) for each in tokenizer.encode(question)]
    asked = [{"role": "user", "content": question}]
    told = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    return [int(each) for each in tokenizer.encode(told, add_special_tokens=False)]
