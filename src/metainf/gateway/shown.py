"""What the gateway says of its models and endpoints."""

import math
from typing import Any

from metainf.domain.shown import method_words
from metainf.gateway.board import Board
from metainf.gateway.choosing import closed
from metainf.gateway.forecasting import forecast
from metainf.gateway.learning import works
from metainf.gateway.words import Endpoint, Kind, Lately, Size, Spread

SHOWN = Size(1024, 256)
"""The request for which endpoints are compared."""
HOUR_S = 3600.0


def models_shown(endpoints: tuple[Endpoint, ...]) -> dict[str, Any]:
    """OpenAI's list of models; of each also the endpoints that serve it."""
    found: dict[str, list[str]] = {}
    for each in endpoints:
        found.setdefault(each.model.name, []).append(each.name)
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "metainf", "endpoints": names}
        for name, names in found.items()
    ]
    return {"object": "list", "data": data}


def endpoints_shown(board: Board, now_s: float) -> dict[str, Any]:
    """Where each endpoint stands. `seen_over_expected` is the factor that lately seen latencies put on the
    forecast, with what it counts (answers, older ones less)."""
    data = []
    for each in board.endpoints:
        standing, option = board.standings[each.name], board.outlook(each.name, SHOWN, now_s)
        data.append(
            {
                "name": each.name,
                "model": each.model.name,
                "forecast": board.forecasts.expected(each.name, SHOWN, standing.in_flight + 1).forecast,
                "up": standing.up,
                "open": closed(standing, now_s) is None,
                "left_alone": closed(standing, now_s),
                "in_flight": standing.in_flight,
                "works": round(works(standing, now_s), 4),
                "seen_over_expected": {"ttft": _factor(standing.ttft), "tpot": _factor(standing.tpot)},
                "expected": {"ttft_s": option.ttft_s, "tpot_s": option.tpot_s, "usd": option.usd},
            }
        )
    tokens = {"input_tokens": SHOWN.input_tokens, "output_tokens": SHOWN.output_tokens}
    return {"object": "list", "expected_for": tokens, "data": data}


def _factor(lately: Lately) -> dict[str, float] | None:
    if lately.weight < 0.01:
        return None
    return {"factor": round(math.exp(lately.mean), 4), "answers": round(lately.weight, 2)}


def forecast_rows(endpoints: tuple[Endpoint, ...], kind: Kind) -> list[dict[str, Any]]:
    """One line for each endpoint: what it is, and what is forecast of it for a kind of question."""
    rows = []
    for each in endpoints:
        found = forecast(kind, each)
        row: dict[str, Any] = {"endpoint": each.name, "url": each.url, "model": each.model.name}
        row |= {"hardware": None, "method": None, "usd_per_hour": each.usd_per_hour}
        if each.hardware is not None and each.method is not None:
            row["hardware"] = f"{each.hardware.count or '?'} × {each.hardware.device.name}"
            row["method"] = method_words(each.method)
        if isinstance(found, str):
            rows.append(row | {"ttft_s": None, "tpot_s": None, "usd": None, "note": found})
            continue
        usd = None
        if each.usd_per_hour is not None and found.tokens_per_s is not None:
            usd = each.usd_per_hour / HOUR_S * kind.output_tokens / found.tokens_per_s
        row |= {"ttft_s": _median(found.ttft), "tpot_s": _median(found.tpot), "usd": usd, "note": None}
        rows.append(row)
    return rows


def _median(spread: Spread) -> float:
    return math.exp(spread.log_median)
