"""The OpenAI endpoint before a swarm, asked by OpenAI's own client."""

import asyncio
import collections
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography", "aiohttp"):
    pytest.importorskip(name, reason="needs the extra swarm")
openai = pytest.importorskip("openai", reason="needs OpenAI's client")

import aiohttp  # noqa: E402
from aiohttp import web  # noqa: E402
from small_swarm import InMemory, Place, small_model, swarm_of  # noqa: E402

from metainf.domain import BadInput  # noqa: E402
from metainf.swarm.host.caller import Caller  # noqa: E402
from metainf.swarm.host.generating import Swarm  # noqa: E402
from metainf.swarm.host.serving import Serving, application, serve  # noqa: E402

SPANS = {"a": (0, 2), "b": (2, 4), "c": (0, 4)}
CHAT = [{"role": "user", "content": "Grüße, 日本"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"))


@asynccontextmanager
async def served(
    folder: Path, spans: dict[str, tuple[int, int]] | None = None, **told: Any
) -> AsyncIterator[tuple[Place, Swarm, Any, str]]:
    """Nodes, the swarm, OpenAI's client and the address."""
    async with swarm_of(folder, spans or SPANS) as (here, swarm):
        app, writer = application(swarm, Serving(**told))
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=5.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sesame", max_retries=0)
        try:
            yield here, swarm, client, url
        finally:
            writer.close()
            await client.close()
            await runner.cleanup()


def test_openais_client_reads_all_of_it(folder: Path) -> None:
    async def story() -> None:
        async with served(folder) as (_, swarm, client, _url):
            assert [each.id async for each in client.models.list()] == ["small"]
            expected = await swarm.generate(swarm.asked(CHAT[0]["content"], max_tokens=30))
            whole = await client.chat.completions.create(model="small", messages=CHAT, max_tokens=30)
            assert whole.choices[0].message.content == expected.text
            assert whole.choices[0].finish_reason == expected.finished
            assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (
                expected.input_tokens,
                expected.output_tokens,
            )
            text, usage, ends = "", None, []
            async for chunk in await client.chat.completions.create(
                model="small",
                messages=CHAT,
                max_tokens=30,
                stream=True,
                stream_options={"include_usage": True},
            ):
                text += "".join(each.delta.content or "" for each in chunk.choices)
                ends += [each.finish_reason for each in chunk.choices if each.finish_reason]
                usage = chunk.usage or usage
            assert text == expected.text and ends == [expected.finished] and usage == whole.usage
            plain = await client.completions.create(model="small", prompt="abc", max_tokens=9)
            told = await swarm.generate(swarm.asked("abc", plain=True, max_tokens=9))
            assert plain.choices[0].text == told.text
            parts = [{"role": "user", "content": [{"type": "text", "text": CHAT[0]["content"]}]}]
            same = await client.chat.completions.create(model="small", messages=parts, max_tokens=30)
            assert same.choices[0].message.content == expected.text

    asyncio.run(story())


def test_stops_and_seeds(folder: Path) -> None:
    async def story() -> None:
        async with served(folder) as (_, _swarm, client, url):

            async def said(**terms: Any) -> Any:
                asked = {
                    "model": "small",
                    "prompt": "abc",
                    "max_tokens": 40,
                    "extra_body": {"ignore_eos": True},
                }
                return (await client.completions.create(**{**asked, **terms})).choices[0]

            whole = await said()
            word = whole.text[10:12]
            cut = await said(stop=[word, "§§§"])
            assert cut.text == whole.text[: whole.text.index(word)] and cut.finish_reason == "stop"
            drawn = [await said(temperature=1.0, top_p=0.8, seed=seed) for seed in (1, 1, 2)]
            assert drawn[0].text == drawn[1].text != drawn[2].text
            assert drawn[0].text != whole.text
            async with aiohttp.ClientSession() as plain, plain.get(f"{url}/metrics") as answer:
                told = await answer.text()
            assert "requests_answered_total 5\n" in told and "requests_running 0\n" in told

    asyncio.run(story())


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"n": 2}, "expected n to be 1"),
        ({"max_tokens": 0}, "from 1 on"),
        ({"max_tokens": 4000}, "at most 512 tokens"),
        ({"temperature": 3}, "temperature to be a number from 0 to 2"),
        ({"top_p": "much"}, "top_p to be a number"),
        ({"extra_body": {"seed": "x"}}, "seed to be a whole number"),
        ({"stop": [""]}, "stop to be a text or a list"),
        ({"logprobs": 3}, "expected no logprobs"),
        ({"prompt": [5, 99999]}, "token ids from 0 to 259"),
        ({"prompt": []}, "prompt to be one text"),
        ({"prompt": ["a", "b"]}, "prompt to be one text"),
    ],
)
def test_what_is_refused(folder: Path, terms: dict[str, Any], words: str) -> None:
    async def story() -> None:
        async with served(folder) as (_, swarm, client, _url):
            asked = {"model": "small", "prompt": "abc", "max_tokens": 3, **terms}
            with pytest.raises(openai.BadRequestError, match=words) as refused:
                await client.completions.create(**asked)
            assert refused.value.body["type"] == "invalid_request_error"
            assert swarm.sessions == 0

    asyncio.run(story())


def test_what_is_no_request(folder: Path) -> None:
    """Other models, paths, methods, sizes and what is no JSON: each in OpenAI's shape, and it goes on."""

    async def story() -> None:
        async with served(folder, most_body_bytes=2000) as (_, _swarm, client, url):
            with pytest.raises(openai.NotFoundError, match="'gpt' does not exist here: ask for small"):
                await client.completions.create(model="gpt", prompt="a")
            with pytest.raises(openai.BadRequestError, match="messages to be a list"):
                await client.chat.completions.create(model="small", messages=[{"role": "user", "content": 5}])
            async with aiohttp.ClientSession() as plain:
                for method, path, body, status in [
                    ("POST", "/v1/completions", b"{" * 1500, 400),
                    ("POST", "/v1/completions", b"[" * 1500, 400),
                    ("POST", "/v1/completions", b"[]", 400),
                    ("POST", "/v1/completions", b"\xff\xfe", 400),
                    ("POST", "/v1/completions", b"x" * 3000, 413),
                    ("GET", "/v1/completions", b"", 405),
                    ("POST", "/v1/embeddings", b"{}", 404),
                ]:
                    async with plain.request(method, url + path, data=body) as answer:
                        assert answer.status == status, (path, body[:9])
                        told = (await answer.json())["error"]
                        assert told["message"] and told["type"] == "invalid_request_error"
                async with plain.get(f"{url}/v1/models", headers={"Host": "evil.example"}) as answer:
                    assert answer.status == 403
                async with plain.get(f"{url}/ready") as answer:
                    assert answer.status == 200
            assert (await client.completions.create(model="small", prompt="a", max_tokens=2)).usage

    asyncio.run(story())


def test_bodies_of_every_kind(folder: Path) -> None:
    """Random values in known fields: an answer or a refusal in OpenAI's shape, never an error of its own."""
    rng = random.Random(8)
    values: list[Any] = [
        None, True, False, 0, 1, -1, 2, 10**30, 0.5, -0.1, 1e308, "", "abc", "§", [], ["a"], [1, 2], [[3]],
        [None], [{"role": "user", "content": "a"}], [{"role": "user"}], ["x", 1], {}, {"include_usage": True},
        [{"role": "nobody", "content": [{"type": "image_url"}]}], [{"role": 1, "content": "a"}], "small",
    ]  # fmt: skip
    fields = [
        "prompt", "messages", "max_tokens", "temperature", "top_p", "seed", "stop", "n", "stream", "model",
        "stream_options", "logprobs", "ignore_eos", "tools",
    ]  # fmt: skip

    async def story() -> None:
        async with served(folder) as (_, swarm, _client, url), aiohttp.ClientSession() as plain:
            seen: collections.Counter[int] = collections.Counter()
            for _ in range(120):
                kind = rng.choice(["completions", "chat/completions"])
                body = {"prompt": "a", "messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
                body |= {name: rng.choice(values) for name in rng.sample(fields, rng.randint(0, 3))}
                async with plain.post(f"{url}/v1/{kind}", json=body) as answer:
                    said = await answer.text()
                seen[answer.status] += 1
                assert answer.status in (200, 400, 404), (body, said)
                if answer.status != 200:
                    assert json.loads(said)["error"]["message"], body
            assert seen[200] > 5 and seen[400] > 30, seen
            assert swarm.sessions == 0

    asyncio.run(story())


def test_a_key_is_asked_for(folder: Path) -> None:
    async def story() -> None:
        async with served(folder, api_key="sesame") as (_, _swarm, client, url):
            assert (await client.completions.create(model="small", prompt="a", max_tokens=2)).usage
            with pytest.raises(openai.AuthenticationError, match="this server's key"):
                await client.with_options(api_key="wrong").models.list()
            async with aiohttp.ClientSession() as plain:
                for path, status in (("/health", 200), ("/metrics", 401), ("/v1/models", 401)):
                    async with plain.get(url + path) as answer:
                        assert answer.status == status

    asyncio.run(story())


def test_it_listens_beyond_this_machine_only_with_a_key(folder: Path) -> None:
    with pytest.raises(BadInput, match="expected an API key before listening at 0"):
        asyncio.run(serve(Caller(InMemory()), folder, Serving(host="0.0.0.0"), print))


async def until(true: Any) -> None:
    for _ in range(200):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to be")


def test_a_full_line_sends_away_and_leaving_makes_room(folder: Path) -> None:
    """One is written, one waits, the third is told when to come back. Who leaves frees nodes and place."""

    async def story() -> None:
        async with served(folder, places=1, in_line=1) as (here, swarm, client, _url):

            async def ask(tokens: int) -> Any:
                return await client.completions.create(
                    model="small", prompt="a", max_tokens=tokens, extra_body={"ignore_eos": True}
                )

            long = asyncio.create_task(ask(480))
            await until(lambda: swarm.sessions > 0)
            waiting = asyncio.create_task(ask(3))
            await asyncio.sleep(0.1)
            with pytest.raises(openai.RateLimitError, match="1 requests are answered and 1 wait") as refused:
                await ask(3)
            assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
            assert not waiting.done()
            long.cancel()
            assert (await waiting).usage.completion_tokens == 3
            await until(lambda: here.streams() == 0 and swarm.sessions == 0)
            stream = await client.completions.create(
                model="small", prompt="a", max_tokens=480, stream=True, extra_body={"ignore_eos": True}
            )
            async for _ in stream:
                break
            await stream.close()
            await until(lambda: here.streams() == 0 and swarm.sessions == 0)
            assert (await ask(3)).usage.completion_tokens == 3

    asyncio.run(story())


def test_nodes_die_under_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill is not noticed; with nobody left the stream says so, and requests get 503 with a time."""
    monkeypatch.setattr("metainf.swarm.host.generating.PATIENCE_S", 0.5)

    async def story() -> None:
        async with served(folder) as (here, _swarm, client, url):
            asked = {"model": "small", "prompt": "a", "max_tokens": 60, "extra_body": {"ignore_eos": True}}
            whole = (await client.completions.create(**asked)).choices[0].text
            text, killed = "", False
            async for chunk in await client.completions.create(**asked, stream=True):
                text += chunk.choices[0].text
                if not killed:
                    await here.kill("c")
                    killed = True
            assert text == whole
            with pytest.raises(openai.APIError, match=r"for all 4 blocks|this caller in"):
                async for _ in await client.completions.create(**asked, stream=True):
                    await here.kill("a")
                    await here.directory.remove(f"node.{here.people['a'][0].node}")
                    await here.directory.remove(f"node.{here.people['c'][0].node}")
            with pytest.raises(openai.InternalServerError, match="none for") as refused:
                await client.completions.create(**asked)
            assert refused.value.status_code == 503 and refused.value.response.headers["retry-after"] == "5"
            async with aiohttp.ClientSession() as plain, plain.get(f"{url}/ready") as answer:
                assert answer.status == 503

    asyncio.run(story())


def test_it_ends_gracefully(folder: Path) -> None:
    """What is being written ends, what waits is sent away, nothing new is taken."""

    async def story() -> None:
        async with swarm_of(folder, SPANS) as (_, swarm):
            app, writer = application(swarm, Serving(places=1, in_line=5))
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=10.0)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            async with openai.AsyncOpenAI(
                base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0
            ) as client:
                asked = {"model": "small", "prompt": "a", "extra_body": {"ignore_eos": True}}
                running = asyncio.create_task(client.completions.create(**asked, max_tokens=80))
                await until(lambda: swarm.sessions > 0)
                waiting = asyncio.create_task(client.completions.create(**asked, max_tokens=3))
                await until(lambda: writer.places.in_line == 1)
                writer.close()
                await runner.cleanup()
                assert (await running).usage.completion_tokens == 80
                with pytest.raises(openai.InternalServerError, match="about to end"):
                    await waiting
                with pytest.raises(openai.APIConnectionError):
                    await client.completions.create(**asked, max_tokens=3)

    asyncio.run(story())


@pytest.mark.engine
def test_the_real_weights() -> None:
    """SmolLM2-135M through two nodes and the endpoint: the text is the one that a single process writes."""
    from metainf.measure.weights import MissingWeights
    from metainf.swarm.compute.weights import packaged
    from metainf.swarm.host.demo import one_process

    try:
        folder = packaged()
    except MissingWeights as error:
        pytest.skip(str(error))

    async def story() -> None:
        async with served(folder, {"a": (0, 15), "b": (15, 30)}) as (here, swarm, client, _url):
            messages = [{"role": "user", "content": "Name three rivers of Europe."}]
            whole = await client.chat.completions.create(model="small", messages=messages, max_tokens=24)
            prompt = swarm.tokens.encode(swarm.tokens.render(messages), special=False)
            alone = one_process(here.checkpoint, swarm.ends, prompt, 24)
            assert whole.choices[0].message.content == swarm.tokens.decode(alone)
            assert whole.usage.prompt_tokens == len(prompt)

    asyncio.run(story())
