"""The study's page says what its records say, whatever they say."""

import random
import re
from pathlib import Path

import pytest
from measure_study_grids import grid, record

from metainf import api
from metainf.domain import BadInput, Lengths, Record, Setting, Workload
from metainf.study.bench import Bench, Ratio, geometric_mean, labels, of_study
from metainf.study.benches import ASSUMED_SPREAD, benches
from metainf.study.choice import always, joint_races, races, single_best, wins
from metainf.study.claims import (
    FAILS,
    HOLDS,
    OPEN,
    continuous_bars,
    findings,
    prefix_bars,
    tally,
)
from metainf.study.report import page

CHAT1, CHAT16, WARM16 = ("short_chat", 1), ("short_chat", 16), ("shared_prefix_warm", 16)


def bench(records: list[Record], least: float = 0.4) -> Bench:
    (found,) = benches(records, least)
    return found


def on_machine(given: Record, name: str) -> Record:
    """The same on another device."""
    device = given.setting.hardware.device.model_copy(update={"name": name, "title": name})
    hardware = given.setting.hardware.model_copy(update={"device": device})
    return given.model_copy(update={"setting": given.setting.model_copy(update={"hardware": hardware})})


def row(text: str, *begins: str) -> list[str]:
    """The cells of the one table row that begins so."""
    found = [line for line in text.splitlines() if line.startswith(f"| {' | '.join(begins)} |")]
    assert len(found) == 1, found
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_grid_knows_winners_and_what_noise_cannot_tell() -> None:
    cells = {CHAT16: {"baseline": 100, "static": 395, "continuous": 400, "prefix": 300, "lookup": 402}}
    found = bench(grid(cells, spread=0.02))
    (cell,) = found.cells
    assert found.methods == ("baseline", "static", "continuous", "prefix", "lookup")
    assert found.best(cell) == "lookup"
    assert found.level_with_best(cell) == ["lookup", "static", "continuous"]
    assert found.spread.freedom == 5
    assert found.spread.deviation == pytest.approx(0.02 * 2**0.5, rel=0.01)
    ratio = found.ratio(cell, "continuous", "baseline")
    assert ratio is not None and ratio.value == pytest.approx(4)
    assert ratio.low < 4 < ratio.high
    assert found.ratio(cell, "chunked", "baseline") is None


def test_without_repeats_a_spread_is_assumed_and_said() -> None:
    records = grid({CHAT16: {"baseline": 100, "continuous": 110, "static": 400}}, repeats=1)
    found = bench(records)
    assert (found.spread.deviation, found.spread.freedom) == (ASSUMED_SPREAD, 0)
    assert found.level_with_best(found.cells[0]) == ["static"]
    assert "nothing was repeated; a spread of 10 % between repeats is assumed" in page(records)


def test_grid_table_shows_ratios_failures_and_gaps() -> None:
    cells = {
        CHAT1: {"baseline": 100, "continuous": 99, "lookup": 250},
        CHAT16: {"baseline": 100, "static": "out_of_memory", "continuous": 400, "q4_0": 900},
        WARM16: {"baseline": "crashed", "continuous": 50, "prefix": 200},
    }
    text = section(page(grid(cells, agreement={"q4_0": 0.1})), "openvino")
    head = row(text, "workload", "in flight", "baseline")
    assert head[3:] == ["static", "continuous", "prefix", "lookup", "q4_0 †"]
    assert row(text, "short_chat", "1")[2:] == ["100", "–", "0.99", "–", "**2.50**", "–"]
    last = ["failed: out of memory", "**4.00**", "–", "–", "9.00"]
    assert row(text, "short_chat", "16")[2:] == ["100", *last]
    lost = ["failed: crashed", "–", "50.0 tok/s", "**200 tok/s**", "–", "–"]
    assert row(text, "shared_prefix_warm", "16")[2:] == lost


def test_a_repeat_that_failed_is_told_beside_the_number() -> None:
    records = grid({CHAT16: {"baseline": 100, "continuous": 400}}, spread=0)
    records.append(record("continuous", CHAT16, "timed_out", trial=2))
    text = section(page(records), "openvino")
    assert row(text, "short_chat", "16")[3] == "**4.00 (1 of 3 failed: timed out)**"


def test_failures_are_listed_without_their_details() -> None:
    text = page(grid({CHAT16: {"baseline": 100, "static": "crashed", "continuous": 400}}))
    assert row(text, "openvino", "static", "short_chat") == [
        "openvino",
        "static",
        "short_chat",
        "crashed",
        "2",
    ]
    assert "6 records, 2 of them failures" in text
    assert "secret" not in text


def test_the_gate_keeps_fast_and_wrong_methods_out_of_every_choice() -> None:
    cells = {cell: {"baseline": 100, "continuous": 300, "q4_0": 600} for cell in (CHAT1, CHAT16)}
    records = grid(cells, agreement={"q4_0": 0.1, "continuous": 0.8})
    found = bench(records)
    assert found.best(found.cells[0]) == "continuous"
    assert found.best(found.cells[0], gate=False) == "q4_0"
    assert [each.option for each in always(races(found))] == ["continuous", "baseline"]
    assert bench(records, least=0.05).best(found.cells[0]) == "q4_0"
    text = page(records)
    assert "Without the quality gate another method is the fastest in 2 of 2 cells" in text
    assert row(text, "q4_0", "2") == ["q4_0", "2", "2.00×", "10 %"]
    assert row(text, "0.25", "openvino")[2:] == ["`q4_0`", "`continuous`", "1.00×"]
    assert row(text, "0.90", "openvino")[2:] == ["all but the baseline", "–", "–"]
    assert row(text, "q4_0", "0.50")[-1] == "no"


def test_agreement_is_lent_by_other_machines_of_the_engine() -> None:
    cells = {CHAT16: {"baseline": 100, "continuous": 300, "q4_0": 600}}
    here = grid(cells, agreement={"continuous": None, "q4_0": None})
    there = [on_machine(r, "cpu-y") for r in grid(cells, agreement={"continuous": 0.9, "q4_0": 0.2})]
    assert bench(here).best(bench(here).cells[0]) == "q4_0", "nothing was compared"
    mine, theirs = benches([*here, *there], 0.4)
    assert labels([mine, theirs]) == ["openvino on Some CPU", "openvino on cpu-y"]
    assert mine.agreement == theirs.agreement and mine.best(mine.cells[0]) == "continuous"


def test_methods_without_a_figure_are_out_unless_nothing_was_compared() -> None:
    cells = {CHAT16: {"baseline": 100, "continuous": 300, "lookup": 500}}
    some = bench(grid(cells, agreement={"lookup": None}))
    assert some.admitted("continuous") and not some.admitted("lookup")
    records = grid(cells, agreement={"lookup": None, "continuous": None})
    none = bench(records)
    assert not none.judged and none.admitted("lookup")
    assert "No answers were compared on this engine" in page(records)
    assert bench(grid(cells, agreement={"lookup": None}), least=0).admitted("lookup")


def test_losses_are_geometric_means_with_failures_as_the_baseline() -> None:
    cells = {
        CHAT1: {"baseline": 100, "continuous": 100, "lookup": 200, "prefix": 50},
        CHAT16: {"baseline": 100, "continuous": 800, "lookup": "crashed"},
    }
    held = races(bench(grid(cells, spread=0)))
    found = {each.option: each for each in always(held)}
    assert found["continuous"].loss == pytest.approx(2**0.5)
    assert found["lookup"].loss == pytest.approx(8**0.5)
    assert (found["lookup"].failed, found["lookup"].wins) == (1, 1)
    assert found["baseline"].loss == pytest.approx(4)
    assert (found["prefix"].cells, found["prefix"].loss) == (1, pytest.approx(4))
    assert always(held)[-1].option == "prefix"
    best = single_best(held)
    assert best is not None and best.option == "continuous"


def test_wins_are_counted_and_clear_ones_apart() -> None:
    cells = {
        CHAT1: {"baseline": 100, "lookup": 300},
        CHAT16: {"baseline": 100, "lookup": 301, "continuous": 300},
        WARM16: {"baseline": 100, "prefix": 900, "continuous": 300},
    }
    found = {each.option: (each.wins, each.clear) for each in wins(bench(grid(cells)))}
    assert found == {"lookup": (2, 1), "prefix": (1, 1)}


def test_engines_are_chosen_together_where_both_were_measured() -> None:
    one = grid({CHAT1: {"baseline": 100, "lookup": 300}, CHAT16: {"baseline": 100, "continuous": 400}})
    other = grid({CHAT1: {"baseline": 200, "lookup": 150}}, on="llama.cpp")
    held = benches(one + other)
    (race,) = joint_races(list(zip(labels(held), held, strict=True)))
    assert race.best == pytest.approx(300)
    assert set(race.rates) == {f"{e}: {m}" for e in ("llama.cpp", "openvino") for m in ("baseline", "lookup")}
    text = page(one + other)
    assert "### Engine and method together: llama.cpp, openvino (M, Some CPU)" in text
    assert row(text, "openvino: lookup", "1") == ["openvino: lookup", "1", "1.00×", "1 of 1", "0"]


def all_grid(small: float, large: float) -> list[Record]:
    return grid(
        {
            (workload, n): {"baseline": 100, "continuous": 200, "lookup": 150, "all": 200 * factor}
            for workload in ("short_chat", "mixed", "copy_edit")
            for n, factor in ((1, small), (4, 1.0), (16, large))
        }
    )


@pytest.mark.parametrize(
    ("small", "large", "verdict"),
    [(1.5, 0.5, HOLDS), (1.5, 1.5, FAILS), (0.5, 0.5, FAILS), (1.0, 0.5, OPEN), (1.5, 1.0, OPEN)],
)
def test_everything_together_at_small_and_large_batches(small: float, large: float, verdict: str) -> None:
    found = findings(bench(all_grid(small, large)))[0]
    assert found.verdict == verdict, found.measured


def test_tally_counts_clear_wins_only() -> None:
    found = bench(all_grid(1.5, 0.5))
    counted = [tally(found, level) for level in (1, 4, 16)]
    assert [(each.won, each.lost, each.level) for each in counted] == [(3, 0, 0), (0, 0, 3), (0, 3, 0)]


def test_everything_together_cannot_be_told_from_one_load() -> None:
    found = findings(bench(grid({CHAT16: {"baseline": 1, "continuous": 2, "all": 4}})))[0]
    assert found.verdict == OPEN and "at one load" in found.measured


@pytest.mark.parametrize(
    ("times", "spread", "verdict"), [(20, 0.01, HOLDS), (5, 0.01, FAILS), (13, 0.05, OPEN), (16, 0.3, OPEN)]
)
def test_continuous_batching_against_the_papers_number(times: float, spread: float, verdict: str) -> None:
    cells = {CHAT1: {"baseline": 10, "continuous": 10}, CHAT16: {"baseline": 10, "continuous": 10 * times}}
    found = findings(bench(grid(cells, spread=spread)))[1]
    assert found.verdict == verdict
    assert f"at most {times:.2f}×" in found.measured and "short_chat with 16 in flight" in found.measured


def test_prefix_caching_is_told_with_the_caches_own_part() -> None:
    found = findings(bench(grid({WARM16: {"baseline": 10, "continuous": 50, "prefix": 250}})))[2]
    assert found.verdict == HOLDS
    assert "at most 25.00×" in found.measured
    assert "5.00×" in found.measured and "over the same batching without the cache" in found.measured


@pytest.mark.parametrize(
    ("chunked", "spread", "verdict"),
    [(1.1, 0.005, HOLDS), (0.9, 0.005, FAILS), (1.0, 0.002, FAILS), (1.05, 0.2, OPEN), (9.0, 0.005, FAILS)],
)
def test_chunked_prefill_helps_or_not(chunked: float, spread: float, verdict: str) -> None:
    cells = {
        (name, 4): {"baseline": 50, "continuous": 100, "chunked": 100 * chunked, "prefix": 300}
        for name in ("long_prompt", "mixed")
    }
    found = findings(bench(grid(cells, spread=spread)))[3]
    assert found.verdict == verdict, found.measured


def test_chunks_are_judged_where_prompts_are_longer_than_a_chunk() -> None:
    records = [
        each.model_copy(update={"setting": with_prompts(each, 300.0 if name == "mixed" else 30.0)})
        for name, chunked in (("mixed", 110), ("short_chat", 50))
        for each in grid({(name, 4): {"baseline": 50, "continuous": 100, "chunked": chunked, "prefix": 300}})
    ]
    found = findings(bench(records))[3]
    assert found.verdict == HOLDS
    assert "1.10×" in found.measured and "1 cell with prompts of more than 256 tokens" in found.measured


def with_prompts(told: Record, tokens: float) -> Setting:
    """A record's setting with prompts of so many tokens."""
    lengths = {"input_tokens": Lengths(mean=tokens, max=tokens)}
    return told.setting.model_copy(update={"workload": told.setting.workload.model_copy(update=lengths)})


def test_claims_without_their_cells_cannot_be_told() -> None:
    assert {each.verdict for each in findings(bench(grid({CHAT1: {"lookup": 5}})))} == {OPEN}


def test_bars_hold_fail_or_stay_open() -> None:
    cells = {
        CHAT16: {"baseline": 100, "continuous": 500},
        ("mixed", 16): {"baseline": 100, "continuous": 200},
        ("copy_edit", 16): {"baseline": 100, "continuous": 400},
        WARM16: {"continuous": 100, "prefix": 300, "baseline": "crashed"},
        CHAT1: {"baseline": 100, "continuous": 900},
    }
    records = grid(cells)
    found = {each.cell.workload: each.verdict for each in continuous_bars(bench(records))}
    want = {"short_chat": HOLDS, "mixed": FAILS, "copy_edit": OPEN, "shared_prefix_warm": OPEN}
    assert found == want
    assert [each.verdict for each in prefix_bars(bench(records))] == [HOLDS]
    text = section(page(records), "What was asked for")
    assert "Clearly reached in 1 of 4 cells." in text
    assert row(text, "openvino", "shared_prefix_warm", "16", "not measured")[-1] == "cannot be told"
    assert row(text, "openvino", "mixed", "16")[-1] == "no"


def test_ratios_average_in_logarithms() -> None:
    mean = geometric_mean([Ratio(2, 0.3), Ratio(8, 0.4)])
    assert mean is not None
    assert (mean.value, mean.half) == (pytest.approx(4), pytest.approx(0.25))
    assert geometric_mean([]) is None


def test_two_models_of_one_engine_are_two_benches() -> None:
    cells = [record(name, CHAT1, 100, model=model) for name in ("baseline", "lookup") for model in "AB"]
    assert labels(benches(cells)) == ["openvino on A (F16)", "openvino on B (F16)"]
    assert "## openvino on A (F16)" in page(cells)


def test_other_traffic_is_left_out_and_said() -> None:
    kept = grid({CHAT1: {"baseline": 100, "lookup": 200}})
    setting = kept[0].setting.model_copy(update={"workload": Workload(name="x", request_rate_per_s=2.0)})
    stray = kept[0].model_copy(update={"setting": setting})
    assert "1 more records are of other traffic" in page([*kept, stray])
    for wrong in ([], [stray]):
        with pytest.raises(BadInput, match="named workloads"):
            page(wrong)
    with pytest.raises(BadInput, match="a share from 0 to 1"):
        page(kept, least_agreement=40)


def test_the_study_is_known_by_its_campaign() -> None:
    mine = record("baseline", CHAT1, 100)
    others = [
        mine.model_copy(update={"provenance": mine.provenance.model_copy(update={key: value})})
        for key, value in (("campaign", "measure-1"), ("campaign", None), ("source", "metainfo"))
    ]
    assert of_study([mine, *others]) == [mine]


def test_provenance_is_told() -> None:
    told = section(page(grid({CHAT1: {"baseline": 100, "lookup": 200}})), "How it was measured")
    for words in ("Some CPU, 2 cores", "openvino 1.2", "on 2026-01-02", "metainf 0", "2 run twice", "M, F16"):
        assert words in told
    assert "median 0.50, highest 0.50" in told and "3 % at most; more than 20 % in 0 of 4 runs" in told


def test_latencies_are_those_of_the_mixed_workload_at_sixteen() -> None:
    cells = {(w, n): {"baseline": 9, "lookup": 8} for w in ("short_chat", "mixed") for n in (4, 16, 64)}
    text = page(grid(cells))
    assert "Latencies on `mixed` with 16 in flight" in text
    assert row(text, "lookup", "125")[1:] == ["125", "250", "10.0", "20.0"]


@pytest.mark.parametrize("seed", range(20))
def test_any_grid_gives_a_page(seed: int) -> None:
    """Whatever is missing or failed: a page without holes, the same for any order of the records."""
    rng = random.Random(seed)
    names = ("baseline", "static", "continuous", "chunked", "prefix", "lookup", "q8_0", "q4_0", "all+q8_0")
    outcomes = ("crashed", "out_of_memory", *(10.0**place for place in range(4)))
    records = [
        record(
            method,
            (workload, n),
            rng.choice(outcomes),
            trial=trial,
            on=on,
            quality=rng.choice((None, 0.3, 1.0)),
        )
        for on in ("llama.cpp", "openvino")
        for workload in ("short_chat", "mixed", "shared_prefix_warm")
        for n in (1, 16)
        for method in names
        for trial in range(2)
        if rng.random() < (0.2, 0.5, 0.9)[seed % 3]
    ]
    text = api.study_page(records)
    assert not re.search(r"\b(nan|inf|None)\b", text)
    rng.shuffle(records)
    assert api.study_page(records) == text


def test_pictures_and_page_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the plot extra")
    cells = {
        (workload, n): {"baseline": 10, "continuous": 10.0 * n, "static": "crashed"}
        for workload in ("short_chat", "mixed")
        for n in (1, 4, 16)
    }
    records = grid(cells) + grid(cells, on="llama.cpp")
    plots = tmp_path / "figures"
    api.write_study(records, tmp_path / "study.md", plots)
    assert sorted(each.name for each in plots.iterdir()) == ["study-llama.cpp.svg", "study-openvino.svg"]
    drawn = (plots / "study-openvino.svg").read_bytes()
    told = drawn.decode()
    for words in ("short_chat", "mixed", "continuous", "requests in flight"):
        assert f">{words}</text>" in told
    assert ">static</text>" not in told
    text = (tmp_path / "study.md").read_text(encoding="utf-8")
    assert "](figures/study-openvino.svg)" in text
    api.study_plots(records, plots)
    assert (plots / "study-openvino.svg").read_bytes() == drawn
