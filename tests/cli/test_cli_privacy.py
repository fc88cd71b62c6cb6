"""A class of privacy as a constraint of `metainf select`, end to end with the predictor that ships."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import metainf
from metainf.catalog import quotes
from metainf.cli import private
from metainf.cli.app import app
from metainf.domain import BadInput, MetaInfError, NoFeasible, NotSupported, Selection, UnknownName
from metainf.domain.privacy import CLASSES

MODEL = "Llama-3.1-8B-Instruct"
CHAT = ("select", "--model", MODEL, "--workload", "sharegpt", "--concurrency", "8", "--top", "5")
PLAIN = (*CHAT, "--hardware", "L4", "--hardware", "H100", "--engine", "vllm")
SPLIT = ("--privacy", "split", "--keep", "4", "--client-hardware", "apple-m2")


def answer(*arguments: str) -> Selection:
    ran = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert ran.exit_code == 0
    return Selection.of(json.loads(ran.output))


def refused(*arguments: str) -> MetaInfError:
    ran = CliRunner().invoke(app, list(arguments))
    assert isinstance(ran.exception, MetaInfError), (ran.exception, ran.output)
    return ran.exception


def dearest(name: str, provider: str) -> float:
    return next(quote.usd_per_device_hour for quote in quotes(name) if quote.provider == provider)


def test_the_words_of_the_options_are_those_of_the_domain() -> None:
    assert private.CLASSES == CLASSES


def test_transport_is_every_offer_at_the_usual_price() -> None:
    plain, found = answer(*PLAIN), answer(*PLAIN, "--privacy", "transport")
    assert plain.privacy is None and all(one.privacy is None for one in plain.ranked)
    assert found.privacy is not None and not found.privacy.private and found.privacy.recovery == 1
    for one, other in zip(found.ranked, plain.ranked, strict=True):
        assert one.privacy is not None and one.privacy.privacy_price_ratio == 1
        assert one.model_copy(update={"privacy": None}) == other


def test_trusted_takes_the_cheapest_price_on_the_list_and_says_what_it_costs() -> None:
    found = answer(*PLAIN, "--privacy", "trusted", "--trust", "provider:lambda", "--trust", "provider:modal")
    named = {one.hardware.device.name: one for one in found.ranked}
    assert set(named) <= {"h100-sxm", "l4"} and "h100-sxm" in named
    least = min(quote.usd_per_device_hour for quote in quotes("h100-sxm"))
    one = named["h100-sxm"]
    assert one.usd_per_hour == dearest("h100-sxm", "modal") and one.privacy is not None
    assert one.privacy.provider == "modal" and not one.privacy.private
    assert one.privacy.privacy_price_ratio == pytest.approx(one.usd_per_hour / least)
    few = answer(*PLAIN, "--privacy", "trusted", "--trust", "provider:lambda")
    assert {each.hardware.device.name for each in few.ranked} == {"h100-sxm"}
    assert {each.hardware.device.name for each in few.excluded if each.limit == "privacy"} == {"l4"}
    assert all(each.usd_per_hour == dearest("h100-sxm", "lambda") for each in few.ranked)


def test_hardware_of_ones_own_is_what_one_stated_a_price_for() -> None:
    own = answer(
        *CHAT, "--hardware", "H100@2.5", "--hardware", "L4", "--privacy", "trusted", "--trust", "own"
    )
    assert {one.hardware.device.name for one in own.ranked} == {"h100-sxm"}
    assert {one.usd_per_hour for one in own.ranked} == {2.5}
    assert {one.privacy.privacy_price_ratio for one in own.ranked if one.privacy} == {1.0}
    told = refused(*CHAT, "--hardware", "H100@2.5", "--privacy", "trusted", "--trust", "provider:lambda")
    assert isinstance(told, NoFeasible) and "own is not on the list" in str(told)


def test_split_adds_the_client_and_runs_in_a_swarm() -> None:
    plain = answer(*CHAT, "--hardware", "H100", "--engine", "vllm", "--top", "50")
    found = answer(*CHAT, "--hardware", "H100", "--engine", "vllm", *SPLIT, "--top", "50")
    of, part = found.privacy, found.privacy.client if found.privacy else None
    assert of is not None and part is not None and not of.private and of.keep == 4
    assert part.rtt_ms == 30 and part.mbit_s == 100 and 0.1 < part.share < 0.3
    before = {one.method.id: one for one in plain.ranked}
    both = [(one, before[one.method.id]) for one in found.ranked if one.method.id in before]
    assert both
    for one, other in both:
        assert "swarm generate" in str(one.command) and "--privacy split --keep 4" in str(one.command)
        assert "--span 4:32" in str(one.command)
        tpot = one.prediction.metrics["tpot_s"].value
        assert tpot > (1 - part.share) * other.prediction.metrics["tpot_s"].value + 0.03
        assert one.prediction.metrics["ttft_s"].value > other.prediction.metrics["ttft_s"].value
        assert one.privacy is not None and one.privacy.privacy_price_ratio is not None
        assert one.usd_per_million_tokens is not None and other.usd_per_million_tokens is not None
        dearer = one.usd_per_million_tokens.value / other.usd_per_million_tokens.value
        assert one.privacy.privacy_price_ratio == pytest.approx(dearer)
    kinds = {each.kind for one in found.ranked for each in one.method.techniques}
    assert not kinds & {"weight_quantization", "kv_quantization", "speculative", "disaggregation"}
    assert any("nodes run a split model" in each.reason for each in found.excluded)
    command = CliRunner().invoke(app, [*CHAT, "--hardware", "H100", *SPLIT, "--export", "command"])
    assert command.output.startswith("metainf node --join")
    for line in command.output.splitlines():
        read = CliRunner().invoke(app, [*shlex.split(line, comments=True)[1:], "--help"])
        assert read.exit_code == 0, f"{line} has an option that is not there: {read.output}"
    told = refused(*CHAT, "--hardware", "H100", *SPLIT, "--export", "compose")
    assert isinstance(told, NotSupported) and "swarm manifests" in str(told)


def test_attested_needs_a_machine_that_is_described_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refused(*PLAIN, "--privacy", "attested")
    assert isinstance(told, NoFeasible) and "attestation" in str(told) and "trusted" in str(told)
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(
        'name = "mine"\nvendor = "NVIDIA"\nkind = "gpu"\ncompute_capability = "9.0"\nmemory_gib = 80\n'
        "memory_bandwidth_gb_per_s = 3350\nfp16_tflops = 990\nbf16_tflops = 990\n"
        'attestation = "TDX with confidential H100"\n'
    )
    found = answer(*CHAT, "--hardware", "mine.toml@3", "--privacy", "attested")
    assert found.privacy is not None and not found.privacy.private
    assert found.ranked[0].privacy is not None and found.ranked[0].privacy.privacy_price_ratio is None
    assert "no verifier" in found.ranked[0].notes[0]


def test_an_encrypted_model_is_refused_with_its_price() -> None:
    told = refused(*PLAIN, "--privacy", "encrypted-head")
    assert isinstance(told, NotSupported)
    assert "at least 12,066 times the price" in str(told) and MODEL in str(told) and "hours" in str(told)


BAD: list[tuple[tuple[str, ...], type[MetaInfError], str]] = [
    (("--privacy", "trusted"), BadInput, "whom to trust"),
    (("--privacy", "trusted", "--trust", "lab"), BadInput, "metainf swarm generate"),
    (("--privacy", "trusted", "--trust", "provider:lamda"), UnknownName, "lambda"),
    (("--privacy", "trusted", "--trust", "provider:"), BadInput, "provider:NAME"),
    (("--privacy", "trusted", "--trust", "region:fra"), NoFeasible, "region"),
    (("--privacy", "secret"), UnknownName, "class of privacy"),
    (("--trust", "own"), BadInput, "--privacy trusted, found no class"),
    (("--privacy", "transport", "--keep", "2"), BadInput, "--privacy split, found transport"),
    (("--privacy", "split", "--client-hardware", "apple-m2"), BadInput, "how many blocks"),
    (("--privacy", "split", "--keep", "4"), BadInput, "client's hardware"),
    (("--privacy", "split", "--keep", "32", "--client-hardware", "apple-m2"), BadInput, "1 to 31"),
    (("--privacy", "split", "--keep", "4", "--client-hardware", "aple-m2"), UnknownName, "apple-m2"),
    (("--privacy", "split", "--keep", "4", "--client-hardware", "1-2xL4"), BadInput, "one machine"),
    (("--privacy", "split", "--keep", "4", "--client-hardware", "L4@1"), BadInput, "without a price"),
    (("--privacy", "split", "--keep", "30", "--client-hardware", "apple-m1"), BadInput, "keep fewer blocks"),
    ((*SPLIT, "--client-mbit-s", "0"), BadInput, "client_mbit_s"),
]


@pytest.mark.parametrize(("options", "error", "words"), BAD)
def test_what_makes_no_sense_is_refused(
    options: tuple[str, ...], error: type[MetaInfError], words: str
) -> None:
    told = refused(*PLAIN, *options)
    assert isinstance(told, error) and words in str(told), str(told)


def test_a_device_shows_whose_prices_are_known() -> None:
    assert "lambda 4.29" in words("hardware", "show", "H100") and "provider" not in words(
        "hardware", "show", "apple-m2"
    )


def test_only_language_models_are_split() -> None:
    told = refused("select", "-m", "sdxl", "-H", "L4", *SPLIT)
    assert isinstance(told, NotSupported) and "only language models" in str(told)


def words(*arguments: str) -> str:
    """What is printed, without the places where lines break."""
    return " ".join(CliRunner().invoke(app, list(arguments), catch_exceptions=False).output.split())


def test_the_table_says_the_class_and_its_price() -> None:
    wanted = ("--privacy", "trusted", "--trust", "provider:lambda")
    shown = words(*PLAIN, *wanted)
    assert "not to be called private" in shown and "privacy costs" in shown and "(lambda)" in shown
    shown = words(*PLAIN, *SPLIT)
    assert "not secrecy" in shown and "round trip 30 ms" in shown


def test_in_python_too_and_nowhere_else() -> None:
    told: dict[str, Any] = {"workload": "sharegpt", "concurrency": 8, "top": 2}
    found = metainf.select(MODEL, "H100", privacy="trusted", trust=["provider:lambda"], **told)
    assert found.rows()[0]["privacy"] == "trusted" and found.rows()[0]["privacy_price_ratio"] > 1
    client = metainf.select(MODEL, "H100", **told).ranked[0].hardware
    split = metainf.select(MODEL, "H100", privacy="split", keep=2, client_hardware=client, **told)
    assert split.privacy is not None and split.privacy.client is not None
    with pytest.raises(UnknownName, match="argument 'privacy'"):
        metainf.size(MODEL, "H100", 5, privacy="transport", workload="sharegpt")
