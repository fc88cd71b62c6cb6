"""The measured tables of docs/privacy.md."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metainf.swarm.privacy.measured import attacks, table, what
from metainf.swarm.privacy.words import CLASSES, is_private

COMMAND = "python benchmarks/bench_swarm_privacy.py"


def write(page: Path) -> None:
    """Renew what stands between the marks."""
    text = page.read_text(encoding="utf-8")
    for name, lines in {
        "classes": classes(), "attacks": attacked(), "split": split(), "encrypted": encrypted(),
    }.items():  # fmt: skip
        begin, end = f"<!-- {name}: written by {COMMAND} --write -->", f"<!-- end of {name} -->"
        before, rest = text.split(begin)
        text = "\n".join([before + begin, *lines, end]) + rest.split(end)[1]
    page.write_text(text, encoding="utf-8")


def classes() -> Iterable[str]:
    yield "| class | hides | does not hide | cost | read back by the attack | may be called private |"
    yield "| --- | --- | --- | --- | ---: | --- |"
    for name in CLASSES:
        each = what(name)
        share = "not measured" if each.recovery is None else f"{each.recovery:.0%}"
        yield (
            f"| `{name}` | {each.protects} | {each.exposes} | {each.cost} | {share} | "
            f"{'yes' if each.private else 'no'} |"
        )


def attacked() -> Iterable[str]:
    told = table("recovery")
    yield f"`{told['source']}`, on {told['machine']}:"
    yield ""
    yield (
        "| blocks at the client | what is sent | tokens read back | 95 % bound | candidates a token | "
        "processor seconds a token | next tokens that stay | private |"
    )
    yield "| ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for row in sorted(attacks(), key=lambda each: (each.blocks, each.permuted, each.noise, each.codec)):
        parts = [row.codec] + ([f"noise {row.noise:.0%}"] if row.noise else [])
        sent = ", ".join(parts + (["permuted channels"] if row.permuted else []))
        limit = f" (at most {row.most:,})" if row.most else ""
        kept = "" if row.same_next is None else f"{row.same_next:.0%}"
        yield (
            f"| {row.blocks} | {sent} | {row.recovered} of {row.tokens} ({row.share:.0%}) | "
            f"{row.most_likely_below:.0%} | {row.tried_per_token:,.0f}{limit} | "
            f"{row.seconds_per_token:.2g} | {kept} | {'yes' if is_private([row]) else 'no'} |"
        )


def split() -> Iterable[str]:
    told = table("split")
    yield f"`{told['source']}`, on {told['machine']}, processor milliseconds a token after 64 others:"
    yield ""
    yield (
        "| blocks at the client | client: blocks | client: head | nodes | client's share | bytes up | "
        "bytes down | logits would be |"
    )
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in told["rows"]:
        mine = row["client_blocks_ms"] + row["client_head_ms"]
        yield (
            f"| {row['blocks']} of {row['num_blocks']} | {row['client_blocks_ms']:.1f} | "
            f"{row['client_head_ms']:.1f} | {row['nodes_ms']:.1f} | {mine / (mine + row['nodes_ms']):.0%} | "
            f"{row['bytes_up']:,} | {row['bytes_down']:,} | {row['bytes_logits']:,} |"
        )


def encrypted() -> Iterable[str]:
    told = table("encrypted")
    rows: list[dict[str, Any]] = told["rows"]
    yield (
        f"`{told['source']}`, on {told['machine']}; keys take {rows[0]['keys_s']:.2f} s, public ones are "
        f"{rows[0]['keys_bytes'] / 2**20:.1f} MiB and sent once:"
    )
    yield ""
    yield (
        "| head | encrypt | server | decrypt | plain product | slower | sent (f16 would be) | answer | "
        "largest error |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        yield (
            f"| {row['inputs']} → {row['outputs']} | {row['encrypt_s'] * 1000:.1f} ms | "
            f"{row['server_s']:.2f} s | {row['decrypt_s'] * 1000:.1f} ms | "
            f"{row['plain_s'] * 1e6:.1f} µs | {row['slowdown']:,}× | "
            f"{row['sent_bytes'] / 1000:.0f} kB ({row['f16_bytes'] / 1000:.1f} kB) | "
            f"{row['answer_bytes'] / 1000:.0f} kB | {row['error']:.1g} |"
        )
