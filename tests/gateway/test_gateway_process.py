"""A real gateway before fake servers that misbehave, each its own process."""

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from gateway_process import MODEL, ask, endpoint, events, fake, gateway, question, words

from metainf import api
from metainf.domain import Failed, Record

GOOD = ("--ttft-ms", "10", "--itl-ms", "2")
DEAD = "http://127.0.0.1:9"


def records(folder: Path) -> list[Record]:
    """What the store holds."""
    with api.store(str(folder / "records.sqlite")) as opened:
        return list(opened.query())


def counted(url: str) -> dict[str, float]:
    """The gateway's own counts."""
    lines = httpx2.get(f"{url}/metrics").text.splitlines()
    pairs = [line.rpartition(" ") for line in lines if line.startswith("metainf_gateway")]
    return {name: float(value) for name, _, value in pairs}


def bad_first(bad: str, good: str, **more: object) -> list[dict[str, object]]:
    """Two endpoints of which the one that misbehaves is forecast to be the faster by far."""
    return [
        endpoint("bad", bad, hardware="1xH100", engine="vllm", method="continuous+fp8", **more),
        endpoint("good", good, hardware="1xL4", engine="vllm"),
    ]


def test_an_answer_and_a_stream_are_those_of_the_endpoint(tmp_path: Path) -> None:
    with fake(tmp_path, "a", *GOOD) as a, gateway(tmp_path, [endpoint("a", a.url)]) as one:
        direct = ask(a.url, model="fake").json()
        whole = ask(one.url)
        assert whole.status_code == 200 and whole.json() == direct
        assert whole.headers["x-metainf-endpoint"] == "a" and whole.headers["x-metainf-attempts"] == "1"
        streamed = ask(one.url, stream=True)
        assert streamed.text == ask(a.url, model="fake", stream=True).text
        assert streamed.headers["content-type"].startswith("text/event-stream")
        counts = {"include_usage": True}
        asked = ask(one.url, stream=True, stream_options=counts)
        assert asked.text == ask(a.url, model="fake", stream=True, stream_options=counts).text
        assert words(streamed.text) == direct["choices"][0]["message"]["content"]
        listed = httpx2.get(f"{one.url}/v1/models").json()["data"]
        assert [(each["id"], each["endpoints"]) for each in listed] == [(f"meta-llama/{MODEL}", ["a"])]
        plain = httpx2.post(
            f"{one.url}/v1/completions", json={"model": MODEL, "prompt": "Hi", "max_tokens": 3}
        )
        assert len(plain.json()["choices"][0]["text"].split()) == 3


def test_a_stream_comes_as_it_is_made(tmp_path: Path) -> None:
    """Nothing is gathered: the pieces are as far apart as the endpoint makes them."""
    with (
        fake(tmp_path, "a", "--ttft-ms", "50", "--itl-ms", "60") as a,
        gateway(tmp_path, [endpoint("a", a.url)]) as one,
        httpx2.stream("POST", f"{one.url}/v1/chat/completions", json=question(stream=True)) as response,
    ):
        came = [time.monotonic() for data in response.iter_raw() if data]
    gaps = [b - a for a, b in pairwise(came)]
    assert len(came) >= 7 and sum(gap > 0.03 for gap in gaps) >= 6


@pytest.mark.parametrize("wrong", ["unavailable", "garbage", "html", "hang", "refusing"])
@pytest.mark.parametrize("stream", [True, False])
def test_what_fails_before_a_token_is_asked_of_the_next(tmp_path: Path, wrong: str, stream: bool) -> None:
    """The caller sees an answer, the store both outcomes."""
    more = [] if wrong == "refusing" else ["--fail", wrong]
    with fake(tmp_path, "bad", *more) as bad, fake(tmp_path, "good", *GOOD) as good:
        rows = bad_first(DEAD if wrong == "refusing" else bad.url, good.url)
        options = ("--stall", "2s", "--probe-every", "600s")
        if wrong == "refusing":  # its probe would say so before anybody asks: it dies after that
            rows = bad_first(bad.url, good.url)
        with gateway(tmp_path, rows, *options) as one:
            if wrong == "refusing":
                bad.kill()
            if wrong == "hang" and not stream:
                pytest.skip("an answer in one piece may take as long as is expected of the whole")
            found = ask(one.url, stream=stream)
            assert found.status_code == 200 and found.headers["x-metainf-endpoint"] == "good"
            assert int(found.headers["x-metainf-attempts"]) >= 2
            counts = counted(one.url)
            assert (
                sum(n for name, n in counts.items() if name.startswith("metainf_gateway_retries_total")) >= 1
            )
            one.stop()
    kept = records(tmp_path)
    failed = [each for each in kept if isinstance(each.outcome, Failed)]
    assert {each.provenance.location for each in failed} == {"bad"}
    assert [each.provenance.location for each in kept if each.metrics] == ["good"]
    reasons = {each.outcome.reason for each in failed if isinstance(each.outcome, Failed)}
    assert reasons == {"timed_out" if wrong == "hang" else "crashed"}


@pytest.mark.parametrize("wrong", ["cut", "die", "stall", "unfinished", "error_inside"])
def test_after_a_token_nobody_else_is_asked(tmp_path: Path, wrong: str) -> None:
    """The caller keeps what came and is told, and never gets two answers."""
    with fake(tmp_path, "bad", *GOOD, "--fail", wrong) as bad, fake(tmp_path, "good", *GOOD) as good:
        rows = bad_first(bad.url, good.url)
        with gateway(tmp_path, rows, "--stall", "1s", "--probe-every", "600s") as one:
            found = ask(one.url, stream=True)
            assert found.status_code == 200 and found.headers["x-metainf-endpoint"] == "bad"
            said = events(found.text)
            assert "[DONE]" not in said and "error" in json.loads(said[-1])
            assert (
                len(said) >= 5
                and counted(one.url).get('metainf_gateway_attempts_total{endpoint="good",result="ok"}', 0.0)
                == 0.0
            )
            one.stop()
    (kept,) = records(tmp_path)
    assert isinstance(kept.outcome, Failed) and kept.provenance.location == "bad"
    assert kept.setting.workload.output_tokens is not None and kept.setting.workload.output_tokens.mean >= 4


def test_one_that_keeps_failing_is_left_alone_and_found_again(tmp_path: Path) -> None:
    slow = ("--ttft-ms", "300", "--itl-ms", "2")
    with fake(tmp_path, "good", *slow) as good, fake(tmp_path, "bad", "--fail", "unavailable") as bad:
        port = int(bad.url.rpartition(":")[2])
        with gateway(tmp_path, bad_first(bad.url, good.url)) as one:
            tried = [int(ask(one.url).headers["x-metainf-attempts"]) for _ in range(5)]
            assert tried[:3] == [2, 2, 2] and 1 in tried[3:], "after three failures it is not asked"
            left_alone = [each["left_alone"] for each in httpx2.get(f"{one.url}/v1/endpoints").json()["data"]]
            assert left_alone[1] is None
            bad.kill()
            with fake(tmp_path, "back", *GOOD, port=port):
                until, name = time.monotonic() + 30, "good"
                while name == "good" and time.monotonic() < until:
                    time.sleep(0.1)
                    name = ask(one.url).headers["x-metainf-endpoint"]
                assert name == "bad", "it answers again and is the faster by its forecast"


def test_a_dead_endpoint_is_not_asked_once_its_probe_says_so(tmp_path: Path) -> None:
    with fake(tmp_path, "good", *GOOD) as good:
        with gateway(tmp_path, bad_first(DEAD, good.url)) as one:
            assert ask(one.url).headers["x-metainf-attempts"] == "1"
            one.stop()
        (kept,) = records(tmp_path)[:1]
        assert kept.provenance.location == "good"


def test_where_all_fail_the_caller_is_told_what_each_said(tmp_path: Path) -> None:
    with fake(tmp_path, "a", "--fail", "unavailable") as a, gateway(tmp_path, [endpoint("a", a.url)]) as one:
        found = ask(one.url)
        assert found.status_code == 502 and "no worker is free (fake)" in found.json()["error"]["message"]
        for _ in range(2):
            ask(one.url)
        closed = ask(one.url)
        assert closed.status_code == 503 and int(closed.headers["retry-after"]) >= 1
        assert closed.json()["error"]["code"] == "no_endpoint"


def test_a_request_that_is_wrong_is_the_callers_and_nobodys_failure(tmp_path: Path) -> None:
    with fake(tmp_path, "a", "--fail", "bad_request") as a, gateway(tmp_path, [endpoint("a", a.url)]) as one:
        for _ in range(4):
            found = ask(one.url)
            assert found.status_code == 400 and "too long" in found.json()["error"]["message"]
        unknown = ask(one.url, model="nobody")
        assert unknown.status_code == 404 and unknown.json()["error"]["code"] == "model_not_found"
        assert ask(one.url, {"X-MetaInf-Max-TTFT": "1"}).status_code == 400
        assert httpx2.get(f"{one.url}/v1/chat/completions").status_code == 405
        assert ask(one.url, {"Host": "evil.example"}).status_code == 400, "a page under a name of its own"
        one.stop()
    assert records(tmp_path) == []


def test_a_deadline_ends_it(tmp_path: Path) -> None:
    with fake(tmp_path, "a", "--fail", "hang") as a, gateway(tmp_path, [endpoint("a", a.url)]) as one:
        begun = time.monotonic()
        found = ask(one.url, {"X-MetaInf-Deadline-S": "0.5"}, stream=True)
        assert found.status_code == 504 and time.monotonic() - begun < 30


def test_limits_choose_the_machine(tmp_path: Path) -> None:
    """The forecast alone decides before anything was seen: the cheapest that is fast enough."""
    with fake(tmp_path, "a", *GOOD) as a, fake(tmp_path, "b", *GOOD) as b:
        rows = [
            endpoint("l4", a.url, hardware="1xL4@0.01", engine="vllm"),
            endpoint("h100", b.url, hardware="1xH100@100", engine="vllm", method="continuous+fp8"),
        ]
        with gateway(tmp_path, rows) as one:

            def where(**limits: object) -> Any:
                return ask(one.url, metainf=limits).headers.get("x-metainf-endpoint")

            assert where(max_tpot_s=0.015) == "h100"
            assert where() == "h100"
            assert where(max_ttft_s=30) == "l4"
            assert where(aim="cost") == "l4"
            refused = ask(one.url, metainf={"max_usd": 1e-12})
            assert refused.status_code == 422 and refused.json()["error"]["code"] == "no_feasible"


def test_what_is_seen_corrects_the_forecast(tmp_path: Path) -> None:
    """An H100 that is slow in truth loses its place to an L4 that is quick."""
    with (
        fake(tmp_path, "slow", "--ttft-ms", "1500", "--itl-ms", "100") as slow,
        fake(tmp_path, "quick", *GOOD) as quick,
        gateway(tmp_path, bad_first(slow.url, quick.url)) as one,
    ):
        first = [ask(one.url, stream=True).headers["x-metainf-endpoint"] for _ in range(8)]
        assert first[0] == "bad" and first[-1] == "good", first
        (h100, _) = httpx2.get(f"{one.url}/v1/endpoints").json()["data"]
        assert h100["seen_over_expected"]["ttft"]["factor"] > 2


def test_a_caller_who_leaves_ends_the_work(tmp_path: Path) -> None:
    with (
        fake(tmp_path, "a", "--ttft-ms", "10", "--itl-ms", "100") as a,
        gateway(tmp_path, [endpoint("a", a.url)]) as one,
    ):
        asked = question(stream=True, max_tokens=200)
        with httpx2.stream("POST", f"{one.url}/v1/chat/completions", json=asked) as response:
            pieces = response.iter_raw()
            next(pieces)
            assert 'num_requests_running{model_name="fake"} 1.0' in httpx2.get(f"{a.url}/metrics").text
        until = time.monotonic() + 5
        while time.monotonic() < until:
            text = httpx2.get(f"{a.url}/metrics").text
            if 'num_requests_running{model_name="fake"} 0.0' in text:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the endpoint still writes for a caller who has left")
        name = 'metainf_gateway_attempts_total{endpoint="a",result="left"}'
        assert counted(one.url)[name] == 1.0


def test_nothing_is_lost_when_it_is_told_to_stop(tmp_path: Path) -> None:
    """Every answer that was given is a record, also those that came after the signal."""
    with (
        fake(tmp_path, "a", "--ttft-ms", "300", "--itl-ms", "1") as a,
        gateway(tmp_path, [endpoint("a", a.url, hardware="1xL4", engine="vllm")]) as one,
    ):
        import asyncio

        async def burst() -> int:
            async with httpx2.AsyncClient(timeout=30) as client:
                url = f"{one.url}/v1/chat/completions"
                tasks = [
                    asyncio.create_task(client.post(url, json=question(stream=number % 2 == 0)))
                    for number in range(40)
                ]
                await asyncio.sleep(0.15)
                one.process.terminate()
                found = await asyncio.gather(*tasks, return_exceptions=True)
                return sum(isinstance(each, httpx2.Response) and each.status_code == 200 for each in found)

        good = asyncio.run(burst())
        one.process.wait(60)
    kept = records(tmp_path)
    assert good >= 1 and len(kept) == good
    assert len({each.id for each in kept}) == good, "each is a record of its own"
    for each in kept:
        assert each.metrics is not None and each.metrics.e2e_s is not None and each.metrics.usd_per_request
        assert each.setting.workload.output_tokens is not None
        assert each.setting.workload.output_tokens.mean == 8
        assert each.provenance.source == "metainf-gateway" and each.provenance.location == "a"
    assert sum(each.metrics.ttft_s is not None for each in kept if each.metrics) >= good // 3


def test_keys_are_those_of_the_service(tmp_path: Path) -> None:
    from metainf.api import imports

    with api.store(str(tmp_path / "records.sqlite")) as opened:
        ring = imports.keyring(opened)
        _, looks = ring.add("grafana", "read", imports.now())
        _, asks = ring.add("app", "write", imports.now())
    with fake(tmp_path, "a", *GOOD) as a, gateway(tmp_path, [endpoint("a", a.url)]) as one:
        none = ask(one.url)
        assert none.status_code == 401 and none.json()["error"]["type"] == "authentication_error"
        assert ask(one.url, {"Authorization": f"Bearer {looks}"}).status_code == 403
        assert ask(one.url, {"Authorization": f"Bearer {asks}"}).status_code == 200
        looked = httpx2.get(f"{one.url}/metrics", headers={"Authorization": f"Bearer {looks}"})
        assert looked.status_code == 200 and httpx2.get(f"{one.url}/metrics").status_code == 401
        assert asks not in one.log.read_text(encoding="utf-8")


def test_each_request_is_one_line_of_the_log(tmp_path: Path) -> None:
    with fake(tmp_path, "a", *GOOD) as a, gateway(tmp_path, [endpoint("a", a.url)]) as one:
        ask(one.url, {"X-Request-Id": "mine"}, stream=True)
        one.stop()
        (line,) = [each for each in one.logged() if each.get("request_id") == "mine"]
    assert line["endpoint"] == "a" and line["result"] == "ok" and line["attempts"] == 1
    assert line["output_tokens"] == 8 and line["ttft_s"] > 0 and line["route"] == "/v1/chat/completions"
