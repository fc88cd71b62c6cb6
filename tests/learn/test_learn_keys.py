"""Which rows are one cell, one configuration, one quality."""

import pytest
from learn_tables import record

from metainf.domain import (
    AttentionBackend,
    Batching,
    Compile,
    Flags,
    KvQuantization,
    Lengths,
    Method,
    Metrics,
    Parallelism,
    Precision,
    Record,
    Technique,
    WeightQuantization,
)
from metainf.learn.table import TEXTS, quality_group, realised_lengths, table, techniques_on

SPEED = Metrics(output_tokens_per_s=1.0)


def run(name: str | None, inputs: float, outputs: float) -> Record:
    row = record("alpha", "x", SPEED)
    work = row.setting.workload.model_copy(
        update={"name": name, "input_tokens": Lengths(mean=inputs), "output_tokens": Lengths(mean=outputs)}
    )
    return row.model_copy(update={"setting": row.setting.model_copy(update={"workload": work})})


def using(*techniques: Technique, version: str | None = None) -> Method:
    return Method(engine="e", engine_version=version, techniques=techniques)


def test_answers_of_other_lengths_are_still_one_workload() -> None:
    found = table([run("chat", 200.0, 198.9), run("chat", 200.0, 199.1)])
    assert len(set(found.keys["cell"])) == 1 and len(set(found.keys["workload"])) == 1


def test_many_different_whole_lengths_are_an_outcome_too() -> None:
    rows = [run("gpqa", 500.0, 7000.0 + n) for n in range(10)]
    assert realised_lengths(rows) == {("made-up", "gpqa")}
    assert realised_lengths(rows[:9]) == set(), "nine runs may well be nine shapes"


@pytest.mark.parametrize("name", [None, "random_fixed", "synthetic"])
def test_lengths_define_work_that_has_no_prompts(name: str | None) -> None:
    rows = [run(name, 500.0, 7000.0 + n) for n in range(10)]
    assert len(set(table(rows).keys["cell"])) == 10


def test_a_configuration_is_a_method_whatever_its_version() -> None:
    rows = [record("alpha", "x", SPEED).model_copy(update={"method": using(version=v)}) for v in ("1", "2")]
    found = table(rows)
    assert len(set(found.keys["method"])) == 2 and len(set(found.keys["configuration"])) == 1


def test_bits_part_two_qualities_of_one_format() -> None:
    four, eight = (using(WeightQuantization(format="gptq", bits=bits)) for bits in (4.0, 8.0))
    assert quality_group(four) != quality_group(eight)
    assert quality_group(using()) != quality_group(using(KvQuantization(format="fp8")))
    assert quality_group(four) == quality_group(
        using(WeightQuantization(format="gptq", bits=4.0), AttentionBackend(name="flash"))
    )


@pytest.mark.parametrize(
    ("method", "count"),
    [
        (using(), 0),
        (using(Precision(dtype="bf16"), Batching()), 0),
        (using(Parallelism(tensor=1), Compile(enabled=False)), 0),
        (using(Parallelism(tensor=2), Compile()), 2),
        (using(WeightQuantization(format="fp8"), Flags(values=("--a", "--b"))), 3),
    ],
)
def test_techniques_that_are_switched_on_are_counted(method: Method, count: int) -> None:
    assert techniques_on(method) == count


def test_texts_are_kept_on_demand() -> None:
    rows = [run("chat", 200.0, 100.0), run("chat", 200.0, 100.0)]
    assert not set(TEXTS) & set(table(rows).keys)
    told = table(rows, texts=True).keys
    assert all(len(told[key]) == 2 and told[key][0] == told[key][1] != "" for key in TEXTS)
