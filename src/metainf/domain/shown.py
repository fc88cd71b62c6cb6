"""How answers look outside of a terminal: flat rows for a data frame, a table for a notebook. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from metainf.domain.errors import MissingExtra

if TYPE_CHECKING:
    from metainf.domain.method import Method
    from metainf.domain.objective import Candidate, Prediction, Selection
    from metainf.domain.record import Estimate
    from metainf.domain.setting import Hardware, Workload

Row = dict[str, Any]
STYLE = "text-align:left;padding:0.2em 0.8em 0.2em 0;vertical-align:top"
SHOWN = (
    ("output_tokens_per_s", "tok/s"), ("images_per_s", "images/s"), ("ttft_s", "TTFT s"),
    ("tpot_s", "TPOT s"), ("energy_j_per_token", "J/token"),
)  # fmt: skip


def method_words(method: "Method") -> str:
    """A method on one short line."""
    parts = [method.engine]
    for technique in method.techniques:
        said = technique.model_dump(mode="json", exclude_none=True)
        kind = said.pop("kind").replace("_", " ")
        if said.pop("enabled", True) is False:
            parts.append(f"no {kind}")
            continue
        values = ", ".join(
            _word(name, value) for name, value in said.items() if name not in ("bits", "activation_bits")
        )
        parts.append(f"{kind} {values}" if values else kind)
    return " · ".join(parts)


def hardware_words(hardware: "Hardware") -> str:
    """A piece of hardware on one short line."""
    told = f"{hardware.count or '?'}× {hardware.device.name}"
    told += f" in {hardware.nodes} nodes" if (hardware.nodes or 1) > 1 else ""
    return f"{told} ({hardware.platform})" if hardware.platform else told


def workload_words(work: "Workload") -> str:
    """A workload on one short line."""
    told = [work.name] if work.name else []
    told += [f"{cell(work.input_tokens.mean)} in"] if work.input_tokens else []
    told += [f"{cell(work.output_tokens.mean)} out"] if work.output_tokens else []
    told += [f"{work.width_px}×{work.height_px}"] if work.width_px and work.height_px else []
    for value, words in (
        (work.steps, "steps"), (work.frames, "frames"), (work.batch_size, "in a batch"),
        (work.concurrency, "in flight"), (work.request_rate_per_s, "requests/s"),
    ):  # fmt: skip
        told += [] if value is None else [f"{cell(value)} {words}"]
    return ", ".join(told) or "not said"


def _word(name: str, value: Any) -> str:
    if name in ("format", "dtype", "name", "mode", "algorithm", "values"):
        return " ".join(value) if isinstance(value, list) else str(value)
    return f"{name.replace('_', ' ')} {value:g}" if isinstance(value, (int, float)) else f"{name} {value}"


def candidate_row(place: int, one: "Candidate") -> Row:
    """A candidate with one value a column; each estimate as its median, `_low` and `_high`."""
    row: Row = {
        "place": place,
        "device": one.hardware.device.name,
        "count": one.hardware.count,
        "engine": one.method.engine,
        "method": method_words(one.method),
        "p_ok": one.prediction.p_ok,
        "p_feasible": one.p_feasible,
        "score": one.score,
        "usd_per_hour": one.usd_per_hour,
    }
    told = dict(one.prediction.metrics)
    if one.usd_per_million_tokens is not None:
        told["usd_per_million_tokens"] = one.usd_per_million_tokens
    for name, estimate in told.items():
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    if one.privacy is not None:
        row |= {"privacy": one.privacy.name, "privacy_price_ratio": one.privacy.privacy_price_ratio}
    return row | {"command": one.command}


def selection_rows(found: "Selection") -> list[Row]:
    """One flat row for each ranked candidate, best first."""
    return [candidate_row(place, one) for place, one in enumerate(found.ranked, 1)]


def selection_html(found: "Selection") -> str:
    """The ranking as a table, with the reasons and the command of the first."""
    kept = [(name, title) for name, title in SHOWN if any(name in c.prediction.metrics for c in found.ranked)]
    head = [
        "",
        "hardware",
        "method",
        *(title for _, title in kept),
        "$/h",
        "$/M tokens",
        "works",
        "in limits",
    ]
    rows = [
        [
            place,
            f"{one.hardware.count or '?'}× {one.hardware.device.name}",
            method_words(one.method),
            *(interval(one.prediction.metrics.get(name)) for name, _ in kept),
            one.usd_per_hour,
            interval(one.usd_per_million_tokens),
            f"{one.prediction.p_ok:.0%}",
            f"{one.p_feasible:.0%}",
        ]
        for place, one in enumerate(found.ranked, 1)
    ]
    parts = [html_table(head, rows, f"{found.model.name}: best {found.objective.aim.replace('_', ' ')}")]
    for one in found.ranked[:1]:
        parts += [f"<pre>{escape(one.command)}</pre>"] if one.command else []
        parts += [html_list("Why", one.prediction.reasons), html_list("Mind", one.notes)]
    left = [f"{each.limit}: {each.hardware.device.name}: {each.reason}" for each in found.excluded]
    return "".join([*parts, html_list("Left out", left)])


def prediction_rows(found: "Prediction") -> list[Row]:
    """One flat row for each metric, in the units that its name tells."""
    return [
        {"metric": name, "value": each.value, "low": each.low, "high": each.high, "p_ok": found.p_ok}
        for name, each in found.metrics.items()
    ]


def prediction_html(found: "Prediction") -> str:
    """The metrics as a table, with the reasons."""
    head = ("metric", "median", "low", "high")
    rows = [(name, each.value, each.low, each.high) for name, each in found.metrics.items()]
    return html_table(head, rows, f"works {found.p_ok:.0%}") + html_list("Why", found.reasons)


def interval(estimate: "Estimate | None") -> str | None:
    """Median and 90 % interval with three digits, None where there is none."""
    if estimate is None:
        return None
    return f"{cell(estimate.value)} ({cell(estimate.low)}–{cell(estimate.high)})"


def cell(value: object) -> str:
    """One value as text: three significant digits, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"
    return str(value)


def html_table(head: Sequence[str], rows: Iterable[Sequence[object]], caption: str) -> str:
    """A table that reads on any background; every text is escaped."""
    top = "".join(f'<th scope="col" style="{STYLE}">{escape(title)}</th>' for title in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{STYLE}">{escape(cell(item))}</td>' for item in row) + "</tr>"
        for row in rows
    )
    said = f"<caption>{escape(caption)}</caption>"
    return f"<table>{said}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def html_list(title: str, lines: Sequence[str]) -> str:
    """A list that opens on a click; nothing where there are no lines."""
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<details><summary>{escape(title)}</summary><ul>{items}</ul></details>"


def rows_html(rows: Sequence[Mapping[str, Any]], caption: str) -> str:
    """Rows as they are, as a table."""
    head = list(dict.fromkeys(name for row in rows for name in row))
    return html_table(head, [[row.get(name) for name in head] for row in rows], caption)


def data_frame(rows: Sequence[Row]) -> Any:
    """The rows as a pandas data frame. Raises MissingExtra where pandas is not installed."""
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtra("a data frame", "notebook") from None
    return pd.DataFrame(list(rows))
