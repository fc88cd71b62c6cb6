"""The service keeps to its own OpenAPI document, and nothing that is sent to it is an error of its own."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from service_process import served

from metainf import api as house
from metainf.api import imports
from metainf.service.app import create_app
from metainf.service.settings import Settings

schemathesis = pytest.importorskip("schemathesis", reason="needs the extra dev")

HEADERS: dict[str, str] = {}
EXAMPLES = 10
"""Of each operation; `benchmarks/bench_service.py` sends thousands."""
TOLD = create_app(Settings()).openapi()
BODIES = r"/(select|size|predict|explain|records|export/[^/]+)$"


def document(edges: bool) -> Any:
    """The API as its document tells it. `edges`: also each value at its bounds, which is a thousand requests
    and more where a body holds a whole record."""
    found = schemathesis.openapi.from_dict(TOLD)
    found.config.phases.coverage.enabled = edges
    return found


def checks() -> list[Any]:
    """All but three. Names that no schema can list are refused, so data that fits the schema may be refused;
    who may ask is tested in test_service_access."""
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()
    without = {"positive_data_acceptance", "ignored_auth", "missing_required_header"}
    return CHECKS.get_by_names([name for name in CHECKS.get_all_names() if name not in without])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with a key that is good for everything; in the end its log holds no error of its own."""
    folder = tmp_path_factory.mktemp("schema")
    store = str(folder / "records.sqlite")
    with house.store(store) as opened:
        HEADERS["Authorization"] = f"Bearer {imports.keyring(opened).add('tests', 'admin', imports.now())[1]}"
    with served(store, "--rate", "none", log=folder / "log") as one:
        yield one.url
        assert not [line for line in one.logged() if line["level"] == "error"]


every = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), derandomize=True)


@document(edges=True).exclude(path_regex="/events$").exclude(method="POST", path_regex=BODIES).parametrize()
@every
def test_what_is_looked_up_keeps_to_the_document(case: Any, url: str) -> None:
    case.call_and_validate(base_url=url, checks=checks(), headers=HEADERS)


@document(edges=False).include(method="POST", path_regex=BODIES).parametrize()
@every
def test_what_is_asked_keeps_to_the_document(case: Any, url: str) -> None:
    case.call_and_validate(base_url=url, checks=checks(), headers=HEADERS)
