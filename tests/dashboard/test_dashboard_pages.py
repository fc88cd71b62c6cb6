"""History, evidence and swarm in a browser; and what holds of every page: access, looks, sizes, keys."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from dashboard_waiting import until

if TYPE_CHECKING:
    from service_process import Served

Open = Callable[..., Any]
RECORDS, COUNT_S = 363, 20.0
PAGES = {
    "choose": "Pareto chart", "history": "Heat map of the records", "evidence": "Regret", "swarm": None,
}  # fmt: skip


def counted(served: "Served", want: int) -> None:
    """Wait until the records are counted."""
    for _ in range(100):
        found = httpx2.get(f"{served.url}/v1/tensor/axes").json()
        if found["behind"] == 0 and found["counted"] == want:
            return
        httpx2.get(f"{served.url}/health")
    raise AssertionError(
        f"expected {want} counted records, found {found['counted']}, {found['behind']} to go"
    )


@pytest.fixture(scope="module")
def history(filled: "Served") -> "Served":
    """The filled service, once all its records are counted."""
    end_s, found = time.monotonic() + COUNT_S, {"counted": 0, "behind": 1}
    while found["behind"] or found["counted"] != RECORDS:
        assert time.monotonic() < end_s, f"expected {RECORDS} counted records, found {found}"
        time.sleep(0.05)
        found = httpx2.get(f"{filled.url}/v1/tensor/axes").json()
    return filled


def test_history_leads_from_the_map_to_a_record(history: "Served", open_page: Open) -> None:
    opened = open_page(history.url)
    page = opened.go("#/history")
    chart = opened.chart("Heat map of the records")
    status = page.get_by_role("main").get_by_role("status").first
    assert "363 records here" in status.inner_text()
    opened.picture("history")
    script = """() => {
      const chart = window.metainfCharts.get("Heat map of the records");
      const [place] = chart.getOption().series.find(({ id }) => id === "places").data;
      return chart.convertToPixel("grid", place.slice(0, 2));
    }"""
    x, y = page.evaluate(script)
    with page.expect_response("**/v1/records?*") as coming:
        chart.click(position={"x": x, "y": y})
    assert "method=" in coming.value.url
    first = coming.value.json()["records"][0]
    runs = page.get_by_role("region", name="Records of").last
    runs.locator("tbody button").first.click()
    whole = page.get_by_role("region", name="Record", exact=True)
    assert first["provenance"]["source"] in whole.inner_text()
    assert first["setting"]["model"]["name"] in whole.inner_text()
    assert "row=" in page.url and "column=" in page.url


def test_failures_are_shown_as_such(history: "Served", open_page: Open) -> None:
    opened = open_page(history.url)
    page = opened.go("#/history?model=too-large-for-it&columns=engine")
    opened.chart("Heat map of the records")
    page.get_by_role("button", name="chat").click()
    page.get_by_role("region", name="1 tried").get_by_text("3 out of memory").wait_for()
    page.get_by_text("failed: out of memory").first.wait_for()
    assert page.get_by_text("failed: out of memory").count() == 3


def test_filters_narrow_the_map(history: "Served", open_page: Open) -> None:
    opened = open_page(history.url)
    page = opened.go("#/history")
    opened.chart("Heat map of the records")
    shown = {}
    for label, value in (("Engine", "openvino"), ("Metric", "tpot_s"), ("Columns", "engine")):
        with page.expect_response("**/v1/tensor?*") as coming:
            page.get_by_label(label, exact=True).select_option(value)
        shown = coming.value.json()
    assert shown["metric"] == "tpot_s" and [each["name"] for each in shown["columns"]] == ["openvino"]
    page.get_by_label("Engine", exact=True).select_option("")
    with page.expect_response(lambda answer: "failed=true" in answer.url) as coming:
        page.get_by_label("Only with failures").check()
    cells = coming.value.json()["cells"]
    assert cells and all(sum(reasons) for _, _, _, reasons, *_ in cells)
    until(page, "location.hash === '#/history?metric=tpot_s&columns=engine&failed=true'")


def test_a_wrong_wish_is_said(history: "Served", open_page: Open) -> None:
    page = open_page(history.url).go("#/history?metric=speed")
    assert "metric" in page.get_by_role("alert").inner_text()
    page = open_page(history.url).go("#/history?record=none-such")
    page.get_by_text("This record is not in this store").wait_for()


def test_an_empty_store_says_so(empty: "Served", open_page: Open) -> None:
    page = open_page(empty.url).go("#/history")
    page.get_by_role("heading", name="No records in this store yet").wait_for()
    assert page.locator(".chart").count() == 0


def test_evidence_has_the_shipped_tables(empty: "Served", open_page: Open) -> None:
    opened = open_page(empty.url)
    page = opened.go("#/evidence")
    for title in ("Regret", "Calibration", "Importance", "Ablations"):
        opened.chart(title)
    opened.picture("evidence")
    judged = httpx2.get(f"{empty.url}/v1/evaluation").json()["judged"]
    mine = [one for one in judged if one["left_out"] == "hardware"]
    page.get_by_label("Left out of training").first.select_option("hardware")
    better = sum(one["verdict"] == "better" for one in mine if "verdict" in one)
    page.get_by_text(f"Of {len(mine)} views MetaInf is better in {better},").wait_for()


def test_regret_over_time_is_drawn_and_told(empty: "Served", open_page: Open) -> None:
    """Both series as the service gives them: the points of the charts and the cells of the tables."""
    opened = open_page(empty.url)
    page = opened.go("#/evidence")
    for title in ("Regret over time", "Regret by runs"):
        opened.chart(title)
    given = httpx2.get(f"{empty.url}/v1/evaluation").json()
    moments = given["over_time"]
    title = "{source}: {view}{told}"
    names = [title.format(**one | {"told": ", told" if one["told"] else ""}) for one in moments]
    several = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    assert page.get_by_label("View", exact=True).locator("option").all_inner_texts() == several
    page.get_by_role("heading", name="Regret over time").evaluate("it => it.scrollIntoView()")
    opened.picture("over-time")
    last = several[-1]
    page.get_by_label("View", exact=True).select_option(last)
    table = page.get_by_role("region", name=f"Regret from date to date, {last}")
    mine = [one for one, name in zip(moments, names, strict=True) if name == last]
    assert table.locator("tbody th").all_inner_texts() == [one["since"] for one in mine]
    assert f"{mine[0]['regret']:.3f}" in table.locator("tbody tr").first.inner_text()
    points = page.evaluate(
        """() => window.metainfCharts.get("Regret over time").getOption().series
            .filter(({ id }) => id === "MetaInf").flatMap(({ data }) => data)"""
    )
    assert points == [[one["since"], one["regret"]] for one in mine]
    page.get_by_label("Known before any run").select_option("nothing")
    table = page.get_by_role("region", name="Regret by share of the runs, knowing nothing before")
    tenth = next(
        one["regret"] for one in given["by_runs"]
        if (one["known_before"], one["rule"], one["share"]) == ("nothing", "planner", 0.1)
    )  # fmt: skip
    assert f"{tenth:.3f}" in table.get_by_role("row", name="planner").inner_text()


def test_no_swarm_is_said(empty: "Served", open_page: Open) -> None:
    page = open_page(empty.url).go("#/swarm")
    page.get_by_role("heading", name="No swarm is watched here").wait_for()
    page.get_by_text("start metainf serve with --swarm").wait_for()


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_are_accessible(history: "Served", open_page: Open, name: str, look: str) -> None:
    """By axe's rules, contrast of colours among them; in both looks."""
    from axe_playwright_python.sync_playwright import Axe

    opened = open_page(history.url, color_scheme=look)
    page = opened.go(f"#/{name}")
    title = PAGES[name]
    if title is None:
        page.get_by_role("heading", level=2).wait_for()
    else:
        opened.chart(title)
    page.wait_for_load_state("networkidle")
    if look == "dark" and name == "choose":
        opened.picture("dark")
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]})
    told = [(each["id"], each["nodes"][0]["html"][:200]) for each in found.response["violations"]]
    assert not told
    charts = page.locator(".chart")
    assert all(charts.nth(i).get_attribute("aria-label") for i in range(charts.count()))
    assert charts.count() <= page.locator("table").count()


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_a_phone(history: "Served", open_page: Open, name: str) -> None:
    opened = open_page(history.url, viewport={"width": 390, "height": 844}, has_touch=True)
    page = opened.go(f"#/{name}")
    title = PAGES[name]
    if title is not None:
        opened.chart(title)
    page.wait_for_load_state("networkidle")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390, f"{name} is {wide} wide"
    if name == "choose":
        page.get_by_role("region", name="Why this answer").scroll_into_view_if_needed()
        opened.picture("phone")


def test_the_switch_of_the_look(empty: "Served", open_page: Open) -> None:
    page = open_page(empty.url, color_scheme="dark").go("#/swarm")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(background)
    switch = page.get_by_role("button", name="Look:")
    switch.click()
    assert page.evaluate(background) != dark
    page.reload()
    assert page.evaluate(background) != dark and "light" in (switch.get_attribute("aria-label") or "")
    switch.click()
    assert page.evaluate(background) == dark


def test_pages_are_turned_and_the_focus_follows(empty: "Served", open_page: Open) -> None:
    page = open_page(empty.url).go("#/swarm")
    page.get_by_role("navigation").get_by_role("link", name="Evidence").click()
    until(page, "document.title === 'Evidence · MetaInf'")
    assert page.evaluate("document.activeElement.textContent") == "Evidence"
    assert page.get_by_role("link", name="Evidence").get_attribute("aria-current") == "page"
    page.go_back()
    until(page, "document.title === 'Swarm · MetaInf'")


def test_a_key_is_asked_for_and_kept_in_the_tab(
    tmp_path_factory: pytest.TempPathFactory, open_page: Open
) -> None:
    from service_process import served

    from metainf import api
    from metainf.api import imports

    folder = tmp_path_factory.mktemp("keys")
    store = str(folder / "records.sqlite")
    with api.store(store) as opened_store:
        _, secret = imports.keyring(opened_store).add("browser", "read", imports.now())
    with served(store, "--rate", "none", log=folder / "log") as one:
        opened = open_page(one.url)
        page = opened.go()
        form = page.get_by_role("form", name="This service asks for a key")
        form.get_by_label("Key").fill("metainf_wrong")
        form.get_by_role("button", name="Enter").click()
        page.get_by_text("found an unknown one").first.wait_for()
        form.get_by_label("Key").fill(secret)
        form.get_by_label("Key").press("Enter")
        opened.chart("Pareto chart")
        assert page.evaluate("Object.values(sessionStorage)") == [secret]
        assert secret not in page.url and not page.evaluate("JSON.stringify(localStorage)").count(secret)
        page.get_by_role("button", name="Forget the key").click()
        form.wait_for()
        assert page.evaluate("Object.values(sessionStorage)") == []
