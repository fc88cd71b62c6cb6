"""The page of result formats, from the table of importers: `python -m metainf.importers.reference`."""

from importlib import import_module

from metainf.importers import IMPORTERS, traces
from metainf.importers.long_table import METRICS
from metainf.importers.long_table_method import COLUMNS

HEAD = """\
# Result files and traces

Written by `python -m metainf.importers.reference`; a test fails where it is stale.

`metainf import FILE` finds the format out; `--format NAME` states it. Every row of a file becomes a record
or is rejected with a reason, and the table that the command prints accounts for all of them. `--dry-run`
stores nothing. What a file does not say, `--model`, `--hardware` ("2xH100") and `--engine` do; what
neither says stays unknown.

In every format: null, nothing and 0 mean *not measured*; NaN, infinity and negative numbers reject the
row; latencies are kept in seconds, rates as those of all devices together; a run of which the file says
that every request failed is a failure, which is a record too. "The context" below are those flags.
"""
TRACES = """\
## Request traces

A trace of requests is a workload, not a result: `--workload FILE`, or `metainf workloads show FILE`.
"""


def page() -> str:
    """The whole page: one section a format, in the words of its own module."""
    parts = [HEAD]
    for name, target in IMPORTERS.items():
        module = import_module(target.partition(":")[0])
        parts.append(f"## {name}\n\n{(module.__doc__ or '').strip()}\n")
        keys = getattr(module, "KEYS", None)
        if keys:
            parts.append(f"Recognised by {', '.join(f'`{key}`' for key in sorted(keys))}.\n")
        if name == "long-table":
            parts.append(_columns())
    parts += [TRACES, f"{(traces.__doc__ or '').strip()}\n"]
    return "\n".join(parts)


def _columns() -> str:
    """What the columns of the long table are called and become."""
    rows = [f"| `{column}` | `{metric}` |" for column, metric in METRICS.items()]
    techniques = ", ".join(f"`{column}`" for column in COLUMNS)
    return "\n".join(
        ["| column | metric |", "| --- | --- |", *rows, "", f"Technique columns: {techniques}.", ""]
    )


if __name__ == "__main__":
    print(page(), end="")
