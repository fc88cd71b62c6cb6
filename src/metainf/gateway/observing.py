"""What the gateway tells of itself beside the service's counts and times."""

from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from metainf.service.observing import Gauges

STEPS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
OWN_STEPS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


class RouteGauges(Gauges):
    """Metrics by endpoint."""

    def __init__(self) -> None:
        super().__init__()
        add: dict[str, Any] = {"registry": self.registry}
        at = ("endpoint",)
        self.routed = Counter(
            "metainf_gateway_attempts", "Attempts, by how they ended.", ("endpoint", "result"), **add
        )
        self.retries = Counter(
            "metainf_gateway_retries", "Attempts after which another was made.", ("endpoint", "why"), **add
        )
        self.unrouted = Counter("metainf_gateway_unrouted", "Requests that nobody answered.", ("why",), **add)
        self.own = Histogram(
            "metainf_gateway_overhead_seconds",
            "The gateway's own part of the time to the first token: until the request leaves, and from the "
            "first token's arrival until it has been handed on.",
            buckets=OWN_STEPS_S, **add,
        )  # fmt: skip
        self.ttft = Histogram(
            "metainf_gateway_ttft_seconds", "Time to the first token.", at, buckets=STEPS_S, **add
        )
        self.e2e = Histogram("metainf_gateway_e2e_seconds", "Time to the end.", at, buckets=STEPS_S, **add)
        self.tokens = Counter("metainf_gateway_tokens", "Tokens.", ("endpoint", "way"), **add)
        self.usd = Counter("metainf_gateway_usd", "What answers cost.", at, **add)
        self.met = Counter("metainf_gateway_limits", "Limits kept or missed.", ("endpoint", "met"), **add)
        self.in_flight = Gauge("metainf_gateway_in_flight", "Requests in flight.", at, **add)
        self.open = Gauge("metainf_gateway_open", "1 where it may be asked now.", at, **add)
        self.unwritten = Gauge("metainf_gateway_outcomes_waiting", "Outcomes not in the store yet.", **add)
        self.lost = Counter("metainf_gateway_outcomes_lost", "Outcomes that the store would not take.", **add)
