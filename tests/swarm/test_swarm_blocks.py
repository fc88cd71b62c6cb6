"""Sharded logits are those of the whole model, for every family and every split."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from families import COMMON, CONFIGS, LAYERS, config_of, one_thread

from metainf.domain import BadInput, NotSupported
from metainf.swarm.compute.blocks import Blocks, WrongPosition
from metainf.swarm.compute.caches import NoRoom
from metainf.swarm.compute.ends import Ends
from metainf.swarm.compute.shards import FAMILIES, Checkpoint
from metainf.swarm.compute.weights import random_checkpoint
from metainf.swarm.words import Span

torch = pytest.importorskip("torch", reason="needs the extra swarm")
transformers = pytest.importorskip("transformers", reason="needs the extra swarm")

__all__ = ["one_thread"]
MOST_DIFFERENCE = 1e-4
TOKEN_BYTES = 2 * 2 * 8 * 4
"""Keys and values of two heads of eight float32 numbers, in one block of COMMON."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint with random weights for each family."""
    made = {family: tmp_path_factory.mktemp(family) for family in FAMILIES}
    return {family: random_checkpoint(config_of(family), folder, 3) for family, folder in made.items()}


def whole_logits(folder: Path, tokens: list[int]) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits


def sharded_logits(parts: list[Blocks], ends: Ends, tokens: list[int], chunks: list[int]) -> Any:
    """Logits of all tokens, given in chunks, as a prefill and steps are."""
    made, at = [], 0
    for count in chunks:
        hidden = ends.embed(tokens[at : at + count])
        for part in parts:
            hidden = part.step("a", at, hidden)
        made.append(ends.logits(hidden))
        at += count
    return torch.cat(made, dim=1)


def splits(blocks: int) -> Iterator[list[Span]]:
    """All ways to cut the blocks into spans."""
    for count in range(blocks):
        for cuts in itertools.combinations(range(1, blocks), count):
            edges = [0, *cuts, blocks]
            yield [Span(start=a, end=b) for a, b in itertools.pairwise(edges)]


def test_every_family_is_tried() -> None:
    assert set(CONFIGS) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_split_gives_the_logits_of_the_whole_model(folders: dict[str, Path], family: str) -> None:
    checkpoint = Checkpoint(folders[family])
    tokens = [5, 17, 3, 88, 41, 9, 60, 22, 71, 13, 4, 50]
    expected = whole_logits(folders[family], tokens)
    assert expected.std() > 0.1, "the model says the same of everything: nothing is shown"
    ends = Ends(checkpoint)
    for spans in splits(LAYERS):
        made = sharded_logits([Blocks(checkpoint, span) for span in spans], ends, tokens, [7, 1, 1, 2, 1])
        assert (made - expected).abs().max() <= MOST_DIFFERENCE, [str(span) for span in spans]


def test_only_the_spans_weights_are_read(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(folders["llama"])
    sizes = [Blocks(checkpoint, Span(start=0, end=end)).bytes for end in range(1, LAYERS + 1)]
    assert [size // sizes[0] for size in sizes] == [1, 2, 3, 4]
    read: list[str] = []
    tensors = checkpoint.tensors

    def noted(names: Iterable[str], prefix: str) -> dict[str, Any]:
        read.extend(names := list(names))
        return tensors(names, prefix)

    monkeypatch.setattr(checkpoint, "tensors", noted)
    part = Blocks(checkpoint, Span(start=1, end=2))
    assert read and all(name.startswith("model.layers.1.") for name in read)
    held = sum(each.numel() for layer in part.layers for each in layer.parameters())
    assert held * 4 == part.bytes == sizes[0]


def test_sessions_do_not_mix(folders: dict[str, Path]) -> None:
    checkpoint = Checkpoint(folders["qwen3"])
    ends, whole = Ends(checkpoint), Blocks(checkpoint, Span(start=0, end=LAYERS))
    first, second = ends.embed([5, 6, 7]), ends.embed([9, 8])
    alone = whole.step("a", 0, first), whole.step("a", 3, ends.embed([1]))
    whole.close("a")
    whole.step("a", 0, first)
    whole.step("b", 0, second)
    assert torch.equal(whole.step("a", 3, ends.embed([1])), alone[1])
    assert whole.tokens == 6


def test_steps_follow_one_another_and_a_session_can_begin_anew(folders: dict[str, Path]) -> None:
    checkpoint = Checkpoint(folders["llama"])
    ends, part = Ends(checkpoint), Blocks(checkpoint, Span(start=0, end=1))
    made = part.step("a", 0, ends.embed([5, 6, 7]))
    for wrong in (2, 4):
        with pytest.raises(WrongPosition) as caught:
            part.step("a", wrong, ends.embed([1]))
        assert caught.value.expected == 3
    with pytest.raises(WrongPosition):
        part.step("unknown", 3, ends.embed([1]))
    assert torch.equal(part.step("a", 0, ends.embed([5, 6, 7])), made)
    assert part.tokens == 3


@pytest.mark.parametrize("shape", [(1, 0, 32), (1, 2, 31), (2, 2, 32), (2, 32)])
def test_other_shapes_are_refused(folders: dict[str, Path], shape: tuple[int, ...]) -> None:
    part = Blocks(Checkpoint(folders["llama"]), Span(start=0, end=1))
    with pytest.raises(BadInput, match="expected activations"):
        part.step("a", 0, torch.zeros(shape))


def test_what_is_no_number_is_refused_and_harms_no_session(folders: dict[str, Path]) -> None:
    part = Blocks(Checkpoint(folders["llama"]), Span(start=0, end=1))
    part.step("a", 0, torch.zeros(1, 2, 32))
    broken = torch.zeros(1, 1, 32)
    broken[0, 0, 3] = float("nan")
    with pytest.raises(BadInput, match="finite"):
        part.step("a", 2, broken)
    part.step("a", 2, torch.zeros(1, 1, 32))


def test_the_caches_are_bounded(folders: dict[str, Path]) -> None:
    part = Blocks(Checkpoint(folders["llama"]), Span(start=0, end=1), cache_bytes=4 * TOKEN_BYTES)
    part.step("a", 0, torch.zeros(1, 3, 32))
    with pytest.raises(NoRoom):
        part.step("b", 0, torch.zeros(1, 2, 32))
    part.close("a")
    part.step("b", 0, torch.zeros(1, 2, 32))


def test_what_is_no_such_checkpoint(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"config\.json"):
        Checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(NotSupported, match="mamba"):
        Checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(BadInput, match="safetensors"):
        Checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(BadInput, match="cannot be read"):
        Checkpoint(tmp_path)
    with pytest.raises(BadInput, match=r"within \[0, 4\)"):
        Blocks(Checkpoint(folders["llama"]), Span(start=3, end=5))


def test_another_revision_has_another_digest(folders: dict[str, Path], tmp_path: Path) -> None:
    source = folders["llama"]
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    same = Checkpoint(tmp_path).digest()
    assert same == Checkpoint(source).digest()
    weights = tmp_path / "model.safetensors"
    broken = bytearray(weights.read_bytes())
    broken[-1] ^= 1
    weights.write_bytes(broken)
    assert Checkpoint(tmp_path).digest() != same


def test_random_weights_of_any_architecture(tmp_path: Path) -> None:
    """Also of one whose blocks cannot be run apart; the seed decides, and nonsense is refused."""
    made = [
        random_checkpoint(config_of("llama"), tmp_path / str(n), seed) for n, seed in enumerate((1, 1, 2))
    ]
    one, same, other = [
        Checkpoint(folder).tensors(["model.norm.weight"], "model")["model.norm.weight"] for folder in made
    ]
    assert torch.equal(one, same) and not torch.equal(one, other)
    phi = {**COMMON, "model_type": "phi", "pad_token_id": 0}
    with pytest.raises(NotSupported, match="phi"):
        Checkpoint(random_checkpoint(phi, tmp_path / "phi"))
    for wrong in ({}, {"model_type": "nothing-such"}, {"model_type": "vit"}):
        with pytest.raises(BadInput, match="configuration"):
            random_checkpoint(wrong, tmp_path / "wrong")


def test_a_text_longer_than_learnt_positions_is_refused(folders: dict[str, Path]) -> None:
    part = Blocks(Checkpoint(folders["gpt2"]), Span(start=0, end=1))
    part.step("a", 0, torch.zeros(1, 64, 32))
    with pytest.raises(BadInput, match="at most 64 positions"):
        part.step("a", 64, torch.zeros(1, 1, 32))
    with pytest.raises(BadInput, match="at most 64 positions"):
        part.step("b", 0, torch.zeros(1, 65, 32))
