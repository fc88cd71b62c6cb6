"""A node that knows the weights reads prompts back from activations: the leak that no class may hide."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
pytest.importorskip("transformers", reason="needs the extra swarm")

from metainf.domain import BadInput  # noqa: E402
from metainf.swarm.compute.blocks import Blocks, Ends  # noqa: E402
from metainf.swarm.compute.shards import Checkpoint  # noqa: E402
from metainf.swarm.compute.weights import random_checkpoint  # noqa: E402
from metainf.swarm.privacy.inversion import Attack, Attacker, Hiding  # noqa: E402
from metainf.swarm.privacy.words import Attacked, is_private  # noqa: E402
from metainf.swarm.words import Span  # noqa: E402

VOCABULARY = 1500
CONFIG = {
    "model_type": "llama", "vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 64,
    "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}  # fmt: skip
SECRET = [int(each) for each in np.random.default_rng(1).integers(3, VOCABULARY, 12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(CONFIG, tmp_path_factory.mktemp("random"), spread=0.1)


@pytest.fixture(scope="module")
def attacker(folder: Path) -> Attacker:
    return Attacker(folder)


def row(attacker: Attacker, attack: Attack) -> Attacked:
    found = attacker.recovered(SECRET, attack)
    hiding, count = attack.hiding, len(found.tokens)
    return Attacked(
        model="random", blocks=attack.blocks, codec=hiding.codec, noise=hiding.noise,
        permuted=hiding.permuted, tokens=count, recovered=found.right, most=attack.most,
        tried_per_token=found.tried / count, seconds_per_token=0,
    )  # fmt: skip


def test_what_is_attacked_is_what_the_client_sends(folder: Path, attacker: Attacker) -> None:
    checkpoint = Checkpoint(folder)
    sent = Ends(checkpoint).embed(SECRET)
    assert torch.equal(attacker.seen(SECRET, 0, Hiding()), sent[0])
    for blocks in (1, 3):
        made = Blocks(checkpoint, Span(start=0, end=blocks)).step("s", 0, sent)[0]
        assert (attacker.seen(SECRET, blocks, Hiding()) - made).abs().max() < 1e-4


@pytest.mark.parametrize("blocks", [0, 1, 2, 4])
@pytest.mark.parametrize(
    "hiding",
    [Hiding(), Hiding("f16"), Hiding("int8"), Hiding(noise=0.01), Hiding(noise=0.1), Hiding(permuted=True)],
    ids=str,
)
def test_the_prompt_leaks(attacker: Attacker, blocks: int, hiding: Hiding) -> None:
    found = row(attacker, Attack(blocks, hiding))
    assert found.share >= 0.9, found
    assert not is_private([found])


def test_noise_that_hides_is_larger_than_the_activation_itself(attacker: Attacker) -> None:
    shares = [row(attacker, Attack(1, Hiding(noise=noise))).share for noise in (0.1, 1.0, 30.0)]
    assert shares[0] > 0.9 and shares[0] >= shares[1] >= shares[2] and shares[2] < 0.5


def test_known_tokens_are_neither_tried_nor_counted(attacker: Attacker) -> None:
    found = attacker.recovered(SECRET, Attack(1, known=5))
    assert found.tokens == tuple(SECRET[5:]) and found.found == found.tokens
    with pytest.raises(BadInput, match="blocks"):
        attacker.recovered(SECRET, Attack(9))
    with pytest.raises(BadInput, match="codec"):
        Hiding("zip")


def test_a_candidate_that_is_not_tried_is_not_found(attacker: Attacker) -> None:
    few = attacker.recovered(SECRET, Attack(1, most=10))
    assert few.right <= 2 and few.tried == 10 * len(SECRET)


def test_the_last_node_reads_the_answer(folder: Path) -> None:
    """The head's weights are public too: what the client keeps of it hides nothing."""
    checkpoint = Checkpoint(folder)
    ends, whole = Ends(checkpoint), Blocks(checkpoint, Span(start=0, end=4))
    answered = whole.step("s", 0, ends.embed(SECRET))
    stolen = Ends(Checkpoint(folder)).logits(answered)[0].argmax(-1)
    assert torch.equal(stolen, ends.logits(answered)[0].argmax(-1))
