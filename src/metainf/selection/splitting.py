"""What a language model costs whose first blocks and head run at the client. Pure.

The server keeps its share of the weights that a token passes, and with it that share of its predicted times;
the client adds its own blocks and head, one round trip a token, and the activations on its line, the whole
prompt's before the first token. The client calculates one text in float32, as the swarm's does: a token
reads its weights once (memory-bound), a prompt multiplies by them (compute-bound); READ and COMPUTED are the
usual shares of the rated speeds. Lookups of the embedding are nothing.

Throughput: with so many requests in flight, a longer request means fewer a second (Little's law), however
much room the server gains; so it grows by at most the share that the server no longer runs, and falls where
the client and the line make requests longer. With a rate of arrivals it is the arrivals'.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from metainf.domain import BadInput, ClientPart, Estimate, Hardware, Model, Prediction, PrivacyAsked, Workload
from metainf.selection.outlook import Outlook
from metainf.selection.spread import Z90, Floats, Spread

BYTES, GIB = 4, 2**30
"""Of a weight or an activation in float32."""
READ, COMPUTED = 0.7, 0.5
RATES = ("output_tokens_per_s", "total_tokens_per_s", "requests_per_s", "goodput_per_s")
TIMES = ("ttft", "tpot", "itl", "e2e")
Metric = Callable[[str], Spread]


@dataclass(frozen=True)
class Sizes:
    """Weights of a language model: of one block, those of a block that a token passes, of the head, of all
    tables, and the width of an activation."""

    blocks: int
    block: float
    passed: float
    head: float
    tables: float
    width: int

    def share(self, keep: int) -> float:
        """Of the weights that a token passes, those of the first `keep` blocks and the head."""
        return (keep * self.passed + self.head) / (self.blocks * self.passed + self.head)


def sizes_of(model: Model) -> Sizes:
    """Raises BadInput where a fact is not known."""
    facts = ("num_layers", "hidden_size", "vocab_size", "params_b")
    lacking = [name for name in facts if getattr(model, name) is None]
    if lacking:
        raise BadInput(f"expected {', '.join(lacking)} of {model.name} to split it, found none")
    blocks, width = int(model.num_layers or 0), int(model.hidden_size or 0)
    head = float(width * (model.vocab_size or 0))
    tables = head if model.tie_embeddings else 2 * head
    total = (model.params_b or 0) * 1e9
    active = (model.active_params_b or model.params_b or 0) * 1e9
    if active <= tables:
        raise BadInput(f"expected more than the {tables:,.0f} weights of its tables of {model.name}")
    return Sizes(blocks, (total - tables) / blocks, (active - tables) / blocks, head, tables, width)


@dataclass(frozen=True)
class Split:
    """Both sides of a split model; `applied` is what a server's forecast becomes."""

    client: ClientPart
    tokens_out: float
    closed: bool

    def applied(self, plain: Outlook) -> tuple[Outlook, Floats]:
        """The outlook with the class, and by which factor the throughput of each candidate changes."""
        with np.errstate(divide="ignore", invalid="ignore"):
            before, after = self._request(plain.metric), self._request(lambda name: self._time(plain, name))
            most = 1 / max(1 - self.client.share, 1e-9)
            factor = np.minimum(before / after, most) if self.closed else np.ones_like(before)
        factor = np.where(np.isfinite(factor), factor, 1.0)

        def metric(name: str) -> Spread:
            return plain.metric(name).times(factor) if name in RATES else self._time(plain, name)

        def predictions(rows: Sequence[int]) -> list[Prediction]:
            found = plain.predictions(rows)
            return [
                one.model_copy(update={"metrics": _metrics(one.metrics, outlook.metric, i)})
                for i, one in zip(rows, found, strict=True)
            ]

        outlook = Outlook(plain.p_ok, metric, predictions)
        return outlook, factor

    def _request(self, metric: Metric) -> Floats:
        """Seconds of a whole request: predicted, else its first token and the tokens after it."""
        rest = metric("tpot_s").times(max(self.tokens_out - 1, 1e-9))
        return metric("e2e_s").or_else(metric("ttft_s").plus(rest)).median

    def _time(self, plain: Outlook, name: str) -> Spread:
        """A time of the server's share and the client's; what is no time is not known of a split model."""
        kind, found = name.split("_")[0], plain.metric(name)
        part = self.client
        first = part.seconds_to_first_token + part.line_seconds_to_first_token
        token = part.seconds_per_token + part.line_seconds_per_token
        more = {
            "ttft": first,
            "tpot": token,
            "itl": token,
            "e2e": first + max(self.tokens_out - 1, 0) * token,
        }
        if kind not in TIMES:
            unknown = np.full(len(plain.p_ok), np.nan)
            return Spread.from_logs(unknown, unknown, unknown)
        bounds = (found.median, found.quantile(-Z90), found.quantile(Z90))
        return Spread.from_bounds(*((1 - part.share) * side + more[kind] for side in bounds))


def _metrics(plain: dict[str, Estimate], metric: Metric, row: int) -> dict[str, Estimate]:
    found = {name: metric(name).estimate(row) for name in plain}
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def split_of(model: Model, asked: PrivacyAsked, client: Hardware, work: Workload) -> Split:
    """Both sides of the split that is asked for. Raises BadInput where the client's machine is not known
    well enough, cannot hold its part, or no block would be left for the server."""
    sizes = sizes_of(model)
    if asked.keep >= sizes.blocks:
        raise BadInput(
            f"expected 1 to {sizes.blocks - 1} of the {sizes.blocks} blocks of {model.name} at the client, "
            f"found {asked.keep}: all of them need no server"
        )
    prompt = work.input_tokens.mean if work.input_tokens is not None else 1.0
    answer = work.output_tokens.mean if work.output_tokens is not None else 1.0
    gib = (asked.keep * sizes.block + sizes.tables) * BYTES / GIB
    read_per_s, flop_per_s = _speeds(client, gib)
    passed = asked.keep * sizes.passed + sizes.head
    token_s = max(passed * BYTES / read_per_s, 2 * passed / flop_per_s)
    first = asked.keep * sizes.passed
    first_s = max(asked.keep * sizes.block * BYTES / read_per_s, 2 * first * prompt / flop_per_s)
    head_s = max(sizes.head * BYTES / read_per_s, 2 * sizes.head / flop_per_s)
    sent_s = sizes.width * BYTES * 8 / (asked.client_mbit_s * 1e6)
    rtt_s = asked.client_rtt_ms / 1000
    part = ClientPart(
        hardware=client.device.name,
        share=sizes.share(asked.keep),
        seconds_per_token=token_s,
        seconds_to_first_token=first_s + head_s,
        line_seconds_per_token=rtt_s + 2 * sent_s,
        line_seconds_to_first_token=rtt_s + (prompt + 1) * sent_s,
        bytes_per_token=2 * sizes.width * BYTES,
        memory_gib=gib,
        rtt_ms=asked.client_rtt_ms,
        mbit_s=asked.client_mbit_s,
    )
    return Split(part, answer, work.request_rate_per_s is None)


def _speeds(client: Hardware, gib: float) -> tuple[float, float]:
    """Bytes and operations per second that the client's machine reaches."""
    device = client.device
    if (client.count or 1) != 1:
        raise BadInput(f"expected one device at the client, found {client.count} of {device.name}")
    flops = device.fp32_tflops or device.fp16_tflops or device.bf16_tflops
    known = {"memory_bandwidth_gb_per_s": device.memory_bandwidth_gb_per_s, "fp32_tflops": flops}
    lacking = [name for name, value in known.items() if value is None]
    if lacking:
        raise BadInput(
            f"expected {' and '.join(lacking)} of the client's {device.name}, found none: describe it in a "
            ".toml file, or name another device"
        )
    if device.memory_gib is not None and gib > device.memory_gib:
        raise BadInput(
            f"expected a client with {gib:.1f} GiB for its blocks, embedding and head in float32, found "
            f"{device.memory_gib:g} GiB on {device.name}: keep fewer blocks"
        )
    return (device.memory_bandwidth_gb_per_s or 0) * 1e9 * READ, (flops or 0) * 1e12 * COMPUTED
