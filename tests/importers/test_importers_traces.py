"""Traces become workloads; moments agree with their definitions and with the known traces."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metainf.domain import BadInput
from metainf.importers.traces import arrivals, moments, read_trace

SHARED = Path(os.environ.get("METAINF_SHARED", Path(__file__).resolve().parents[3] / "shared"))
TRACES = SHARED / "data" / "traces"
KNOWN = {
    "azure2023-code": "azure2023/AzureLLMInferenceTrace_code.csv",
    "azure2023-conv": "azure2023/AzureLLMInferenceTrace_conv.csv",
    "mooncake-fast25-conversation": "mooncake/conversation_trace.jsonl",
    "mooncake-fast25-synthetic": "mooncake/synthetic_trace.jsonl",
    "vidur-arxiv-summarization": "vidur/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_azure(tmp_path: Path) -> None:
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    rows += [f"2023-11-16 18:00:0{i}.5000000,{100 * (i + 1)},10" for i in range(5)]
    found = read_trace(written(tmp_path / "azure.csv", "\n".join(rows)))
    assert found.num_requests == 5 and found.request_rate_per_s == pytest.approx(5 / 4)
    assert found.interarrival_cv == pytest.approx(0, abs=1e-6)
    assert found.input_tokens is not None and (found.input_tokens.mean, found.input_tokens.max) == (300, 500)
    assert found.output_tokens is not None and found.output_tokens.skewness is None


def test_mooncake_milliseconds_and_shared_prefixes(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 1024, "output_length": 5, "hash_ids": [1, 2]},
        {"timestamp": 1000, "input_length": 1024, "output_length": 5, "hash_ids": [1, 3]},
        {"timestamp": 3000, "input_length": 1024, "output_length": 5, "hash_ids": [4, 2]},
    ]
    found = read_trace(written(tmp_path / "moon.jsonl", "\n".join(map(json.dumps, rows))))
    assert found.prefix_share == pytest.approx(512 / 3072)
    assert found.request_rate_per_s == pytest.approx(1.0) and found.interarrival_cv == pytest.approx(1 / 3)


def test_prompts_give_samples_and_no_lengths(tmp_path: Path) -> None:
    lines = "\n".join(f"prompt {i}" for i in range(20))
    found = read_trace(written(tmp_path / "prompts.txt", lines))
    assert found.num_requests == 20 and found.input_tokens is None
    assert found.content is not None and len(found.content) == 8 and found.content[0] == "prompt 0"
    talk = [{"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "bye"}]}]
    assert read_trace(written(tmp_path / "share.json", json.dumps(talk))).content == ("hello",)
    spec = '{"question_id": 1, "turns": ["first", "second"]}\n'
    assert read_trace(written(tmp_path / "spec.jsonl", spec)).content == ("first",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "input_tokens,output_tokens\n",
        "input_tokens,output_tokens\n5,-1\n",
        "input_tokens,output_tokens\nnan,1\n",
        "input_tokens,output_tokens\ninf,1\n",
        "input_tokens,output_tokens\nmany,1\n",
        "input_tokens,output_tokens\n5\n,3\n",
        "colour,size\ngreen,3\n",
        '{"input_length": 5, "output_length":',
        '{"colour": "green"}',
        "[]",
        "[1, 2]",
    ],
)
def test_what_is_no_trace_is_bad_input(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match=r"trace\.csv"):
        read_trace(written(tmp_path / "trace.csv", text))


@given(st.lists(st.integers(0, 100_000), min_size=3, max_size=60).filter(lambda v: len(set(v)) > 2))
def test_moments_agree_with_scipy(tokens: list[int]) -> None:
    values = np.array(tokens, dtype=float)
    found = moments([float(token) for token in tokens])
    assert found.mean == pytest.approx(values.mean()) and found.std == pytest.approx(values.std())
    assert found.skewness == pytest.approx(stats.skew(values), abs=1e-6)
    assert found.kurtosis == pytest.approx(stats.kurtosis(values), abs=1e-6)
    assert found.p50 is not None and found.p90 is not None and found.p99 is not None and found.max is not None
    assert found.p50 <= found.p90 <= found.p99 <= found.max


@given(st.lists(st.floats(0, 1e6), max_size=2))
def test_too_few_arrivals_say_nothing(times: list[float]) -> None:
    assert arrivals(times) == (None, None)


@pytest.mark.skipif(not TRACES.is_dir(), reason="the shared data folder is not beside the checkout")
@pytest.mark.parametrize("name", KNOWN)
def test_known_traces(name: str) -> None:
    with (TRACES / "workload_stats.csv").open() as file:
        known = next(row for row in csv.DictReader(file) if row["workload"] == name)
    found = read_trace(TRACES / KNOWN[name])
    inside, outside = found.input_tokens, found.output_tokens
    assert inside is not None and outside is not None
    pairs = {
        "requests": found.num_requests,
        "in_mean": inside.mean,
        "in_p50": inside.p50,
        "in_p99": inside.p99,
        "out_mean": outside.mean,
        "out_p90": outside.p90,
        "out_max": outside.max,
        "rps": found.request_rate_per_s,
        "interarrival_cv": found.interarrival_cv,
        "prefix_reuse": found.prefix_share,
    }
    for column, value in pairs.items():
        if known[column]:
            assert value == pytest.approx(float(known[column]), rel=5e-3), column
