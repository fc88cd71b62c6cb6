"""Numbers with units as people type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.cli.units import amount, seconds
from metainf.domain import BadInput

NUMBER = st.floats(1e-3, 1e6)


@pytest.mark.parametrize(
    ("text", "value"),
    [("500ms", 0.5), ("0.5s", 0.5), ("0.5", 0.5), (" 2 s ", 2.0), ("250us", 2.5e-4), ("250µs", 2.5e-4),
     ("2min", 120.0), (".5s", 0.5), ("5e2ms", 0.5)],
)  # fmt: skip
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "value"), [("4", 4.0), ("1.5k", 1500.0), ("2m", 2e6), ("1e3", 1000.0)])
def test_amounts(text: str, value: float) -> None:
    assert amount(text) == pytest.approx(value)


@given(NUMBER)
def test_units_agree(value: float) -> None:
    assert seconds(f"{value!r}s") == value == seconds(repr(value))
    assert seconds(f"{value!r}ms") == pytest.approx(value * 1e-3)
    assert seconds(f"{value!r}min") == pytest.approx(value * 60)
    assert amount(f"{value!r}k") == pytest.approx(value * 1e3)


@pytest.mark.parametrize(
    "text", ["", " ", "s", "fast", "0", "0ms", "-1s", "5 parsecs", "1,5s", "1 2s", "nan", "inf", "5MS", "1s2"]
)
def test_bad_durations_are_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        seconds(text)
    assert "500ms" in str(caught.value) and repr(text) in str(caught.value)


@given(st.text(max_size=10))
def test_any_text_is_a_positive_number_or_bad_input(text: str) -> None:
    for read in (seconds, amount):
        try:
            found = read(text)
        except BadInput as error:
            assert repr(text) in str(error)
        else:
            assert found is not None and found > 0


def test_nothing_stays_nothing() -> None:
    assert seconds(None) is None and amount(None) is None


@pytest.mark.parametrize("text", ["1e999", "1e306m"])
def test_infinity_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        amount(text)
