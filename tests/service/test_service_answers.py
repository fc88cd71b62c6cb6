"""What is asked over HTTP is what the api answers."""

import pytest
from service_process import Served

from metainf import api
from metainf.api.asking import (
    Asked,
    Pair,
    PredictAsked,
    SizeAsked,
    answer_predict,
    answer_select,
    answer_size,
)
from metainf.api.over_time import over_time
from metainf.client import AsyncClient, Client, Refused
from metainf.domain import (
    BadInput,
    Batching,
    Device,
    Excluded,
    Hardware,
    Lengths,
    Method,
    Model,
    NoFeasible,
    NotSupported,
    Objective,
    Prediction,
    PrivacyAsked,
    Speculative,
    UnknownName,
    Workload,
)

LOAD = Workload(concurrency=8)
LONG = Workload(input_tokens=Lengths(mean=1e300))
MANY = ("1-64xL4", "1-64xH100", "1-64xT4", "1-64xA10G", "1-9xL40S")
QUESTION = Asked(
    model="Llama-3.1-8B-Instruct", workload="sharegpt", changes=LOAD, hardware=("1-2xL4", "H100"), top=3
)


def test_a_selection_is_the_one_of_the_api(client: Client) -> None:
    found = client.select(QUESTION)
    assert found == answer_select(QUESTION)
    assert found.ranked[0].prediction.reasons and found.ranked[0].command
    assert client.select(QUESTION) == found


def test_the_same_from_what_things_are_as_from_their_names(client: Client) -> None:
    named = client.select(QUESTION.model_copy(update={"hardware": ("2xL4",)}))
    described = QUESTION.model_copy(
        update={
            "model": api.model("Llama-3.1-8B-Instruct"),
            "hardware": (Hardware(device=api.device("L4"), count=2),),
            "objective": Objective(aim="throughput"),
        }
    )
    found = client.select(described)
    assert {one.hardware.count for one in found.ranked} == {2}
    assert found.model == named.model and found.workload == named.workload
    assert found.ranked[0].usd_per_hour == named.ranked[0].usd_per_hour


def test_a_class_of_privacy_travels_with_the_question(client: Client) -> None:
    trusted = PrivacyAsked.asking("trusted", ["provider:lambda"])
    found = client.select(QUESTION.model_copy(update={"privacy": trusted}))
    assert found == answer_select(QUESTION.model_copy(update={"privacy": trusted}))
    assert found.privacy is not None and not found.privacy.private
    assert {one.hardware.device.name for one in found.ranked} == {"h100-sxm"}
    assert all(one.privacy and one.privacy.provider == "lambda" for one in found.ranked)
    split = PrivacyAsked.stating(
        {"privacy": "split", "keep": 2, "client_hardware": Hardware(device=api.device("apple-m2"), count=1)}
    )
    found = client.select(QUESTION.model_copy(update={"privacy": split}))
    assert "swarm generate" in str(found.ranked[0].command) and found.privacy is not None
    assert found.privacy.client is not None and found.privacy.client.hardware == "apple-m2"
    with pytest.raises(NotSupported, match="size knows no class"):
        client.size(SizeAsked(question=QUESTION.model_copy(update={"privacy": split}), rate_per_s=2))


def test_sizing(client: Client) -> None:
    asked = SizeAsked(question=QUESTION, rate_per_s=20, percentile="p90")
    found = client.size(asked)
    assert found == answer_size(asked) and found[0].replicas >= 1


def test_predictions_and_reasons_in_the_order_of_the_pairs(client: Client) -> None:
    plain = Method(engine="vllm", techniques=(Batching(max_sequences=8),))
    guessed = Method(engine="sglang", techniques=(Speculative(algorithm="lookahead"),))
    machine = Hardware(device=Device(name="nobody"), count=1)
    asked = PredictAsked(
        model="Llama-3.1-8B-Instruct",
        workload="sharegpt",
        changes=LOAD,
        pairs=(
            Pair(hardware="L4", method=plain),
            Pair(hardware=machine, method=plain),
            Pair(hardware="2xL4", method=plain),
            Pair(hardware="L4", method=guessed),
        ),
    )
    first, unknown, second, _ = client.predict(asked)
    assert isinstance(first, Prediction) and isinstance(second, Prediction) and isinstance(unknown, Excluded)
    assert not first.reasons and "nobody" in unknown.reason
    assert client.predict(asked) == answer_predict(asked)
    told = client.explain(asked)[0]
    assert isinstance(told, Prediction) and told.reasons and told.metrics == first.metrics


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (QUESTION.model_copy(update={"model": "Lama-3.1-8B"}), UnknownName, "did you mean"),
        (QUESTION.model_copy(update={"hardware": ("H1000",)}), UnknownName, "did you mean"),
        (QUESTION.model_copy(update={"workload": "sharegtp"}), UnknownName, "sharegpt"),
        (QUESTION.model_copy(update={"engines": ("vlm",)}), UnknownName, "vllm"),
        (QUESTION.model_copy(update={"workload": None}), BadInput, "expected a workload"),
        (QUESTION.model_copy(update={"engines": ("openvino",)}), NotSupported, "openvino"),
        (QUESTION.model_copy(update={"objective": Objective(max_usd_per_hour=0.01)}), NoFeasible, "way out"),
        (QUESTION.model_copy(update={"hardware": MANY}), BadInput, "at most 256"),
        (QUESTION.model_copy(update={"model": Model(name="m", params_b=1e12)}), BadInput, "params_b"),
        (QUESTION.model_copy(update={"changes": LONG}), BadInput, "mean"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_are_those_of_the_house(
    client: Client, asked: Asked, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        client.select(asked)


def test_near_misses_travel(client: Client) -> None:
    with pytest.raises(UnknownName) as caught:
        client.select(QUESTION.model_copy(update={"hardware": ("H10",)}))
    assert caught.value.near


@pytest.mark.parametrize("name", ["/etc/passwd", "config.json", "../secret.gguf", "mine.toml"])
def test_names_are_never_files(client: Client, name: str) -> None:
    with pytest.raises(UnknownName):
        client.select(QUESTION.model_copy(update={"model": name}))
    with pytest.raises(UnknownName):
        client.select(QUESTION.model_copy(update={"hardware": (f"2x{name}",)}))
    with pytest.raises(UnknownName):
        client.select(QUESTION.model_copy(update={"workload": name}))
    for hardware in (name, "here"):
        with pytest.raises(UnknownName):
            client.methods("vllm", "Llama-3.1-8B-Instruct", hardware)


def test_the_catalogue(client: Client) -> None:
    assert {one.name for one in client.models()} == {one.name for one in api.models()}
    assert client.model("llama-3.1-8b-instruct") == api.model("llama-3.1-8b-instruct")
    assert all(one.modality == "image" for one in client.models("image"))
    offers = {one.device.name: one.usd_per_device_hour for one in client.hardware()}
    assert offers["l4"] == api.price("l4") and client.device("NVIDIA L4").device.name == "l4"
    assert {one.workload.name for one in client.workloads()} == set(api.workloads())
    rows = client.methods("vllm", "Qwen/Qwen3-32B", "2xL40S")
    assert [one.command for one in rows] == [
        command for _, command in api.methods("vllm", "Qwen/Qwen3-32B", "2xL40S", True)
    ]
    assert {one.kind: list(one.engines) for one in client.techniques()} == api.offers()
    assert "guidellm" in client.formats() and "records" in client.formats()


def test_evidence(client: Client) -> None:
    found = client.evaluation()
    assert found.manifest["records"] > 10_000
    assert len(found.judged) > 50 and {"better", "worse"} <= {one.verdict for one in found.judged}
    series = over_time()
    assert found.over_time == series.moments and found.by_runs == series.by_runs
    assert len({one.since for one in found.over_time}) > 5 and len(found.by_runs) > 20
    shares = client.importance()
    assert [(one.target, one.cause, one.share) for one in shares] == api.importance()


def test_an_unknown_page_is_a_problem(service: Served) -> None:
    with Client(service.url) as client, pytest.raises(Refused, match="No such record") as caught:
        client.record("b2:00")
    assert caught.value.problem.status == 404


async def _asks_at_once(url: str) -> None:
    import asyncio

    async with AsyncClient(url) as client:
        loads = [QUESTION.model_copy(update={"changes": Workload(concurrency=float(n))}) for n in (3, 3, 4)]
        found = await asyncio.gather(*(client.select(asked) for asked in loads))
        assert found[0] == found[1] != found[2]
        with pytest.raises(UnknownName):
            await client.model("nobody/nothing")
        assert (await client.health()).status == "ok"


def test_the_asynchronous_client_has_the_same_verbs(service: Served) -> None:
    import asyncio

    asyncio.run(_asks_at_once(service.url))


def test_nobody_there_is_said() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(Refused, match="no service answers"):
        client.health()
