"""Hugging Face folders written anew: rounded weights, and the first layers as a draft."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metainf.domain import BadInput, Method, Model, NotSupported, Speculative, WeightQuantization
from metainf.measure.checkpoints import located_checkpoint, to_int8

INT8 = WeightQuantization(format="int8", bits=8)
UP = "model.layers.{}.mlp.up_proj.weight"


def written(path: Path, tensors: dict[str, tuple[str, "np.ndarray[Any, Any]"]]) -> None:
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, (kind, values) in tensors.items():
        content = values.tobytes()
        offsets = [len(body), len(body) + len(content)]
        head[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": offsets}
        body += content
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def read(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + size])
    assert head.pop("__metadata__") == {"format": "pt"}
    body = data[8 + size :]
    found = {}
    for name, entry in head.items():
        first, last = entry["data_offsets"]
        found[name] = (entry["dtype"], entry["shape"], body[first:last])
    assert sum(len(content) for _, _, content in found.values()) == len(body)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two layers in two files, one of them in bfloat16."""
    place = tmp_path / "tiny"
    place.mkdir()
    random = np.random.default_rng(0)
    halves = (random.normal(size=(6, 4)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    embedding = random.normal(size=(3, 4)).astype(np.float16)
    first = {"model.embed_tokens.weight": ("F16", embedding), UP.format(0): ("BF16", halves)}
    second = {
        UP.format(1): ("F32", random.normal(size=(6, 4)).astype(np.float32)),
        "model.norm.weight": ("F32", np.ones(4, np.float32)),
    }
    written(place / "model-00001-of-00002.safetensors", first)
    written(place / "model-00002-of-00002.safetensors", second)
    (place / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 2}))
    (place / "tokenizer.json").write_text("{}")
    return place


def located(folder: Path, *techniques: Any, write: bool = True, engine: str = "vllm") -> tuple[Path, Method]:
    model, method = located_checkpoint(
        Model(name="tiny", source=str(folder)),
        Method(engine=engine, techniques=techniques),
        folder.parent / "cache",
        write=write,
    )
    return Path(model.source or ""), method


def test_int8_is_the_matrices_with_a_scale_for_each_row(folder: Path) -> None:
    made, _ = located(folder, INT8)
    assert made.name == "tiny-int8" and (made / "tokenizer.json").read_text() == "{}"
    told = json.loads((made / "config.json").read_text())["quantization_config"]
    assert told["quant_method"] == "compressed-tensors" and told["format"] == "int-quantized"
    one, two = (read(made / f"model-0000{number}-of-00002.safetensors") for number in (1, 2))
    whole = read(folder / "model-00001-of-00002.safetensors")
    assert one["model.embed_tokens.weight"] == whole["model.embed_tokens.weight"]
    assert one[UP.format(0)][:2] == ("I8", [6, 4]) and one[f"{UP.format(0)}_scale"][:2] == ("F32", [6, 1])
    exact = np.frombuffer(read(folder / "model-00002-of-00002.safetensors")[UP.format(1)][2], np.float32)
    rounded = np.frombuffer(two[UP.format(1)][2], np.int8).reshape(6, 4)
    scales = np.frombuffer(two[f"{UP.format(1)}_scale"][2], np.float32).reshape(6, 1)
    assert np.abs(rounded * scales - exact.reshape(6, 4)).max() <= scales.max() / 2 + 1e-6
    assert (np.abs(rounded).max(axis=1) == 127).all()


def test_rows_of_nothing_are_rounded_too() -> None:
    rounded, scales = to_int8(np.zeros((2, 3), np.float32))
    assert not rounded.any() and (scales > 0).all()


def test_a_draft_is_the_first_layers(folder: Path) -> None:
    drafted = Speculative(algorithm="draft", draft_model="first-1-layers")
    source, method = located(folder, drafted)
    found = method.get(Speculative)
    assert source == folder and found is not None and found.draft_model is not None
    made = Path(found.draft_model)
    assert json.loads((made / "config.json").read_text())["num_hidden_layers"] == 1
    names = {name for file in made.glob("*.safetensors") for name in read(file)}
    assert names == {"model.embed_tokens.weight", UP.format(0), "model.norm.weight"}
    with pytest.raises(BadInput, match="expected 1 to 1 layers"):
        located(folder, Speculative(algorithm="draft", draft_model="first-2-layers"))


def test_a_draft_may_be_the_model_rounded(folder: Path) -> None:
    made, _ = located(folder, INT8)
    source, method = located(folder, Speculative(algorithm="draft", draft_model="int8"))
    found = method.get(Speculative)
    assert source == folder and found is not None and found.draft_model == str(made)


def test_a_draft_in_a_folder_is_found_from_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    _, method = located(folder, Speculative(algorithm="draft", draft_model="tiny"))
    found = method.get(Speculative)
    assert found is not None and found.draft_model == str(folder.resolve())


def test_names_are_told_before_anything_is_written(folder: Path) -> None:
    made, _ = located(folder, INT8, write=False)
    assert made.name == "tiny-int8" and not made.exists()
    again, _ = located(folder, INT8)
    assert again == made and made.exists()


def test_other_engines_and_quantized_checkpoints_keep_their_weights(folder: Path) -> None:
    assert located(folder, INT8, engine="transformers")[0] == folder
    stored = Model(name="tiny", source=str(folder), quantization="int8")
    model, _ = located_checkpoint(stored, Method(engine="vllm", techniques=(INT8,)))
    assert model.source == str(folder)


def test_what_cannot_be_rounded_is_told_and_nothing_is_left(folder: Path) -> None:
    cut = folder / "model-00002-of-00002.safetensors"
    written(cut, {UP.format(1): ("I32", np.zeros((6, 4), np.int32))})
    with pytest.raises(NotSupported, match="expected F32, F16 or BF16 numbers, found I32"):
        located(folder, INT8)
    cut.write_bytes(b"no weights")
    with pytest.raises(BadInput, match="not a readable safetensors file"):
        located(folder, INT8)
    assert not list((folder.parent / "cache").rglob("*.safetensors"))
    for file in folder.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(BadInput, match="safetensors files in"):
        located(folder, INT8)
