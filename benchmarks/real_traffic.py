"""Requests for real engines on a small machine: few for a while, then many, about a few documents."""

import random
from dataclasses import dataclass

SECONDS = 40.0
CALM_PER_S, RUSH_PER_S, CALM_S, RUSH_S = 0.25, 1.5, 12.0, 8.0
DOCUMENTS, DOCUMENT_TOKENS, OWN_WORDS, LEAST_OUT, MOST_OUT = 4, 64, 16, 12, 40
WORDS = ("old", "river", "field", "town", "rain", "people", "wait", "slow", "green", "past")


@dataclass(frozen=True)
class Job:
    """A request: when, its document (which others share), its own end, tokens to write."""

    at_s: float
    document: int
    prompt: str
    output_tokens: int


def text(seed: int, words: int) -> str:
    """Words by chance."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def jobs(seed: int, turn: int) -> list[Job]:
    """Arrivals by chance, by turns few and many; each asks about one of a few documents, which differ between
    turns."""
    rng, at_s, found = random.Random(seed), 0.0, list[Job]()
    most_per_s = max(CALM_PER_S, RUSH_PER_S)
    while (at_s := at_s + rng.expovariate(most_per_s)) < SECONDS:
        now_per_s = CALM_PER_S if at_s % (CALM_S + RUSH_S) < CALM_S else RUSH_PER_S
        if rng.random() * most_per_s > now_per_s:
            continue
        document = (100 * seed + turn) * DOCUMENTS + rng.randrange(DOCUMENTS)
        prompt = f"{text(document, DOCUMENT_TOKENS)} {text(rng.randrange(10**9), OWN_WORDS)}"
        found.append(Job(at_s, document, prompt, rng.randint(LEAST_OUT, MOST_OUT)))
    return found
