"""Text embedding: each distinct text once, remembered in the process and on disk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import BadInput, Device, Hardware, Lengths, Method, Model, Setting, Workload
from metainf.embed.describe import PARTS
from metainf.embed.text import TextEmbedding
from metainf.testing.embedding_suite import EmbeddingSuite


class CountingEncoder:
    """Vectors from the bytes of a text; counts what it was asked."""

    model_id = "counting/1"
    width = 6

    def __init__(self):
        self.asked = []

    def embed(self, texts):
        self.asked += texts
        rows = [np.resize(np.frombuffer(text.encode() + b"\1", np.uint8), 6) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), 6)


def _pair(name, concurrency=None, method=None):
    setting = Setting(
        model=Model(name=name, params_b=8),
        workload=Workload(input_tokens=Lengths(mean=100), concurrency=concurrency),
        hardware=Hardware(device=Device(name="h100")),
    )
    return setting, method


class TestTextEmbedding(EmbeddingSuite):
    def embed(self, things):
        return TextEmbedding(CountingEncoder()).embed_settings(things)

    def columns(self):
        return TextEmbedding(CountingEncoder()).columns()

    def nan_columns(self):
        return frozenset(name for name in self.columns() if name.startswith("text.method."))

    def inputs(self):
        return [_pair("a"), _pair("b", 4.0), _pair("a", 8.0, Method(engine="vllm"))]


class TestTextEmbeddingOnDisk(TestTextEmbedding):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path / "cache"

    def embed(self, things):
        return TextEmbedding(CountingEncoder(), self.folder).embed_settings(things)


@given(st.lists(st.text(alphabet="abc é東", max_size=3), max_size=12))
def test_each_text_is_asked_once_and_rows_follow_the_texts(texts):
    encoder = CountingEncoder()
    embedding = TextEmbedding(encoder)
    rows = embedding.embed(texts)
    np.testing.assert_array_equal(rows, CountingEncoder().embed(texts))
    np.testing.assert_array_equal(rows, embedding.embed(texts))
    assert sorted(encoder.asked) == sorted(set(texts))
    vectors, index = embedding.embed_distinct(texts)
    assert len(vectors) == len(set(texts))
    np.testing.assert_array_equal(vectors[index], rows)


def test_parts_are_shared_between_settings():
    encoder = CountingEncoder()
    pairs = [_pair(name, float(load), Method(engine="vllm")) for name in "ab" for load in (1, 2, 3)]
    assert TextEmbedding(encoder).embed_settings(pairs).shape == (6, 6 * len(PARTS))
    assert len(encoder.asked) == 2 + 3 + 1 + 1


def test_an_absent_method_is_nan_not_zero():
    rows = TextEmbedding(CountingEncoder()).embed_settings([_pair("a"), _pair("a", None, Method(engine="e"))])
    assert np.isnan(rows[0, 18:]).all() and np.isfinite(rows[1]).all() and np.isfinite(rows[0, :18]).all()


def test_disk_answers_for_the_next_process(tmp_path):
    first, second = CountingEncoder(), CountingEncoder()
    rows = TextEmbedding(first, tmp_path).embed(["x", "y"])
    np.testing.assert_array_equal(TextEmbedding(second, tmp_path).embed(["y", "x"]), rows[::-1])
    assert second.asked == []
    assert sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file()) == [".npy", ".npy"]


def test_models_do_not_share_files(tmp_path):
    other = CountingEncoder()
    other.model_id = "counting-1"  # the same folder name, another key
    TextEmbedding(CountingEncoder(), tmp_path).embed(["x"])
    TextEmbedding(other, tmp_path).embed(["x"])
    assert other.asked == ["x"]


def _save(path, array):
    np.save(path, array, allow_pickle=True)


@pytest.mark.parametrize(
    "breakage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x93NUMPY garbage"),
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        lambda path: path.write_bytes(b"PK\x03\x04 not a zip"),
        lambda path: _save(path, np.zeros(5, np.float32)),
        lambda path: _save(path, np.zeros(6, np.float64)),
        lambda path: _save(path, np.full(6, np.nan, np.float32)),
        lambda path: _save(path, np.array([{}], dtype=object)),
    ],
    ids=["empty", "garbage", "cut", "zip", "width", "dtype", "nan", "pickle"],
)
def test_a_broken_file_is_ignored_and_written_again(tmp_path, breakage):
    rows = TextEmbedding(CountingEncoder(), tmp_path).embed(["x"])
    (path,) = tmp_path.rglob("*.npy")
    sound = path.read_bytes()
    breakage(path)
    again = CountingEncoder()
    np.testing.assert_array_equal(TextEmbedding(again, tmp_path).embed(["x"]), rows)
    assert again.asked == ["x"] and path.read_bytes() == sound


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot write the embedding cache"):
        TextEmbedding(CountingEncoder(), tmp_path / "file" / "cache").embed(["x"])


def test_a_failed_write_leaves_no_part_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda self, target: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(BadInput, match="disk full"):
        TextEmbedding(CountingEncoder(), tmp_path).embed(["x"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["counting-1"]


@pytest.mark.parametrize("wrong", [np.zeros((1, 5)), np.full((1, 6), np.nan), np.zeros((2, 6))])
def test_an_encoder_that_breaks_its_word_is_refused(wrong):
    encoder = CountingEncoder()
    encoder.embed = lambda texts: wrong
    with pytest.raises(BadInput, match="expected finite vectors"):
        TextEmbedding(encoder).embed(["x"])


def test_one_text_is_not_a_list_of_letters(tmp_path):
    with pytest.raises(BadInput, match="put it in a list"):
        TextEmbedding(CountingEncoder()).embed("text")
    with pytest.raises(BadInput, match="Unicode"):
        TextEmbedding(CountingEncoder(), tmp_path).embed(["\ud800"])
