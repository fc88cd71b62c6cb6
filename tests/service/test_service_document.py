"""The OpenAPI document: whole, with examples that work, and as strict as the words are."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from service_process import Served, served

from metainf.service.routes.records import RecordQuery
from metainf.store import Filter


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service of these tests alone: the examples make a key."""
    folder = tmp_path_factory.mktemp("document")
    with served(folder / "records.sqlite", log=folder / "log") as one:
        yield one


@pytest.fixture(scope="module")
def document(own: Served) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{own.url}/v1/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, verb, each) for path, verbs in document["paths"].items() for verb, each in verbs.items()]


def test_every_operation_says_what_it_does(document: dict[str, Any]) -> None:
    found = operations(document)
    assert len(found) > 25
    for path, _, each in found:
        assert len(each["description"]) > 10, path
        assert "default" in each["responses"], path
        assert path.startswith("/v1/") or path in ("/health", "/ready", "/metrics")


def test_every_word_that_is_referred_to_is_there(document: dict[str, Any]) -> None:
    known = set(document["components"]["schemas"])

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"].rsplit("/", 1)[-1]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(item) for item in value.values()))
        return set().union(*(references(item) for item in value)) if isinstance(value, list) else set()

    assert references(document) <= known
    assert {"Model", "Workload", "Hardware", "Method", "Record", "Objective", "Selection", "Problem"} <= known


def test_the_examples_work(document: dict[str, Any], own: Served) -> None:
    tried = 0
    for path, verb, each in sorted(operations(document), key=lambda one: one[0] == "/v1/keys"):
        content = each.get("requestBody", {}).get("content", {}).get("application/json", {})
        for name, example in content.get("examples", {}).items():
            url = own.url + path.replace("{format}", "compose")
            answer = httpx2.request(verb.upper(), url, json=example["value"], timeout=60)
            assert answer.status_code in (200, 201), (path, name, answer.text)
            tried += 1
    assert tried >= 7


def test_records_are_filtered_by_what_the_store_filters_by() -> None:
    assert set(RecordQuery.model_fields) - {"after", "limit"} == set(Filter.__slots__)
