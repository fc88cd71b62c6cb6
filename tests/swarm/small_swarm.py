"""A swarm in one process, for tests: real nodes, real sockets, real TLS, a small model with a tokenizer."""

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from in_process import InMemory

from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.host.caller import Caller
from metainf.swarm.host.generating import Joined, Swarm
from metainf.swarm.host.running import Book
from metainf.swarm.net.directory import NODES
from metainf.swarm.net.forwarding import Links
from metainf.swarm.net.node import Node, Offer
from metainf.swarm.trust.certificates import Certified, certify
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.signing import seal
from metainf.swarm.trust.tls import serving
from metainf.swarm.words import Announcement, Features, Profile, Span

LAYERS, VOCABULARY = 4, 260
END, USER, ASSISTANT = "<|end|>", "<|user|>", "<|assistant|>"
TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def small_model(folder: Path, seed: int = 3, positions: int = 512) -> Path:
    """A random Llama of 4 blocks whose tokens are bytes, saved with its tokenizer."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(
        "llama", vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=256, hidden_size=32,
        intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=positions,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    entries = {letter: at for at, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=entries, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END, USER, ASSISTANT])
    whole = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    whole.chat_template = TEMPLATE
    whole.save_pretrained(folder)
    return folder


class Place:
    """Nodes that may be started and killed. A node reads the directory when `read` says so."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint = Checkpoint(folder)
        self.model = self.checkpoint.digest()
        self.directory = InMemory()
        self.nodes: dict[str, Node] = {}
        self.people: dict[str, tuple[Identity, Certified]] = {}
        self.books: list[Book] = []

    async def start(
        self,
        name: str,
        span: tuple[int, int],
        decode_ms: float = 1.0,
        reads: bool = True,
        quantization: str = "none",
    ) -> Node:
        """A node that announces itself. It knows all guests at once, or those of the last `read`."""
        identity = Identity(os.urandom(32))
        certified = certify(identity, time.time())
        held = Span(start=span[0], end=span[1])
        offer = Offer(identity.node, self.model, held, quantization=quantization)
        node = Node(self.checkpoint, offer)
        book = Book(self.directory)
        if reads:
            book.records = self.directory.kept
        self.books.append(book)
        links = Links(certified, book.trusted)
        port = await node.listen("127.0.0.1:0", serving(certified, book.trusted), links)
        word = self.word(identity, certified, held, address=f"127.0.0.1:{port}", decode_ms=decode_ms)
        profile = Profile(dtype="float32", quantization=quantization)
        word = word.model_copy(update={"profile": profile})
        await self.directory.put(f"{NODES}{identity.node}", seal(identity, word, certified.der))
        self.nodes[name], self.people[name] = node, (identity, certified)
        return node

    def word(
        self, identity: Identity, certified: Certified, span: Span, address: str, decode_ms: float
    ) -> Announcement:
        now = time.time()
        return Announcement(
            node=identity.node, generation=1, seq=1, address=address, certificate=certified.digest,
            model=self.model, num_blocks=self.checkpoint.num_blocks, span=span,
            profile=Profile(dtype="float32"), features=Features(decode_ms_per_block=decode_ms),
            issued_s=now, valid_until_s=now + 600,
        )  # fmt: skip

    def read(self) -> None:
        """All nodes read the directory."""
        for book in self.books:
            book.records = dict(self.directory.kept)

    async def kill(self, name: str) -> None:
        """Gone at once, still in the directory."""
        await self.nodes[name].stop(0)

    def streams(self) -> int:
        """Streams that are open at all nodes."""
        return sum(node.streams for node in self.nodes.values())

    def name_of(self, node: str) -> str:
        return next(name for name, (who, _) in self.people.items() if who.node.startswith(node))


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    made = Place(folder)
    try:
        yield made
    finally:
        for node in made.nodes.values():
            await node.stop(0)


@asynccontextmanager
async def swarm_of(folder: Path, spans: Mapping[str, tuple[int, int]]) -> AsyncIterator[tuple[Place, Swarm]]:
    """Nodes, and a swarm that a caller has joined."""
    async with place(folder) as made:
        for at, (name, span) in enumerate(spans.items()):
            await made.start(name, span, decode_ms=1.0 + at)
        async with Joined(Caller(made.directory), folder, "small") as swarm:
            yield made, swarm


def whole_text(folder: Path, tokens: list[int], count: int) -> list[int]:
    """The likeliest tokens, as one process writes them."""
    import torch
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    made = list(tokens)
    with torch.inference_mode():
        for _ in range(count):
            made.append(int(model(torch.tensor([made])).logits[0, -1].argmax()))
    return made[len(tokens) :]
