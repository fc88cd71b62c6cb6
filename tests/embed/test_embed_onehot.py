"""One-hot names: one 1 in each row, an order that does not depend on the data's, a bucket for the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import BadInput
from metainf.embed.onehot import OneHot
from metainf.testing.embedding_suite import EmbeddingSuite

names = st.lists(st.none() | st.text(max_size=4) | st.sampled_from(["vllm", "sglang", "?"]), max_size=20)


class TestOneHot(EmbeddingSuite):
    vocabulary = OneHot.fit("engine", ["vllm", "sglang", "vllm", None])

    def embed(self, things):
        return self.vocabulary.embed(things)

    def columns(self):
        return self.vocabulary.columns()

    def inputs(self):
        return ["vllm", "sglang", "never seen", None]


def test_columns_are_in_code_point_order_with_the_unknown_last():
    assert OneHot.fit("engine", ["vllm", "llama.cpp", "TGI"]).columns() == (
        "engine=TGI", "engine=llama.cpp", "engine=vllm", "engine=?",
    )  # fmt: skip


def test_unseen_and_absent_names_share_the_bucket():
    rows = OneHot.fit("engine", ["vllm", "sglang"]).embed(["vllm", "new", None, "", "?"])
    assert rows.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]]


def test_rare_names_teach_the_bucket():
    fitted = OneHot.fit("engine", ["a", "a", "b"], min_count=2)
    assert fitted.names == ("a",)
    assert fitted.embed(["b"]).tolist() == [[0, 1]]


@given(names, names, st.randoms())
def test_one_1_in_each_row_whatever_the_names(seen, asked, random):
    fitted = OneHot.fit("x", seen)
    shuffled = list(seen)
    random.shuffle(shuffled)
    assert OneHot.fit("x", shuffled) == fitted
    rows = fitted.embed(asked)
    assert rows.shape == (len(asked), len(fitted.columns()))
    assert (rows.sum(axis=1) == 1).all()
    for name, row in zip(asked, rows, strict=True):
        assert bool(row[-1]) == (name not in fitted.names)


@given(names)
def test_a_fitted_vocabulary_survives_its_text(seen):
    fitted = OneHot.fit("x", seen)
    assert OneHot.parse(fitted.canonical()) == fitted


@pytest.mark.parametrize("broken", [("b", "a"), ("a", "a"), ("?",), ("",)])
def test_a_vocabulary_out_of_order_is_refused(broken):
    with pytest.raises(BadInput, match="sorted, distinct"):
        OneHot.of({"prefix": "x", "names": list(broken)})


def test_one_name_is_not_a_list_and_min_count_is_checked():
    with pytest.raises(BadInput, match="put it in a list"):
        OneHot.fit("x", ["a"]).embed("a")
    with pytest.raises(BadInput, match="min_count"):
        OneHot.fit("x", ["a"], min_count=0)
