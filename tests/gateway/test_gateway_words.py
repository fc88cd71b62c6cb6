"""What a request says, what a stream says, and the file of endpoints."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import BadInput, UnknownName
from metainf.gateway.board import Board, Meter
from metainf.gateway.endpoints import read_endpoints
from metainf.gateway.events import Garbage, Stream
from metainf.gateway.forecasting import forecast, work_out
from metainf.gateway.forecasts import Forecasts
from metainf.gateway.wanted import payload, read_asked, read_wanted
from metainf.gateway.words import UNKNOWN, Expected, Kind, Seen, Size, Spread, Wanted, kind_of

FILE = Path(__file__).parent / "fixtures" / "endpoints.toml"


def event(**said: object) -> bytes:
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


def token(text: str, end: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": end}], usage=None)


ROLE = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
USAGE = event(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 3})
DONE = b"data: [DONE]\n\n"
WHOLE = ROLE + token("a") + token(' say "content":"x"') + token("c", "stop") + USAGE + DONE


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12), st.booleans())
def test_a_stream_is_the_same_however_it_is_cut(cuts: list[int], strip: bool) -> None:
    places = sorted({0, *cuts, len(WHOLE)})
    stream, sent = Stream(strip_usage=strip), b""
    for begin, end in pairwise(places):
        out = stream.take(WHOLE[begin:end])
        assert not out or stream.begun
        sent += out
    sent += stream.end()
    assert sent == (WHOLE.replace(USAGE, b"") if strip else WHOLE)
    assert stream.usage == {"prompt_tokens": 5, "completion_tokens": 3}
    assert stream.tokens == 3 and stream.finished and stream.whole and not stream.failed


def test_what_comes_before_the_first_token_is_held() -> None:
    stream = Stream()
    assert stream.take(b": keep-alive\n\n" + ROLE) == b"" and not stream.begun
    assert stream.take(token("a")) == b": keep-alive\n\n" + ROLE + token("a") and stream.begun


@pytest.mark.parametrize(
    "wrong",
    [b"data: {not json\n\n", event(error={"message": "no"}), event(detail="?"), b"data: 5\n\n"],
)
def test_garbage_before_a_token_is_told(wrong: bytes) -> None:
    with pytest.raises(Garbage):
        Stream().take(wrong)


def test_an_error_after_tokens_is_noted_and_passed_on() -> None:
    stream = Stream(strip_usage=True)
    stream.take(token("a"))
    wrong = event(error={"message": "dead"})
    assert stream.take(wrong) == wrong and stream.failed


def test_limits_come_as_headers_or_as_a_field() -> None:
    headers = [(b"x-metainf-max-ttft-s", b"0.5"), (b"x-metainf-strict", b"true"), (b"accept", b"*/*")]
    assert read_wanted(headers) == Wanted(max_ttft_s=0.5, strict=True)
    assert read_wanted(headers, {"max_ttft_s": 2, "aim": "cost"}) == Wanted(2.0, strict=True, aim="cost")


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ([(b"x-metainf-max-ttft-s", b"soon")], None),
        ([(b"x-metainf-max-ttft-s", b"nan")], None),
        ([(b"x-metainf-max-ttft", b"1")], None),
        ([], {"max_usd": -1}),
        ([], {"confidence": 1}),
        ([], {"strict": "yes"}),
        ([], {"aim": "beauty"}),
        ([], [1]),
    ],
)
def test_limits_that_are_wrong_are_refused(headers: list[tuple[bytes, bytes]], field: object) -> None:
    with pytest.raises(BadInput):
        read_wanted(headers, field)


def test_a_request_goes_on_without_the_limits_and_under_the_endpoints_own_name() -> None:
    text = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x" * 400}], "n": 2}
    asked = read_asked(json.dumps(text | {"metainf": {"max_usd": 1}, "max_tokens": 7}).encode(), [])
    assert (asked.input_tokens, asked.most_tokens, asked.wanted.max_usd) == (100, 14, 1)
    there = read_endpoints(FILE)[2]
    sent = json.loads(payload(asked, there, with_usage=True))
    expected = text | {"model": "llama-8b-fp8", "max_tokens": 7, "stream_options": {"include_usage": True}}
    assert sent == expected
    assert "stream_options" not in json.loads(payload(asked, there, with_usage=False))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"model": 1}', b'{"model":"m","stream":"yes"}'])
def test_a_body_that_is_no_request_is_refused(text: bytes) -> None:
    with pytest.raises(BadInput):
        read_asked(text, [])


def test_the_file_of_endpoints_is_read_with_the_catalogue() -> None:
    l4, a100, h100, bought = read_endpoints(FILE)
    assert l4.usd_per_hour is not None and h100.usd_per_hour == 2.8
    assert a100.url == "http://127.0.0.1:9002" and a100.method is not None
    assert a100.method.engine == "sglang" and h100.served_as == "llama-8b-fp8"
    assert bought.hardware is None and bought.usd_per_million_output_tokens == 0.2
    assert "Llama-3.1-8B-Instruct" in l4.names and l4.model.name in l4.names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "tables [[endpoint]]"),
        ("[[endpoint]]\nurl = 'http://a'", "model"),
        ("[[endpoint]]\nurl = 'a:b'\nmodel = 'gpt'", "a url such as"),
        ("[[endpoint]]\nurl = 'http://a'\nmodel = 'gpt'\nhardware = '1xL5'\nengine = 'vllm'", "unknown"),
        ("[[endpoint]]\nurl = 'http://a'\nmodel = 'Llama-3.1-8B-Instruct'\nhardware = '1xL4'", "engine"),
        ("[[endpoint]]\nurl = 'http://a'\nmodel = 'gpt'\napi_key_env = 'METAINF_NOT_SET'", "METAINF_NOT_SET"),
        ("[[endpoint]]\nurl = 'http://a'\nmodel = 'x'\n" * 2, "twice"),
        ("[[endpoint]]\nurl = 'http://a'\nmodel = 'x'\napi_key = 's'", "api_key"),
    ],
)
def test_a_file_that_is_wrong_says_what(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "e.toml").write_text(text)
    with pytest.raises(BadInput, match=said.replace("[", r"\[")):
        read_endpoints(tmp_path / "e.toml")


def test_the_shipped_predictor_is_what_forecasts() -> None:
    """A larger machine is expected to be faster; of a shop for tokens nothing is said."""
    endpoints = read_endpoints(FILE)
    said = work_out(Kind(1024, 256, 4), endpoints)
    assert set(said) == {"l4", "a100", "h100"}
    assert said["h100"].tpot.log_median < said["a100"].tpot.log_median < said["l4"].tpot.log_median
    assert isinstance(forecast(Kind(16, 16, 1), endpoints[3]), str)


def test_a_kind_that_is_not_known_is_answered_from_the_nearest_and_noted() -> None:
    endpoints = read_endpoints(FILE)
    forecasts = Forecasts(endpoints)
    assert forecasts.expected("l4", Size(100, 100), 1) == UNKNOWN
    said = Expected(Spread(-1.0, 0.1), Spread(-4.0, 0.1), 100.0)
    forecasts.learn(kind_of(Size(128, 128), 1), {"l4": said})
    assert forecasts.expected("l4", Size(5000, 100), 9) == said
    assert Kind(4096, 128, 8) in forecasts.missing
    forecasts.learn(Kind(4096, 128, 8), {})
    assert Kind(4096, 128, 8) not in forecasts.missing


@given(st.lists(st.tuples(st.floats(0.001, 10), st.booleans()), min_size=1, max_size=40))
def test_a_machines_time_is_shared_out_whole(steps: list[tuple[float, bool]]) -> None:
    """Requests that overlap share what it costs: together they pay for the time in which any ran."""
    meter, now_s, running, paid, busy_s = Meter(), 0.0, [], 0.0, 0.0
    for wait_s, comes in steps:
        now_s += wait_s
        busy_s += wait_s if running else 0.0
        share_s = meter.turn(len(running), now_s)
        if comes or not running:
            running.append(share_s)
        else:
            paid += share_s - running.pop(0)
    paid += sum(meter.turn(len(running), now_s) - share_s for share_s in running)
    assert math.isclose(paid, busy_s, rel_tol=1e-9, abs_tol=1e-9)


def test_the_board_learns_how_long_answers_are_and_what_they_cost() -> None:
    endpoints = read_endpoints(FILE)
    board = Board(endpoints, Forecasts(endpoints), lambda: 0.5)
    asked = read_asked(b'{"model": "llama-3.1-8b-instruct", "prompt": "hi", "max_tokens": 4000}', [])
    assert board.size(asked).output_tokens == 4000
    ticket = board.begin("l4", board.size(asked), 0.0)
    share_s = board.end(ticket, Seen("ok", e2e_s=1.0, output_tokens=50), 1.0)
    assert share_s == 1.0 and board.size(asked).output_tokens == 50
    usd = board.usd("l4", Size(10, 50), share_s)
    assert usd == pytest.approx((endpoints[0].usd_per_hour or 0) / 3600)
    assert board.usd("bought", Size(1e6, 1e6), 9.0) == pytest.approx(0.25)
    with pytest.raises(UnknownName, match="did you mean"):
        board.serving("llama-3.1-8b")
