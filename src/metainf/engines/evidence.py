"""What an engine says that it did, read from its own metrics and log, and what that proves of a method.

Every engine that can be measured reads its own words into an `Evidence`; a technique that was asked for
and does not show in it was not measured.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """Texts from a running engine: its log, and its metrics before and after the timed requests."""

    log: str = ""
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Evidence:
    """The engine's own account of the timed requests; None where it does not say.

    `continuous`     requests joined a running batch (False: they waited until it was done)
    `peak_running`, `mean_running`  requests in the engine at once
    `step_tokens`    most tokens of one prefill step; `context_tokens` is all that the engine can hold
    `prompt_tokens`  of the timed requests, those found in the cache (`prefix_hit_tokens`) included
    """

    version: str | None = None
    max_sequences: int | None = None
    continuous: bool | None = None
    peak_running: float | None = None
    mean_running: float | None = None
    step_tokens: int | None = None
    context_tokens: int | None = None
    chunked_prefill: bool | None = None
    prefix_cache: bool | None = None
    prompt_tokens: float | None = None
    prefix_hit_tokens: float | None = None
    speculative: str | None = None
    drafted_tokens: float | None = None
    accepted_tokens: float | None = None
    weight_format: str | None = None
    kv_format: str | None = None
    attention: str | None = None
    precision: str | None = None
    tensor: int | None = None
    pipeline: int | None = None

    @property
    def hit_rate(self) -> float | None:
        """Share of the prompt tokens that came from the prefix cache."""
        if not self.prompt_tokens or self.prefix_hit_tokens is None:
            return None
        return self.prefix_hit_tokens / self.prompt_tokens

    @property
    def acceptance(self) -> float | None:
        """Share of the drafted tokens that were accepted."""
        if not self.drafted_tokens or self.accepted_tokens is None:
            return None
        return self.accepted_tokens / self.drafted_tokens
