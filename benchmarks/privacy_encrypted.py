"""What a linear head costs under CKKS: times, sizes and error, against NumPy."""

import time
from typing import Any

import numpy as np

from metainf.swarm.privacy.encrypted import Client, Server

HEADS = ((576, 2), (576, 16), (576, 128), (576, 576), (2048, 2), (2048, 16))
"""Inputs and outputs; 576 is the width of SmolLM2-135M, and [576, 576] its smallest matrix but one."""
REPEATS = 2


def rows() -> list[dict[str, Any]]:
    """Processor seconds (the least of some), bytes, and the largest error of an output."""
    begun = time.process_time()
    client = Client()
    public = client.public()
    keys_s = time.process_time() - begun
    rng = np.random.default_rng(7)
    made = []
    for inputs, outputs in HEADS:
        weights = rng.normal(0, inputs**-0.5, (outputs, inputs))
        bias, hidden = rng.normal(0, 1, outputs), rng.normal(0, 1, inputs)
        server = Server(public, weights, bias)
        encrypt_s, sent = timed(lambda x=hidden: client.encrypted(x))
        server_s, answer = timed(lambda s=server, c=sent: s.answer(c))
        decrypt_s, found = timed(lambda a=answer: client.decrypted(a))
        plain_s = plain(weights, bias, hidden)
        made.append({
            "inputs": inputs, "outputs": outputs, "keys_s": round(keys_s, 3), "keys_bytes": len(public),
            "encrypt_s": round(encrypt_s, 4), "server_s": round(server_s, 4),
            "decrypt_s": round(decrypt_s, 4), "plain_s": plain_s, "slowdown": round(server_s / plain_s),
            "sent_bytes": len(sent), "answer_bytes": sum(map(len, answer)), "f16_bytes": 2 * inputs,
            "error": float(np.abs(found - (weights @ hidden + bias)).max()),
        })  # fmt: skip
        print(made[-1], flush=True)
    return made


def timed(work: Any) -> tuple[float, Any]:
    """The least processor seconds of a few tries, and what came of it."""
    least, found = float("inf"), None
    for _ in range(REPEATS):
        begun = time.process_time()
        found = work()
        least = min(least, time.process_time() - begun)
    return least, found


def plain(weights: Any, bias: Any, hidden: Any, times: int = 2000) -> float:
    """Seconds of the same product in float32."""
    held, added, given = (each.astype(np.float32) for each in (weights, bias, hidden))
    begun = time.process_time()
    for _ in range(times):
        held @ given + added
    return (time.process_time() - begun) / times
