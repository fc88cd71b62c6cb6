"""Errors help: what was expected, what was found, what comes nearest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import BadInput, MetaInfError, MissingExtra, UnknownName, errors, near_misses

KNOWN = ["meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-32B", "Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-R1"]


def test_unknown_name_carries_near_misses() -> None:
    found = UnknownName("model", "Qwen3-32", KNOWN)
    assert isinstance(found, BadInput)
    assert (found.kind, found.name) == ("model", "Qwen3-32")
    assert found.near[0] == "Qwen/Qwen3-32B"
    assert "'Qwen3-32'" in str(found) and "did you mean Qwen/Qwen3-32B" in str(found)


def test_unknown_name_without_anything_close_says_so() -> None:
    found = UnknownName("model", "zzzzzz", KNOWN)
    assert found.near == [] and "no known name is close" in str(found)


def test_case_and_organisation_do_not_hide_a_near_miss() -> None:
    assert near_misses("deepseek_r1", KNOWN) == ["deepseek-ai/DeepSeek-R1"]
    assert near_misses("LLAMA-3.1-8B", KNOWN)[0] == "meta-llama/Llama-3.1-8B-Instruct"


@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=8), st.integers(1, 6))
def test_near_misses_are_known_distinct_and_few(name: str, known: list[str], limit: int) -> None:
    found = near_misses(name, known, limit)
    assert set(found) <= set(known)
    assert len(found) == len(set(found)) <= limit


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6, unique=True), st.data())
def test_a_known_name_is_its_own_nearest(known: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(known))
    lower = {each.lower() for each in known}
    if len(lower) == len(known):
        assert name in near_misses(name, known)


def test_missing_extra_names_the_pip_line() -> None:
    assert "pip install 'metainf[text]'" in str(MissingExtra("embedding", "text"))


@pytest.mark.parametrize(
    "name", ["BadInput", "NotSupported", "NoFeasible", "StoreError", "ArtifactError", "MissingExtra"]
)
def test_all_errors_have_one_base_and_a_docstring(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, MetaInfError) and kind.__doc__
