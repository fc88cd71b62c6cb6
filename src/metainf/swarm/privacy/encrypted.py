"""A linear head over an encrypted activation: CKKS with TenSEAL (extra `he`).

The client encrypts one activation and keeps the secret key; the server, which holds the weights, computes
W·Enc(x) + b and never sees x or the answer. The parameters give 128 bits of security by the Homomorphic
Encryption Standard (ring of 8,192, 160 bits of modulus where 218 are allowed). CKKS is approximate: who
gives decrypted numbers back to the server weakens the key (Li and Micciancio, EUROCRYPT 2021).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput, MissingExtra

RING, MODULUS_BITS, SCALE_BITS = 8192, (60, 40, 60), 40
MOST_NUMBERS = RING // 2
MOST_BYTES = 256 * 2**20
LARGEST = 2.0**12
"""Of an input, a weight or an answer: beyond, the modulus has no room above the scale."""
Numbers = NDArray[np.float64]


def _tenseal() -> Any:
    try:
        import tenseal
    except ImportError:
        raise MissingExtra("a head under homomorphic encryption", "he") from None
    return tenseal


class Client:
    """Who has the secret key and the activation."""

    def __init__(self) -> None:
        """Make keys. Raises MissingExtra."""
        self._ts = _tenseal()
        self._context = self._ts.context(
            self._ts.SCHEME_TYPE.CKKS, poly_modulus_degree=RING, coeff_mod_bit_sizes=list(MODULUS_BITS)
        )
        self._context.global_scale = 2**SCALE_BITS
        self._context.generate_galois_keys()

    def public(self) -> bytes:
        """What the server needs, without the secret key."""
        return bytes(self._context.serialize(save_secret_key=False))

    def encrypted(self, activation: Any) -> bytes:
        """[width] numbers as a ciphertext. Raises BadInput for too many or too large ones."""
        return bytes(self._ts.ckks_vector(self._context, _vector(activation).tolist()).serialize())

    def decrypted(self, answer: Sequence[bytes]) -> Numbers:
        """[outputs] of the head. Raises BadInput for what is no ciphertext of these keys."""
        return np.concatenate([_read(self._ts, self._context, each).decrypt() for each in answer])


class Server:
    """Who has the weights."""

    def __init__(self, public: bytes, weights: Any, bias: Any) -> None:
        """`weights` [outputs, inputs], `bias` [outputs]. Raises BadInput and MissingExtra."""
        self._ts = _tenseal()
        held, added = np.asarray(weights, dtype=np.float64), _vector(bias)
        if held.ndim != 2 or not 0 < held.shape[1] <= MOST_NUMBERS or held.shape[0] != len(added):
            raise BadInput(
                f"expected weights of [outputs, 1-{MOST_NUMBERS}] and a bias for each output, found "
                f"{list(held.shape)} and {len(added)}"
            )
        _check(held)
        self._rows, self._bias, self._inputs = held.tolist(), added.tolist(), held.shape[1]
        self._few = len(added) * math.log2(RING) < self._inputs
        self._columns = [] if self._few else held.T.tolist()
        if len(public) > MOST_BYTES:
            raise BadInput(f"expected keys of at most {MOST_BYTES:,} bytes, found {len(public):,}")
        try:
            self._context = self._ts.context_from(public)
            secret = self._context.is_private()
        except (ValueError, RuntimeError) as error:
            raise BadInput(f"expected public keys of CKKS: {error}") from None
        if secret:
            raise BadInput("expected public keys, found a secret one: never send it")

    def answer(self, activation: bytes) -> tuple[bytes, ...]:
        """The head's outputs, encrypted: of few outputs a ciphertext each, which takes a rotation for each
        doubling of the width, else one for all, which takes one for each input.

        Raises BadInput for what is no ciphertext of these keys and width."""
        read = _read(self._ts, self._context, activation)
        if read.size() != self._inputs:
            raise BadInput(f"expected a ciphertext of {self._inputs} numbers, found {read.size()}")
        if self._few:
            pairs = zip(self._rows, ([each] for each in self._bias), strict=True)
            return tuple(bytes((read.dot(row) + bias).serialize()) for row, bias in pairs)
        return (bytes((read.matmul(self._columns) + self._bias).serialize()),)


def _read(ts: Any, context: Any, data: bytes) -> Any:
    if len(data) > MOST_BYTES:
        raise BadInput(f"expected a ciphertext of at most {MOST_BYTES:,} bytes, found {len(data):,}")
    try:
        return ts.ckks_vector_from(context, data)
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"expected a ciphertext of CKKS: {error}") from None


def _vector(values: Any) -> Numbers:
    made = np.asarray(values, dtype=np.float64)
    if made.ndim != 1 or not 0 < len(made) <= MOST_NUMBERS:
        raise BadInput(f"expected a row of 1 to {MOST_NUMBERS} numbers, found {list(made.shape)}")
    _check(made)
    return made


def _check(values: Numbers) -> None:
    largest = float(np.abs(values).max())
    if not math.isfinite(largest) or largest > LARGEST:
        raise BadInput(f"expected finite numbers up to {LARGEST:g}, found {largest:g}: scale them")
