"""Values are strict, round trip, and are named by their content."""

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from metainf.domain import (
    BadInput,
    Batching,
    Device,
    Estimate,
    Failed,
    Flags,
    Frozen,
    Hardware,
    Measured,
    Method,
    Metrics,
    Model,
    Objective,
    Parallelism,
    Precision,
    Record,
    Setting,
    Speculative,
    Technique,
    WeightQuantization,
    Workload,
    content_id,
)
from metainf.testing import strategies

VALUES = st.one_of(
    strategies.models(),
    strategies.workloads(),
    strategies.hardware(),
    strategies.methods(),
    strategies.provenances(),
    strategies.records(),
)


@given(VALUES)
def test_round_trip(value: Frozen) -> None:
    back = type(value).parse(value.canonical())
    assert back == value
    assert back.canonical() == value.canonical() and back.id == value.id
    assert type(value).of(value.model_dump(mode="json")) == value


@given(VALUES, VALUES)
def test_ids_are_equal_exactly_when_values_are(left: Frozen, right: Frozen) -> None:
    if type(left) is type(right):
        assert (left.id == right.id) == (left.canonical() == right.canonical())
    assert left.id.startswith("b2:") and len(left.id) == 3 + 32


@given(VALUES)
def test_canonical_json_is_sorted_and_without_none(value: Frozen) -> None:
    text = value.canonical()
    plain = json.loads(text)
    assert text == json.dumps(plain, sort_keys=True, separators=(",", ":"))
    assert "null" not in [json.dumps(each) for each in leaves(plain)]


def leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


@given(strategies.techniques(), st.randoms())
def test_the_order_of_techniques_does_not_matter(
    techniques: tuple[Technique, ...], rng: random.Random
) -> None:
    shuffled = list(techniques)
    rng.shuffle(shuffled)
    left, right = Method(engine="e", techniques=techniques), Method(engine="e", techniques=tuple(shuffled))
    assert left == right and left.id == right.id
    for technique in techniques:
        assert left.get(type(technique)) == technique
    assert len(left.techniques) == len(techniques)


def test_get_of_an_absent_technique_is_none() -> None:
    assert Method(engine="e", techniques=(Batching(),)).get(Flags) is None


def test_defaults_stay_and_none_goes() -> None:
    text = Method(engine="e", techniques=(Batching(),)).canonical()
    assert text == '{"engine":"e","techniques":[{"kind":"batching","mode":"continuous"}]}'
    assert Model(name="m").canonical() == '{"modality":"text","name":"m"}'


def test_the_id_is_pinned() -> None:
    assert content_id("{}") == "b2:2afb9b83f9314e5d029766197f539792"
    assert Model(name="m").id == content_id('{"modality":"text","name":"m"}')


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    with pytest.raises(ValidationError):
        Model(name="m", params_b=bad)
    with pytest.raises(ValidationError):
        Metrics(quality=bad)
    with pytest.raises(BadInput):
        Metrics.of({"quality": bad})
    with pytest.raises(BadInput, match="quality"):
        Metrics.parse(json.dumps({"quality": bad}))


@pytest.mark.parametrize(
    ("kind", "text", "field", "found"),
    [
        (Model, '{"name": ""}', "name", "''"),
        (Model, '{"name": "m", "params_b": "7"}', "params_b", "'7'"),
        (Model, '{"name": "m", "params_b": -1}', "params_b", "-1"),
        (Model, '{"name": "m", "num_layers": 2.5}', "num_layers", "2.5"),
        (Model, '{"name": "m", "tie_embeddings": 1}', "tie_embeddings", "1"),
        (Model, '{"name": "m", "modality": "smell"}', "modality", "'smell'"),
        (Model, '{"name": "m", "colour": "red"}', "colour", "'red'"),
        (Model, "{}", "name", "{}"),
        (Workload, '{"prefix_share": 1.5}', "prefix_share", "1.5"),
        (Workload, '{"input_tokens": {"mean": -3}}', "input_tokens.mean", "-3"),
        (Hardware, '{"device": {"name": "d"}, "count": 0}', "count", "0"),
        (Metrics, '{"ttft_s": 0}', "ttft_s", "0"),
        (Failed, '{"reason": "bored"}', "reason", "'bored'"),
        (Objective, '{"confidence": 1}', "confidence", "1"),
        (Estimate, '{"value": 1, "low": -1, "high": 2}', "low", "-1"),
        (Method, '{"engine": "e", "techniques": [{"kind": "magic"}]}', "techniques.0", "magic"),
    ],
)
def test_refusals_say_field_and_found_value(kind: type[Frozen], text: str, field: str, found: str) -> None:
    with pytest.raises(BadInput) as caught:
        kind.parse(text)
    assert kind.__name__ in str(caught.value)
    assert field in str(caught.value) and found in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '"m"', b"\xff\xfe", '{"name": "m"} x'])
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadInput, match="Model"):
        Model.parse(text)


@given(st.text())
@settings(max_examples=50)
def test_any_text_is_a_record_or_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        Record.parse(text)


def test_of_refuses_what_json_cannot_say() -> None:
    with pytest.raises(BadInput):
        Model.of({"name": object()})


def test_values_do_not_change() -> None:
    model = Model(name="m")
    with pytest.raises(ValidationError):
        model.name = "n"  # type: ignore[misc]


def test_two_settings_of_one_technique_are_refused() -> None:
    twice = (Speculative(algorithm="ngram"), Precision(dtype="bf16"), Speculative(algorithm="eagle"))
    with pytest.raises(ValidationError, match="more than one setting of speculative"):
        Method(engine="e", techniques=twice)
    plain = {"engine": "e", "techniques": [one.model_dump(mode="json") for one in twice]}
    with pytest.raises(BadInput, match="speculative"):
        Method.of(plain)


def test_contradicting_loads_are_refused() -> None:
    with pytest.raises(BadInput, match="contradict"):
        Workload.of({"concurrency": 4, "request_rate_per_s": 1, "batch_size": 2})
    assert Workload(concurrency=4, request_rate_per_s=1).batch_size is None


def test_more_active_parameters_than_parameters_are_refused() -> None:
    with pytest.raises(BadInput, match="active_params_b 9"):
        Model.of({"name": "m", "params_b": 8, "active_params_b": 9})
    assert Model(name="m", params_b=8, active_params_b=8).active_params_b == 8


def test_metrics_of_a_record() -> None:
    setting = Setting(model=Model(name="m"), workload=Workload(), hardware=Hardware(device=Device(name="d")))
    origin = {"source": "s"}
    common = {"setting": setting.model_dump(mode="json"), "method": {"engine": "e"}, "provenance": origin}
    good = Record.of(common | {"outcome": {"kind": "measured", "metrics": {"ttft_s": 0.5}}})
    bad = Record.of(common | {"outcome": {"kind": "failed", "reason": "out_of_memory"}})
    assert isinstance(good.outcome, Measured) and good.metrics == Metrics(ttft_s=0.5)
    assert bad.metrics is None and good.id != bad.id


def test_tagged_techniques_come_back_as_themselves() -> None:
    techniques = (WeightQuantization(format="fp8", bits=8.0), Parallelism(tensor=2), Flags(values=("--x",)))
    back = Method.parse(Method(engine="e", techniques=techniques).canonical())
    assert {type(one) for one in back.techniques} == {WeightQuantization, Parallelism, Flags}
