"""Columns of known pairs are the columns, made once; rules of read-only columns are worked out once."""

import numpy as np
import pytest

from metainf import catalog
from metainf.domain import Batching, Hardware, Lengths, Method, Model, Parallelism, Workload
from metainf.embed.columns import Columns, columns
from metainf.embed.layout import model_sizes, rates
from metainf.embed.pairs import asked, merged
from metainf.embed.remembering import MOST, constant, of_columns, read_only, remembered

MODEL = Model(name="made-up", params_b=8.0, num_layers=32, hidden_size=4096)
MACHINES = [Hardware(device=catalog.find_device(name), count=2) for name in ("h100-sxm", "l4")]
METHODS = [
    Method(engine=engine, techniques=(Batching(max_sequences=cap), Parallelism(tensor=2)))
    for engine in ("vllm", "sglang")
    for cap in (8, 64)
]
PAIRS = [(machine, method) for machine in MACHINES for method in METHODS]


def work(load: float) -> Workload:
    return Workload(
        name="chat", input_tokens=Lengths(mean=512), output_tokens=Lengths(mean=128), concurrency=load
    )


def same(a: Columns, b: Columns) -> None:
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("load", [4.0, 40.0, 4.0])
def test_a_question_has_the_columns_of_its_pairs(load: float) -> None:
    machines, methods = zip(*PAIRS, strict=True)
    same(asked(MODEL, work(load), PAIRS), columns([MODEL], [work(load)], machines, methods))


def test_other_pairs_have_other_columns() -> None:
    asked(MODEL, work(4), PAIRS)
    backwards = asked(MODEL, work(4), PAIRS[::-1])
    same({name: values[::-1] for name, values in backwards.items()}, asked(MODEL, work(4), PAIRS))


def test_columns_of_a_question_cannot_be_changed() -> None:
    for name, values in asked(MODEL, work(4), PAIRS).items():
        with pytest.raises(ValueError, match="read-only"):
            values[0] = values[0]
        assert len(values) == len(PAIRS), name


def test_what_follows_from_pairs_alone_is_worked_out_once() -> None:
    first, second = (asked(MODEL, work(load), PAIRS) for load in (4, 40))
    assert rates(first)["peak"] is rates(second)["peak"]
    assert model_sizes(first)["total"] is model_sizes(second)["total"]
    machines, methods = zip(*PAIRS, strict=True)
    fresh = columns([MODEL], [work(4)], machines, methods)
    same(rates(first), rates(fresh))
    same(model_sizes(first), model_sizes(fresh))


def test_equal_rows_are_merged_and_nothing_is_lost() -> None:
    plain = asked(MODEL, work(4), PAIRS)
    del plain["max_sequences"]
    few, place = merged(plain)
    assert place is not None and len(few["engine"]) == len(PAIRS) / 2
    assert few.keys() == plain.keys()
    for name, values in few.items():
        np.testing.assert_array_equal(values[place], plain[name], err_msg=name)


def test_rows_that_differ_stay_apart() -> None:
    few, place = merged(asked(MODEL, work(4), PAIRS))
    assert place is not None and place.tolist() == list(range(len(PAIRS)))
    assert len(few["engine"]) == len(PAIRS)


def test_columns_that_can_be_written_to_are_left_alone() -> None:
    machines, methods = zip(*PAIRS, strict=True)
    fresh = columns([MODEL], [work(4)], machines, methods)
    few, place = merged(fresh)
    assert place is None
    same(few, fresh)


def test_a_rule_is_asked_once_for_what_cannot_change() -> None:
    told: list[float] = []

    @remembered
    def total(values: np.ndarray, times: float) -> float:
        told.append(times)
        return float(values.sum() * times)

    fixed, open_, one = read_only(np.arange(3.0)), np.arange(3.0), constant(np.ones(1), 3)
    assert [total(fixed, 2.0), total(fixed, 2.0), total(fixed, 3.0)] == [6.0, 6.0, 9.0]
    assert told == [2.0, 3.0]
    assert total(open_, 2.0) == 6.0
    open_[0] = 10.0
    assert total(open_, 2.0) == 26.0
    assert [total(one, 4.0), total(one, 4.0)] == [12.0, 12.0] and told[2:] == [2.0, 2.0, 4.0, 4.0]


def test_a_new_array_never_gets_the_answer_of_a_lost_one() -> None:
    first = remembered(lambda values: float(values[0]))
    for number in range(4 * MOST):
        assert first(read_only(np.full(5, float(number)))) == number


def test_a_rule_may_read_the_columns_it_names_alone() -> None:
    careless = of_columns("a")(lambda c: c.get("b"))
    with pytest.raises(KeyError):
        careless({"a": read_only(np.ones(2)), "b": np.ones(2)})


def test_answers_that_are_kept_cannot_be_changed() -> None:
    double = remembered(lambda values: {"twice": 2 * values})
    found = double(read_only(np.ones(3)))["twice"]
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 5.0
