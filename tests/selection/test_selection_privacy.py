"""What a class of privacy may and may not do to a selection: by properties, with a fake predictor."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_fakes import MODEL, ask, machine, prediction

from metainf.api.private import Guarding
from metainf.catalog import find_model
from metainf.domain import (
    BadInput,
    Device,
    Hardware,
    Lengths,
    Model,
    NoFeasible,
    Objective,
    Prediction,
    Privacy,
    PrivacyAsked,
    Selection,
    Workload,
)
from metainf.selection import Rules
from metainf.selection.admitting import Admitted, Machine, admit
from metainf.selection.splitting import Split, sizes_of, split_of
from metainf.swarm.privacy.measured import table

SMALL = find_model("HuggingFaceTB/SmolLM2-135M-Instruct")
CHAT = Workload(input_tokens=Lengths(mean=200), output_tokens=Lengths(mean=100), concurrency=8)
LAPTOP = Hardware(
    device=Device(name="laptop", memory_gib=16, memory_bandwidth_gb_per_s=100, fp32_tflops=3), count=1
)
NAMES = ("a", "b", "c", "d")
WHO = ("one", "two", "three")
offers = st.fixed_dictionaries(
    {name: st.dictionaries(st.sampled_from(WHO), st.floats(0.1, 50), max_size=3) for name in NAMES}
)
lists = st.lists(
    st.sampled_from((*(f"provider:{who}" for who in WHO), "own", "region:eu")), min_size=1, max_size=4
)
speeds = st.lists(st.floats(1, 1e3), min_size=len(NAMES), max_size=len(NAMES))


def trusting(marks: Sequence[str]) -> PrivacyAsked:
    return PrivacyAsked.asking("trusted", marks)


def splitting(keep: int, **line: float) -> PrivacyAsked:
    return PrivacyAsked.stating({"privacy": "split", "keep": keep, "client_hardware": LAPTOP} | line)


def machines(asked: dict[str, dict[str, float]]) -> list[Machine]:
    """What nobody rents out is one's own, at an unknown price."""
    return [
        Machine(machine(name), min(of.values(), default=None), own=not of, quotes=of)
        for name, of in asked.items()
    ]


def chosen(
    asked: PrivacyAsked, every: list[Machine], speed: Sequence[float], aim: str = "cost"
) -> Selection | None:
    """The selection under a class, as the api puts it together; None where nothing is left."""
    verdicts = {each.hardware.id: admit(asked, each) for each in every}
    admitted = {key: found for key, found in verdicts.items() if isinstance(found, Admitted)}
    reasons = {key: found for key, found in verdicts.items() if isinstance(found, str)}
    told = Privacy(name=asked.privacy, private=False, protects="", exposes="")
    guard = Guarding(asked, MODEL, (), admitted, reasons, told=told)
    prices = {
        each.hardware.device.name: admitted[each.hardware.id].usd_per_hour
        if each.hardware.id in admitted
        else None
        for each in every
    }
    answers = {(name, 1): prediction(of) for name, of in zip(prices, speed, strict=True)}
    try:
        return ask(
            answers, Objective.of({"aim": aim}), prices,
            Rules(check=guard.check(lambda *_: None), guarded=guard.guarded),
        )  # fmt: skip
    except NoFeasible:
        return None


@settings(max_examples=150, deadline=None)
@given(offers, lists, speeds, st.sampled_from(["cost", "throughput"]))
def test_a_class_never_lets_an_excluded_offer_in_and_never_lowers_a_price(of, marks, speed, aim) -> None:  # type: ignore[no-untyped-def]
    every = machines(of)
    free = chosen(PrivacyAsked(), every, speed, aim)
    found = chosen(trusting(marks), every, speed, aim)
    if found is None:
        return
    assert free is not None, "what is open with a class is open without"
    for one in found.ranked:
        quotes = of[one.hardware.device.name]
        assert one.privacy is not None and not one.privacy.private
        if not quotes:
            assert "own" in marks and one.usd_per_hour is None
            continue
        assert f"provider:{one.privacy.provider}" in marks
        assert one.usd_per_hour == quotes[one.privacy.provider]
        assert one.privacy.privacy_price_ratio == pytest.approx(one.usd_per_hour / min(quotes.values()))
        assert one.privacy.privacy_price_ratio >= 1
    if aim == "cost":
        assert found.ranked[0].score <= free.ranked[0].score * (1 + 1e-12)
    out = {each.hardware.device.name for each in found.excluded if each.limit == "privacy"}
    assert not out & {one.hardware.device.name for one in found.ranked}


@given(offers, lists, lists)
def test_a_longer_list_of_trust_never_costs_more(of, marks, more) -> None:  # type: ignore[no-untyped-def]
    for each in machines(of):
        few, many = admit(trusting(marks), each), admit(trusting([*marks, *more]), each)
        if isinstance(few, Admitted):
            assert isinstance(many, Admitted)
            assert (many.usd_per_hour or 0) <= (few.usd_per_hour or 0) and (many.ratio or 0) <= (
                few.ratio or 0
            )
        else:
            assert few and (isinstance(many, Admitted) or many)


def test_what_is_left_out_is_told() -> None:
    rented = Machine(machine("a"), 1.0, quotes={"one": 1.0, "two": 2.0})
    assert "one, two do" in str(admit(trusting(["provider:three"]), rented))
    assert "region" in str(admit(trusting(["region:eu"]), rented))
    assert "own is not on the list" in str(
        admit(trusting(["provider:one"]), Machine(machine("a"), 1.0, own=True))
    )
    asked = PrivacyAsked.asking("attested")
    assert "attestation" in str(admit(asked, rented))
    proved = Hardware(device=Device(name="mine"), count=1, attestation="SEV-SNP")
    assert admit(asked, Machine(proved, 2.0, own=True)) == Admitted(2.0, None)


def test_the_predicted_share_of_the_client_is_the_measured_one() -> None:
    """The table of docs/privacy.md: processor time of the client's blocks and head, by that of all."""
    sizes, seen = sizes_of(SMALL), 0
    for row in table("split")["rows"]:
        mine = row["client_blocks_ms"] + row["client_head_ms"]
        measured = mine / (mine + row["nodes_ms"])
        assert abs(sizes.share(row["blocks"]) - measured) < 0.10, row
        seen += 1
    assert seen >= 6


def predictions(speed: float, ttft: float, tpot: float) -> dict[tuple[str, int], Prediction]:
    return {("a", 1): prediction(speed, ttft, tpot)}


def under(split: Split | None, of: dict[tuple[str, int], Prediction], work: Workload = CHAT) -> Selection:
    seen: list[float] = []

    def guarded(hardware: Hardware, factor: float) -> None:
        seen.append(factor)

    rules = Rules(split=split, guarded=guarded)  # type: ignore[arg-type]
    found: Selection = ask(of, Objective(aim="cost", confidence=0.1), {"a": 1.0}, rules, work)
    assert len(seen) == len(found.ranked)
    return found


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 29), st.floats(1, 1e4), st.floats(0.01, 5), st.floats(1e-3, 0.5), st.floats(0, 200),
    st.floats(1, 1000),
)  # fmt: skip
def test_a_split_model_takes_the_times_of_both_sides(keep, speed, ttft, tpot, rtt, rate) -> None:  # type: ignore[no-untyped-def]
    asked = splitting(keep, client_rtt_ms=rtt, client_mbit_s=rate)
    split = split_of(SMALL, asked, LAPTOP, CHAT)
    part, of = split.client, predictions(speed, ttft, tpot)
    plain = under(None, of).ranked[0].prediction.metrics
    found = under(split, of).ranked[0].prediction.metrics
    first = part.seconds_to_first_token + part.line_seconds_to_first_token
    token = part.seconds_per_token + part.line_seconds_per_token
    assert found["ttft_s"].value == pytest.approx((1 - part.share) * plain["ttft_s"].value + first)
    assert found["tpot_s"].value == pytest.approx((1 - part.share) * plain["tpot_s"].value + token)
    assert token >= rtt / 1000
    for estimate in found.values():
        assert estimate.low <= estimate.value * (1 + 1e-9) and estimate.value <= estimate.high * (1 + 1e-9)
    grown = found["output_tokens_per_s"].value / plain["output_tokens_per_s"].value
    assert grown <= 1 / (1 - part.share) * (1 + 1e-9)
    before = plain["ttft_s"].value + 99 * plain["tpot_s"].value
    after = found["ttft_s"].value + 99 * found["tpot_s"].value
    assert grown == pytest.approx(min(before / after, 1 / (1 - part.share)))
    arriving = CHAT.model_copy(update={"concurrency": None, "request_rate_per_s": 2.0})
    same = under(split_of(SMALL, asked, LAPTOP, arriving), of, arriving).ranked[0].prediction.metrics
    assert same["output_tokens_per_s"].value == pytest.approx(plain["output_tokens_per_s"].value)


@given(st.integers(1, 28), st.floats(0, 100), st.floats(1, 1000))
def test_more_blocks_or_a_worse_line_are_never_less_work_for_the_client(keep, rtt, rate) -> None:  # type: ignore[no-untyped-def]
    one, more = (split_of(SMALL, splitting(k), LAPTOP, CHAT).client for k in (keep, keep + 1))
    assert more.share > one.share and more.memory_gib > one.memory_gib
    assert more.seconds_per_token > one.seconds_per_token
    assert more.seconds_to_first_token > one.seconds_to_first_token
    assert more.bytes_per_token == one.bytes_per_token
    line = split_of(SMALL, splitting(keep, client_rtt_ms=rtt, client_mbit_s=rate), LAPTOP, CHAT).client
    worse = split_of(
        SMALL, splitting(keep, client_rtt_ms=rtt + 1, client_mbit_s=rate / 2), LAPTOP, CHAT
    ).client
    assert worse.line_seconds_per_token > line.line_seconds_per_token
    assert worse.line_seconds_to_first_token > line.line_seconds_to_first_token


def test_energy_and_what_else_a_split_model_does_not_tell_is_left_out() -> None:
    split = split_of(SMALL, splitting(4), LAPTOP, CHAT)
    of = predictions(100, 0.2, 0.02)
    one = of["a", 1]
    metrics = one.metrics | {"energy_j_per_token": one.metrics["tpot_s"]}
    with_energy = {("a", 1): one.model_copy(update={"metrics": metrics})}
    found = under(split, with_energy).ranked[0].prediction.metrics
    assert "energy_j_per_token" not in found and {"ttft_s", "tpot_s", "output_tokens_per_s"} <= set(found)


@pytest.mark.parametrize(
    ("keep", "client", "words"),
    [
        (30, LAPTOP, "1 to 29"),
        (31, LAPTOP, "1 to 29"),
        (2, Hardware(device=Device(name="blank"), count=1), "memory_bandwidth_gb_per_s and fp32_tflops"),
        (2, LAPTOP.model_copy(update={"count": 2}), "one device"),
        (
            20,
            Hardware(device=LAPTOP.device.model_copy(update={"memory_gib": 0.1}), count=1),
            "keep fewer blocks",
        ),
    ],
)
def test_a_split_that_cannot_be_is_refused(keep: int, client: Hardware, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        split_of(SMALL, splitting(keep), client, CHAT)


def test_a_model_whose_shape_is_not_known_is_not_split() -> None:
    with pytest.raises(BadInput, match="num_layers, hidden_size, vocab_size"):
        sizes_of(Model(name="m", params_b=8))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"privacy": "trusted"}, "whom to trust"),
        ({"privacy": "split", "client_hardware": "apple-m2"}, "how many blocks"),
        ({"privacy": "split", "keep": 2}, "client's hardware"),
        ({"privacy": "transport", "keep": 2}, "only with split"),
        ({"privacy": "transport", "client_hardware": "apple-m2"}, "only with split"),
        ({"privacy": "attested", "trust": ["own"]}, "only with trusted"),
        ({"privacy": "split", "keep": 2, "client_hardware": "x", "client_mbit_s": 0}, "client_mbit_s"),
        ({"privacy": "split", "keep": 2, "client_hardware": "x", "client_rtt_ms": math.nan}, "client_rtt_ms"),
        ({"privacy": "secret"}, "privacy"),
    ],
)
def test_requirements_that_make_no_sense_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        PrivacyAsked.stating(values)
