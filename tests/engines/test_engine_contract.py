"""Every engine in the table keeps the contract."""

import pytest

from metainf.engines import ENGINES, Engine, engine
from metainf.testing.engine_suite import Case, EngineSuite, image_cases, text_cases


class TestVllm(EngineSuite):
    @pytest.fixture
    def engine(self) -> Engine:
        return engine("vllm")


class TestSglang(EngineSuite):
    @pytest.fixture
    def engine(self) -> Engine:
        return engine("sglang")


class TestTensorRtLlm(EngineSuite):
    @pytest.fixture
    def engine(self) -> Engine:
        return engine("tensorrt-llm")


class TestLlamaCpp(EngineSuite):
    @pytest.fixture
    def engine(self) -> Engine:
        return engine("llama.cpp")


class TestDiffusers(EngineSuite):
    @pytest.fixture
    def engine(self) -> Engine:
        return engine("diffusers")

    @pytest.fixture
    def settings(self) -> list[Case]:
        return image_cases()


def test_every_row_of_the_table_loads_under_its_own_name() -> None:
    for name in ENGINES:
        found = engine(name)
        assert found.name == name
        assert isinstance(found, Engine)


def test_text_cases_cover_several_device_counts() -> None:
    assert {case[1].count for case in text_cases()} == {1, 2, 4}
