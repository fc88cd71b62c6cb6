"""The words of the section of docs/gateway.md that `bench_gateway` writes."""

from typing import Any

BAR_MS = 2.0
TTFT_MS, ITL_MS, TOKENS = 20, 5, 16


def page(report: dict[str, Any]) -> str:
    """The section of the page."""
    about, options = report["machine"], report["options"]
    where = f"{about['cores']} cores ({about['processor']}"
    columns = ("", "direct, ms", "gateway, ms", "added, ms", "in the rounds", "direct varies by")
    lines = [
        f"Made by `python benchmarks/bench_gateway.py --rounds {options['rounds']} --seconds "
        f"{options['seconds']:g} --rate {options['rate']:g} --write docs/gateway.md` on {where}), "
        f"Python {about['python']}: "
        f"answers of {TOKENS} tokens, the first after {TTFT_MS} ms and then one every {ITL_MS} ms, "
        f"{options['rate']:g} requests a second.",
        "",
        f"| {' | '.join(columns)} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for metric, name in (("ttft_ms", "to the first token"), ("e2e_ms", "to the end")):
        one = report[metric]
        lines.append(
            f"| median {name} | {one['direct']:.2f} | {one['gateway']:.2f} | {one['added']:.2f} | "
            f"{one['added_least']:.2f} to {one['added_most']:.2f} | {one['direct_spread']:.2f} |"
        )
    left = report["all_rounds"] - report["rounds"]
    told_rounds = f"{left} beside busier ones do not count."
    if not report["quiet"]:
        told_rounds = (
            "a quiet machine was not to be had, so all of them count. Programs that want the same cores wait "
            "for each other, and the gateway's way has one more of them to wait for."
        )
    bar = max(report["ttft_ms"]["added"], report["e2e_ms"]["added"])
    told = "met" if bar < BAR_MS else "missed"
    lines += [
        "",
        f"The bar, less than {BAR_MS:g} ms at the median, is {told}. p99 to the first token: "
        f"{report['ttft_p99_ms_direct']:.1f} ms directly, {report['ttft_p99_ms_gateway']:.1f} ms through the "
        f"gateway. Errors: {report['errors_direct']} and {report['errors_gateway']}. The gateway used "
        f"{report['gateway_cpu_ms_per_request']:.2f} ms of processor time for a request, all included; "
        f"{report['records_kept']:,} records were in the store when it had ended.",
        "",
        f"{_ended(report)}Other programs used {report['others_share']:.0%} of the cores in the median of "
        f"these {report['rounds']} rounds; {told_rounds} In the quietest, beside "
        f"{report['quietest']['share']:.0%}, the gateway added {report['quietest']['added_ttft_ms']:.2f} ms "
        "to the first token.",
    ]  # fmt: skip
    return "\n".join(lines)


def _ended(report: dict[str, Any]) -> str:
    """Why there are fewer rounds than were asked for."""
    options = report["options"]
    if report["rounds"] >= options["rounds"]:
        return ""
    return (
        f"Of the {options['rounds']} rounds asked for {report['rounds']} count: new ones are begun for "
        f"{options['patience']:g} s (`--patience`), which were over. "
    )
