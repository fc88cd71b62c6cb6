"""Activations on the wire: how far they may be off, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from metainf.domain import BadInput
from metainf.swarm.compute.codec import CODECS, GROUP, MOST_TOKENS, packed, size, unpacked

F16_TOP, F16_LEAST, BF16_LEAST = 65_000.0, 2.0**-14, 2.0**-126
widths = st.integers(1, 3 * GROUP + 1)
shapes = st.tuples(st.just(1), st.integers(1, 4), widths)
numbers = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False) | st.floats(
    -8, 8, width=32, allow_subnormal=False
)
activations = shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=numbers))


def back(values: NDArray[np.float32], codec: str) -> NDArray[np.float32]:
    shape, data = packed(values, codec)
    assert len(data) == size(values.shape[1], values.shape[2], codec)
    return unpacked(shape, codec, data)


def grouped(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest size in each number's group."""
    _, tokens, width = values.shape
    padded = np.zeros((tokens, -(-width // GROUP) * GROUP), dtype=np.float32)
    padded[:, :width] = np.abs(values[0])
    largest = padded.reshape(tokens, -1, GROUP).max(axis=2)
    return np.repeat(largest, GROUP, axis=1)[:, :width].reshape(values.shape)


@given(values=activations)
def test_float32_comes_back_as_it_was(values: NDArray[np.float32]) -> None:
    assert np.array_equal(back(values, "f32"), values)


@given(values=activations)
def test_half_precision_keeps_eleven_bits(values: NDArray[np.float32]) -> None:
    values = np.clip(values, -F16_TOP, F16_TOP)
    error = np.abs(back(values, "f16") - values)
    assert (error <= np.maximum(np.abs(values), F16_LEAST) * 2.0**-11).all()


@given(values=activations)
def test_bfloat16_keeps_eight_bits(values: NDArray[np.float32]) -> None:
    error = np.abs(back(values, "bf16").astype(np.float64) - values)
    assert (error <= np.maximum(np.abs(values), BF16_LEAST) * 2.0**-8).all()


def test_bfloat16_is_that_of_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra swarm")
    bits = np.random.default_rng(1).integers(0, 2**32, 200_000, dtype=np.uint32)
    values = bits.view(np.float32).reshape(1, 1000, -1)
    expected = torch.from_numpy(values.copy()).bfloat16().float().numpy()
    assert np.array_equal(back(values, "bf16"), expected, equal_nan=True)


@given(values=activations)
def test_int8_is_off_by_half_a_step_of_its_group(values: NDArray[np.float32]) -> None:
    error = np.abs(back(values, "int8").astype(np.float64) - values)
    largest = grouped(values).astype(np.float64)
    assert (error <= largest / 254 * (1 + 1e-5) + 1e-40).all()
    again = back(back(values, "int8"), "int8")
    assert np.allclose(again, back(values, "int8"), rtol=1e-5, atol=1e-38), "twice is not once"


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_never_arrives_as_one(codec: str, wrong: float) -> None:
    values = np.ones((1, 2, GROUP + 3), dtype=np.float32)
    values[0, 1, 5] = wrong
    try:
        made = back(values, codec)
    except BadInput:
        return
    assert not np.isfinite(made[0, 1, 5])


@settings(max_examples=300)
@given(
    codec=st.sampled_from([*CODECS, "int4", ""]),
    shape=st.lists(st.integers(-1, 3 * GROUP) | st.sampled_from([2**31, MOST_TOKENS + 1]), max_size=4),
    data=st.binary(max_size=2 * GROUP + 40),
)
def test_whatever_comes_is_read_or_refused(codec: str, shape: list[int], data: bytes) -> None:
    try:
        made = unpacked(shape, codec, data)
    except BadInput:
        return
    assert made.shape == tuple(shape) and made.dtype == np.float32
    assert codec != "int8" or np.isfinite(made).all()


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, 3e38])
def test_scales_that_are_none_are_refused(scale: float) -> None:
    shape, data = packed(np.ones((1, 1, 8), dtype=np.float32), "int8")
    with pytest.raises(BadInput, match="scales"):
        unpacked(shape, "int8", np.float32(scale).tobytes() + data[4:])


@pytest.mark.parametrize("codec", CODECS)
def test_a_byte_more_or_less_is_refused(codec: str) -> None:
    shape, data = packed(np.ones((1, 3, GROUP + 1), dtype=np.float32), codec)
    for wrong in (data[:-1], data + b"\0", b""):
        with pytest.raises(BadInput, match="bytes"):
            unpacked(shape, codec, wrong)


def test_bytes_of_a_token() -> None:
    assert [size(1, 576, codec) for codec in CODECS] == [2304, 1152, 1152, 612]
    with pytest.raises(BadInput, match="f32, f16, bf16, int8"):
        size(1, 576, "f64")
