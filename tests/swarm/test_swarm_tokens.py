"""How the next token is drawn, and texts that grow token by token."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import BadInput
from metainf.swarm.host.sampling import Sampling, chosen
from metainf.swarm.host.tokens import Tokens

SCORES = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12)


@given(SCORES, st.integers(0, 99), st.integers(0, 99))
def test_the_likeliest_at_no_temperature_or_no_choice(scores: list[float], seed: int, number: int) -> None:
    logits = np.array(scores, dtype=np.float32)
    best = int(logits.argmax())
    assert chosen(logits, Sampling(seed=seed), number) == best
    assert chosen(logits, Sampling(temperature=1.3, top_p=0.0, seed=seed), number) == best


@given(SCORES, st.floats(0.05, 2), st.floats(0.05, 1), st.integers(0, 2**70), st.integers(0, 10**6))
def test_only_from_the_likeliest_that_make_top_p(
    scores: list[float], temperature: float, top_p: float, seed: int, number: int
) -> None:
    logits = np.array(scores, dtype=np.float32)
    sampling = Sampling(temperature, top_p, seed)
    token = chosen(logits, sampling, number)
    assert token == chosen(logits, sampling, number), "the seed and the number decide"
    chances = np.exp(logits.astype(float) / temperature - logits.max() / temperature)
    chances /= chances.sum()
    likelier = sum(float(each) for each in chances if each > chances[token])
    assert likelier < top_p + 1e-9


def test_chances_are_those_of_the_softmax() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    drawn = [chosen(logits, Sampling(temperature=1.0, seed=11), number) for number in range(20_000)]
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert np.abs(shares - [0.5, 0.3, 0.15, 0.05]).max() < 0.012, shares  # 3.4 standard deviations
    cut = [chosen(logits, Sampling(temperature=1.0, top_p=0.75, seed=11), number) for number in range(8000)]
    shares = np.bincount(cut, minlength=4) / len(cut)
    assert np.abs(shares - [0.625, 0.375, 0, 0]).max() < 0.02, shares


def spaced(folder: Path) -> Path:
    """A tokenizer that writes spaces as ▁ and unknown letters as bytes, as those of the first Llamas do."""
    transformers = pytest.importorskip("transformers", reason="needs the extra swarm")
    from tokenizers import Tokenizer, decoders, models, normalizers

    pieces = ["<unk>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)], "▁", "a", "b", "▁a", "▁ab", "ba"]
    vocabulary = {piece: at for at, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("▁a", "b"), ("b", "a")]
    library = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    transformers.PreTrainedTokenizerFast(tokenizer_object=library, eos_token="</s>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["bytes", "spaces"])
def tokens(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    pytest.importorskip("torch", reason="needs the extra swarm")
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "spaces":
        return Tokens(spaced(folder))
    from small_swarm import small_model

    return Tokens(small_model(folder))


LETTERS = st.text(alphabet="ab  \nä日👩🏽\u200d�", max_size=60)


@given(text=LETTERS)
def test_pieces_make_the_text(tokens: Tokens, text: str) -> None:
    grown = tokens.text()
    ids = tokens.encode(text)
    said = [grown.add([each]) for each in ids]
    assert "".join(said) + grown.rest() == tokens.decode(ids)
    assert tokens.decode(ids) == text


@given(data=st.data())
def test_any_tokens_make_the_text(tokens: Tokens, data: st.DataObject) -> None:
    """Also bytes that are no text, except that some tokenizers then take back what they said before."""
    ids = data.draw(st.lists(st.integers(0, tokens.size - 1), max_size=90))
    grown, whole = tokens.text(), tokens.decode(ids)
    said = "".join(grown.add([each]) for each in ids) + grown.rest()
    if "�" not in whole or tokens.decode([2, 130]).startswith(tokens.decode([2])):
        assert said == whole


def test_no_half_character_is_said(tokens: Tokens) -> None:
    grown = tokens.text()
    said = [grown.add([each]) for each in tokens.encode("a👩b")]
    assert "�" not in "".join(said) and "".join(said) == "a👩b"


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra swarm")
    with pytest.raises(BadInput, match="expected a tokenizer in"):
        Tokens(tmp_path)
