"""transformers: the engine's contract, its words, and what it reads from its host's pages."""

import pytest

from metainf.domain import (
    Batching,
    Device,
    Hardware,
    NotSupported,
    Precision,
    PrefixCache,
    Speculative,
    Technique,
    WeightQuantization,
)
from metainf.domain.method import Method
from metainf.engines import Engine, engine
from metainf.engines.evidence import Reading
from metainf.engines.transformers import Transformers
from metainf.hosts.transformers_words import read_words
from metainf.testing.engine_suite import CHAT, DENSE_8B, H100, Case, EngineSuite

EPYC = Hardware(device=Device(name="epyc", vendor="AMD", kind="cpu", memory_gib=64), count=1)


class TestTransformers(EngineSuite):
    @pytest.fixture
    def engine(self) -> Engine:
        return engine("transformers")

    @pytest.fixture
    def settings(self) -> list[Case]:
        return [(DENSE_8B, EPYC, CHAT), (DENSE_8B, Hardware(device=H100, count=1), CHAT)]


def words_of(*techniques: Technique) -> list[str]:
    method = Method(engine="transformers", techniques=techniques)
    return list(Transformers().launch(DENSE_8B, method, EPYC, CHAT).argv)


def test_every_proposed_command_line_is_one_that_the_host_reads() -> None:
    for method in Transformers().methods(DENSE_8B, EPYC, CHAT):
        words = read_words(words_of(*method.techniques)[3:])
        batching = method.get(Batching)
        assert batching is not None
        assert words.max_batch_size == (batching.max_sequences or 1)
        assert words.batching == ("continuous" if batching.mode == "continuous" else "static")
        assert words.block_sharing is (method.get(PrefixCache) is not None)


@pytest.mark.parametrize(
    ("techniques", "near"),
    [
        ((Speculative(algorithm="ngram"), Batching()), "one request at a time"),
        ((Speculative(algorithm="eagle3"), Batching(mode="none")), "ngram"),
        ((PrefixCache(), Batching(mode="static")), "continuous"),
        ((WeightQuantization(format="fp8"),), "int8"),
        ((WeightQuantization(format="int8"), Precision(dtype="bf16")), "fp32"),
    ],
)
def test_what_it_lacks_is_refused_with_the_nearest(techniques: tuple[Technique, ...], near: str) -> None:
    with pytest.raises(NotSupported, match=near):
        words_of(*techniques)


def test_the_host_refuses_drafts_for_many(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_words(["m", "--prompt-lookup-num-tokens", "4"])
    assert caught.value.code == 2 and "--batching static --max-batch-size 1" in capsys.readouterr().err


def test_evidence_counts_the_timed_requests_only() -> None:
    info = (
        'transformers:info{version="5.23.0",batching="static",max_batch_size="4",dtype="bfloat16",'
        'attention="sdpa",speculative="ngram",block_sharing="false",max_batch_tokens="",weights=""} 1\n'
    )
    before = info + 'transformers:steps_of_size_total{requests="4"} 5\ntransformers:drafted_tokens_total 2\n'
    after = info + 'transformers:steps_of_size_total{requests="2"} 5\ntransformers:drafted_tokens_total 9\n'
    seen = Transformers().evidence(Reading("", before, after))
    assert (seen.version, seen.max_sequences, seen.continuous, seen.peak_running) == ("5.23.0", 4, False, 2)
    assert (seen.speculative, seen.drafted_tokens, seen.precision, seen.attention) == (
        "ngram",
        7,
        "bf16",
        "sdpa",
    )
    assert seen.step_tokens is None and seen.weight_format is None
