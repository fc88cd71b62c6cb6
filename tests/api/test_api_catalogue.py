"""Texts that people type become hardware, prices, workloads and words."""

from pathlib import Path

import pytest

from metainf import api
from metainf.api.catalogue import hardware_of, workload_of
from metainf.domain import (
    BadInput,
    Flags,
    Method,
    NotSupported,
    Parallelism,
    PrefixCache,
    StoreError,
    UnknownName,
    WeightQuantization,
)


def test_a_range_becomes_one_hardware_for_each_count_with_its_price() -> None:
    found = hardware_of(["1-4xL4"])
    counts = [item.count for item, _ in found]
    assert counts[0] == 1 and counts[-1] == 4 and counts == sorted(set(counts))
    each = api.price("L4")
    assert each is not None
    assert [usd for _, usd in found] == pytest.approx([each * (item.count or 0) for item, _ in found])


def test_a_stated_price_is_per_device() -> None:
    ((item, usd),) = hardware_of(["2xh100@3.5"])
    assert item.count == 2 and usd == pytest.approx(7.0)


def test_no_or_unknown_hardware_is_refused() -> None:
    with pytest.raises(BadInput, match="found none"):
        hardware_of([])
    with pytest.raises(UnknownName):
        hardware_of(["2xh1000x"])


def test_a_workload_is_changed_field_by_field() -> None:
    base, changed = (
        workload_of("sharegpt", {}),
        workload_of("sharegpt", {"output_tokens": 7, "concurrency": 3}),
    )
    assert base.input_tokens == changed.input_tokens
    assert changed.output_tokens is not None and changed.output_tokens.mean == 7
    assert changed.output_tokens.std is None, "the spread of other lengths does not carry over"
    assert changed.concurrency == 3 and changed.request_rate_per_s is None
    assert workload_of(None, {"input_tokens": None}).input_tokens is None


@pytest.mark.parametrize("tokens", [0, -1, 1e9])
def test_lengths_out_of_reason_are_refused(tokens: float) -> None:
    with pytest.raises(BadInput, match="input"):
        workload_of(None, {"input_tokens": tokens, "output_tokens": 5})


def test_a_method_in_words() -> None:
    method = Method(
        engine="vllm",
        techniques=(
            Parallelism(tensor=2),
            PrefixCache(enabled=False),
            WeightQuantization(format="fp8", bits=8.0),
            Flags(values=("--a", "--b")),
        ),
    )
    assert api.method_in_words(method) == (
        "vllm · flags --a --b · parallelism tensor 2 · no prefix cache · weight quantization fp8"
    )
    with pytest.raises(NotSupported, match="found str"):
        api.method_in_words("vllm")


def test_describe_tells_of_each_part() -> None:
    alone = api.describe("Qwen/Qwen3-32B", None, None)
    whole = api.describe("Qwen/Qwen3-32B", "2xL4", "sharegpt")
    assert "Qwen3-32B" in alone and "L4" not in alone
    assert "Qwen3-32B" in whole and "L4" in whole and len(whole) > len(alone)


def test_a_store_is_made_only_where_wanted(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        api.sources(str(tmp_path / "new.sqlite"))
    assert not (tmp_path / "new.sqlite").exists()
    fixture = Path(__file__).resolve().parents[1] / "importers" / "fixtures" / "vllm_serve.json"
    seen = api.import_file(fixture, None, {"model": "Qwen/Qwen3-8B"}, None)
    assert (seen.format, seen.read, seen.new, seen.rejected) == ("vllm-serve", 1, 1, 0)
    with api.store(str(tmp_path / "kept.sqlite")) as kept:
        assert api.import_file(fixture, None, {}, kept).new == 1
        assert api.import_file(fixture, None, {}, kept).known == 1
    assert sum(row["records"] for row in api.sources(str(tmp_path / "kept.sqlite"))) == 1


def test_here_is_the_hardware_of_this_machine() -> None:
    found = hardware_of(["here", "1xL4", "HERE"])
    assert [hardware for hardware, _ in found][:-1] == api.detect()
    assert found[-1][0].device.name == "l4"
