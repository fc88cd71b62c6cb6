"""Choosing in a browser: the question, its answers, reasons, the command, and what goes wrong."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from dashboard_waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page
    from service_process import Served

Open = Callable[..., Any]
SMALL = "#/choose?model=Llama-3.1-8B-Instruct&workload=sharegpt&concurrency=32&hardware=L4,+H100"


def answered(page: "Page") -> None:
    until(page, "document.querySelector('.answer')?.getAttribute('aria-busy') === 'false'")


def ranked(page: "Page") -> "Locator":
    return page.get_by_role("region", name="Ranked answers").locator("tbody tr")


def fields(page: "Page") -> dict[str, str]:
    """The question as the link holds it."""
    script = "Object.fromEntries(new URLSearchParams(location.hash.split('?')[1]))"
    found: dict[str, str] = page.evaluate(script)
    return found


def test_from_a_question_to_the_command(empty: "Served", open_page: Open) -> None:
    opened = open_page(empty.url, permissions=["clipboard-read", "clipboard-write"])
    page = opened.go()
    opened.chart("Pareto chart")
    assert page.title() == "Choose · MetaInf"
    opened.picture("choose")
    before = ranked(page).count()
    model = page.get_by_label("Model", exact=True)
    model.fill("")
    model.press_sequentially("Qwen3-8B", delay=15)
    with page.expect_response("**/v1/select") as coming:
        page.get_by_label("Budget", exact=True).fill("2")
    answered(page)
    asked = json.loads(coming.value.request.post_data or "")
    assert asked["model"] == "Qwen3-8B" and asked["objective"]["max_usd_per_hour"] == 2
    found = coming.value.json()
    assert ranked(page).count() == min(20, len(found["ranked"])) and before > 0
    first = found["ranked"][0]
    detail = page.get_by_role("region", name="Why this answer")
    assert first["usd_per_hour"] <= 2 and detail.locator("pre").inner_text() == first["command"]
    detail.get_by_role("button", name="Copy command").click()
    page.get_by_text("Copied", exact=True).first.wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == first["command"]
    assert fields(page)["model"] == "Qwen3-8B" and fields(page)["usd"] == "2"


def test_a_point_tells_why(empty: "Served", open_page: Open) -> None:
    opened = open_page(empty.url)
    page = opened.go(SMALL)
    chart = opened.chart("Pareto chart")
    answered(page)
    script = """() => {
      const chart = window.metainfCharts.get("Pareto chart");
      const series = chart.getOption().series.filter((one) => one.type === "scatter");
      const free = series.flatMap(({ data }) => data).filter(({ index }) => index > 0);
      const at = free.map(({ index, value }) => ({ index, at: chart.convertToPixel("grid", value) }));
      const far = (one) => Math.min(...at.filter((other) => other !== one).map(
        ({ at: [x, y] }) => Math.hypot(x - one.at[0], y - one.at[1])));
      return at.sort((a, b) => far(b) - far(a))[0];
    }"""
    alone = page.evaluate(script)
    with page.expect_response("**/v1/explain") as coming:
        chart.click(position={"x": alone["at"][0], "y": alone["at"][1]})
    reasons = coming.value.json()[0]["reasons"]
    detail = page.get_by_role("region", name="Why this answer")
    assert detail.get_by_role("heading", level=2).inner_text().startswith(f"{alone['index'] + 1}.")
    detail.get_by_text(reasons[0], exact=True).wait_for()
    assert ranked(page).nth(alone["index"]).get_attribute("class") == "picked"


def test_a_class_of_privacy_is_asked_for_and_priced(empty: "Served", open_page: Open) -> None:
    page = open_page(empty.url).go(SMALL + "&privacy=trusted&trust=provider:lambda")
    answered(page)
    assert page.get_by_label("Whom to trust", exact=True).input_value() == "provider:lambda"
    page.get_by_text("not to be called private", exact=False).first.wait_for()
    assert "(lambda)" in ranked(page).first.inner_text()
    with page.expect_response("**/v1/select") as coming:
        page.get_by_label("Privacy", exact=True).select_option("transport")
    asked = json.loads(coming.value.request.post_data or "")
    assert asked["privacy"] == {"privacy": "transport"} and fields(page)["privacy"] == "transport"


def test_a_link_holds_the_question(empty: "Served", open_page: Open) -> None:
    page = open_page(empty.url).go(SMALL + "&usd=3&aim=cost&tpot=40")
    answered(page)
    assert page.get_by_label("Budget", exact=True).input_value() == "3"
    assert page.get_by_label("Aim").input_value() == "cost"
    assert page.get_by_label("Budget, slider").get_attribute("aria-valuetext") == "3 $/h"
    slider = page.get_by_label("Time per token, slider")
    slider.focus()
    slider.press("End")
    answered(page)
    until(page, "!location.hash.includes('tpot')")
    assert page.get_by_label("Time per token", exact=True).input_value() == ""
    page.evaluate("location.hash = '#/choose?model=Qwen3-8B&workload=sharegpt&hardware=H100'")
    until(page, "document.querySelector('.question input').value === 'Qwen3-8B'")


WRONG = [
    ("Budget", "NaN", "Budget: expected a number, found “NaN”"),
    ("Time to first token", "0", "expected more than 0"),
    ("Requests in flight", "9" * 400, "expected"),
    ("Hardware", " , ", "expected one or more"),
    ("Model", '{"model_type": ', "begins like JSON"),
    ("Model", '{"model_type": "llama", "hidden_size": "wide"}', "lacks num_layers"),
    ("Model", "x" * 300, "model"),
    ("Quality kept, at least", "300", "min_quality_recovery"),
]


def test_bad_input_is_said_and_mended(empty: "Served", open_page: Open) -> None:
    page = open_page(empty.url).go(SMALL)
    answered(page)
    alert = page.get_by_role("alert")
    for label, text, said in WRONG:
        box = page.get_by_label(label, exact=True)
        good = box.input_value()
        box.fill(text)
        alert.wait_for()
        assert said in alert.inner_text(), (label, text)
        assert ranked(page).count() == 0
        box.fill(good)
        alert.wait_for(state="detached")
        assert ranked(page).count() > 0


def test_near_misses_are_offered(empty: "Served", open_page: Open) -> None:
    page = open_page(empty.url).go(SMALL)
    answered(page)
    page.get_by_label("Model", exact=True).fill("Lama-3.1-8B-Instruct")
    alert = page.get_by_role("alert")
    alert.get_by_text("Did you mean", exact=True).wait_for()
    name = alert.get_by_role("button").first.inner_text()
    alert.get_by_role("button").first.click()
    alert.wait_for(state="detached")
    assert page.get_by_label("Model", exact=True).input_value() == name
    page.get_by_label("Hardware", exact=True).fill("H10")
    alert.get_by_role("button", name="H100", exact=False).first.click()
    alert.wait_for(state="detached")
    assert "H100" in page.get_by_label("Hardware", exact=True).input_value().upper()


def test_a_model_as_the_text_of_its_config(empty: "Served", open_page: Open) -> None:
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
        "vocab_size": 128256, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8,
    }  # fmt: skip
    page = open_page(empty.url).go(SMALL)
    answered(page)
    with page.expect_response("**/v1/select") as coming:
        page.get_by_label("Model", exact=True).fill(json.dumps(config))
    assert coming.value.json()["model"]["params_b"] == pytest.approx(8.03, abs=0.05)


def test_with_the_keyboard_alone(empty: "Served", open_page: Open) -> None:
    page = open_page(empty.url, permissions=["clipboard-read", "clipboard-write"]).go(SMALL)
    answered(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.labels[0].textContent") == "Model"
    page.keyboard.press("Control+A")
    page.keyboard.type("Qwen3-8B")
    until(page, "location.hash.includes('model=Qwen3-8B&')")
    answered(page)
    tab_to(page, "2. ")
    with page.expect_response("**/v1/explain"):
        page.keyboard.press("Enter")
    assert page.locator("tr.picked th button").inner_text().startswith("2. ")
    page.keyboard.press("Shift+Tab")
    tab_to(page, "Copy command", backwards=True)
    page.keyboard.press("Enter")
    page.get_by_text("Copied", exact=True).first.wait_for()


def tab_to(page: "Page", text: str, backwards: bool = False) -> None:
    """Press Tab until the focus is on what begins with a text."""
    for _ in range(80):
        if page.evaluate("document.activeElement.textContent.trim()").startswith(text):
            return
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) != "none" or page.evaluate("document.activeElement.tagName") == "BODY"
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
    raise AssertionError(f"no way to {text!r} by Tab")
