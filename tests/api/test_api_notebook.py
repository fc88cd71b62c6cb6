"""The verbs as a person calls them in Python."""

import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser

import pytest

import metainf
from metainf import api
from metainf.api.evidence import evidence
from metainf.api.evidence import read_page as read_evidence
from metainf.api.results import read_page, results
from metainf.domain import BadInput, Batching, Method, NotSupported, Prediction, UnknownName

QUESTION = ("Llama-3.1-8B-Instruct", ["1-2xL4", "H100"], "sharegpt")


class Words(HTMLParser):
    """Tags that are open and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.cells, self.said = [], 0, ""  # type: ignore[var-annotated]
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.cells += tag == "td"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def test_select_is_the_api_s() -> None:
    found = metainf.select(*QUESTION, concurrency=8, max_ttft_s=0.5, top=3)
    question = api.Question(
        *QUESTION[:1], QUESTION[1], QUESTION[2], {"concurrency": 8},
        found.objective, top=3, offline=False,
    )  # fmt: skip
    assert found == api.select(question) and found.objective.max_ttft_s == 0.5


def test_a_selection_shows_itself_and_is_flat() -> None:
    found = metainf.select(*QUESTION, concurrency=8, top=3)
    rows = found.rows()
    assert [row["place"] for row in rows] == [1, 2, 3] and rows[0]["command"] == found.ranked[0].command
    first = found.ranked[0].prediction.metrics["tpot_s"]
    assert (rows[0]["tpot_s"], rows[0]["tpot_s_low"], rows[0]["tpot_s_high"]) == (
        first.value,
        first.low,
        first.high,
    )
    shown = Words(found._repr_html_())
    assert shown.cells >= 3 * 8 and str(found.ranked[0].command) in shown.said and "Why" in shown.said
    odd = found.model_copy(update={"model": found.model.model_copy(update={"name": "<b>&"})})
    assert "<b>" not in odd._repr_html_() and "<b>&" in Words(odd._repr_html_()).said


def test_evaluations_and_measurements_show_themselves() -> None:
    pytest.importorskip("pandas", reason="needs the extra notebook")
    from types import SimpleNamespace

    from metainf.api.measured import Measurement
    from metainf.api.notebook import Evaluated
    from metainf.measure.summary import Line

    chooser = {"name": "a <b>", "regret": 0.25, "regret_low": 0.2, "regret_high": 0.3}
    view = {"source": "made-up", "view": "speed", "by": "model", "cells": 7, "choosers": [chooser]}
    found = Evaluated(views=[view])
    assert found.rows() == [{"source": "made-up", "view": "speed", "by": "model", "cells": 7, **chooser}]
    assert list(found.to_pandas()["regret"]) == [0.25]
    assert "<b>" not in found._repr_html_() and "a <b>" in Words(found._repr_html_()).said
    told = {field.name: None for field in fields(Line)} | {"method": "continuous", "runs": 3}
    made = Measurement(SimpleNamespace(campaign="mine", records=[]), [Line(**told)], None)  # type: ignore[arg-type]
    shown = Words(made._repr_html_())
    assert list(made.to_pandas()["runs"]) == [3]
    assert made.rows()[0]["method"] == "continuous" and "continuous" in shown.said and "mine" in shown.said


def test_a_prediction_and_a_sizing_show_themselves() -> None:
    one = metainf.predict("Llama-3.1-8B-Instruct", "2xL4", "vllm", "sharegpt", concurrency=8)
    row = next(row for row in one.rows() if row["metric"] == "tpot_s")
    told = one.metrics["tpot_s"]
    assert row == {
        "metric": "tpot_s", "value": told.value, "low": told.low, "high": told.high, "p_ok": one.p_ok
    }  # fmt: skip
    shown = Words(one._repr_html_())
    assert shown.cells == 4 * len(one.metrics) and "tpot_s" in shown.said and one.reasons[0] in shown.said
    many = metainf.size(*QUESTION[:2], 10, "sharegpt")
    assert [row["replicas"] for row in many.rows()] == [each.replicas for each in many]
    assert many.rows()[0]["device"] == many[0].hardware.device.name
    shown = Words(many._repr_html_())
    assert many.rows()[0]["method"] in shown.said and shown.cells == len(many) * len(many.rows()[0])


def test_a_data_frame() -> None:
    pytest.importorskip("pandas", reason="needs the extra notebook")
    one = metainf.predict("Llama-3.1-8B-Instruct", "2xL4", "vllm", "sharegpt", concurrency=8).to_pandas()
    assert list(one["metric"]) and (one["low"] <= one["value"]).all() and (one["value"] <= one["high"]).all()
    many = metainf.size(*QUESTION[:2], 10, "sharegpt").to_pandas()
    assert len(many) >= 1 and many["usd_per_hour"].is_monotonic_increasing
    frame = metainf.select(*QUESTION, concurrency=8, top=4).to_pandas()
    assert len(frame) == 4 and frame["usd_per_hour"].notna().all() and frame["score"].is_monotonic_decreasing


def test_predict_and_size() -> None:
    method = Method(engine="vllm", techniques=(Batching(max_sequences=8),))
    found = metainf.predict("Llama-3.1-8B-Instruct", "2xL4", method, "sharegpt", concurrency=8)
    assert isinstance(found, Prediction) and found.metrics["tpot_s"].value > 0 and found.reasons
    assert metainf.predict("Llama-3.1-8B-Instruct", "2xL4", "vllm", "sharegpt", concurrency=8).p_ok > 0.5
    assert metainf.size(*QUESTION[:2], 10, "sharegpt")[0].replicas >= 1
    with pytest.raises(NotSupported, match="memory"):
        metainf.predict("meta-llama/Llama-3.1-405B-Instruct", "L4", method, "sharegpt", concurrency=8)
    with pytest.raises(BadInput, match="one piece"):
        metainf.predict("Llama-3.1-8B-Instruct", "1-2xL4", method, "sharegpt")
    with pytest.raises(UnknownName, match="max_ttft_s"):
        metainf.select(*QUESTION, max_tttft_s=1)


def test_unknown_arguments_of_measuring_are_named() -> None:
    with pytest.raises(UnknownName, match="workloads"):
        metainf.measure(worklods=["short_chat"])


@pytest.mark.parametrize(
    "before",
    ["pass", "import metainf.measure.words as words; assert words.Traffic", "import metainf.measure"],
)
def test_measure_is_the_verb_and_the_package(before: str) -> None:
    code = f"""
{before}
import metainf
from metainf.domain import UnknownName
try:
    metainf.measure(worklods=["short_chat"])
except UnknownName as error:
    print(error)
from metainf.measure.words import Traffic
assert callable(metainf.measure) and metainf.measure.words.Traffic is Traffic
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "worklods" in ran.stdout and "workloads" in ran.stdout


def test_the_package_stays_light_and_lists_its_verbs() -> None:
    code = "import metainf, sys; assert 'pydantic' not in sys.modules; print(metainf.select.__name__)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("select")
    with pytest.raises(AttributeError, match="choose"):
        _ = metainf.choose


def test_the_shipped_results_are_those_of_the_page() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    assert results() == read_page(page), "stale: python docs/refresh.py"
    with pytest.raises(BadInput, match="In one table"):
        read_page("# Nothing")


def test_the_shipped_evidence_is_that_of_the_page() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    found = evidence()
    assert found == read_evidence(page), "stale: python docs/refresh.py"
    assert f"| {found.accuracy[0].source} | {found.accuracy[0].left_out} |" in page
    assert all(0 <= one.covered <= 1 for one in found.accuracy if one.covered is not None)
    assert {"MetaInf"} < set(found.ablations[0].regret)
    with pytest.raises(BadInput):
        read_evidence("# Nothing")


def test_the_shipped_series_are_those_of_the_pages() -> None:
    from pathlib import Path

    from metainf.api.over_time import over_time, read_pages

    docs = Path(__file__).parents[2] / "docs"
    pages = [(docs / name).read_text(encoding="utf-8") for name in ("over_time.md", "planning.md")]
    found = over_time()
    assert found == read_pages(*pages), "stale: python docs/refresh.py"
    one = found.moments[0]
    assert f"| {one.source}: {one.view} | {one.since} | {one.until} | {one.known} | {one.cells} |" in pages[0]
    assert all(one.low <= one.regret <= one.high for one in found.moments)
    views = {(one.source, one.view, one.told) for one in found.moments}
    for view in views:
        dates = [one.since for one in found.moments if (one.source, one.view, one.told) == view]
        assert dates == sorted(set(dates))
    assert {"planner", "random"} < {one.rule for one in found.by_runs}
    assert all(0 < one.share <= 1 and 0 <= one.regret <= 1 for one in found.by_runs)
    for wrong in (("# Nothing", pages[1]), (pages[0], "# Nothing")):
        with pytest.raises(BadInput, match="expected a page with a table"):
            read_pages(*wrong)
