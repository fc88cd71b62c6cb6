"""How like real digits drawn ones are: the figure falls with sameness, noise and wrong digits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'metainf[images]'")

from metainf.catalog.digits import classifier_accuracy, real_resemblance
from metainf.measure.recognising import own_accuracy, parts, recognised
from metainf.measure.resembling import Resemblance, own_resemblance, resemblance, unseen

EACH = 20
LABELS = [place % 10 for place in range(10 * EACH)]


def real(place: int = 0) -> np.ndarray:
    """Real digits in the order of LABELS, from those that the models learnt from."""
    seen = parts()[0]
    of = {label: seen.pictures[seen.labels == label][place:] for label in range(10)}
    return np.stack([of[label][turn // 10] for turn, label in enumerate(LABELS)])


def means() -> np.ndarray:
    """For each label the mean of its class."""
    seen = parts()[0]
    return np.stack([seen.pictures[seen.labels == label].mean(axis=0) for label in LABELS])


def of(pictures: np.ndarray, labels: list[int] = LABELS) -> Resemblance:
    found = resemblance(pictures.astype(np.float32), labels)
    assert found is not None
    return found


def test_real_digits_come_near_the_most_and_others_than_these_judge_them() -> None:
    first, second = of(real()), of(real(EACH))
    assert min(first.f1, second.f1) > 0.8 and abs(first.f1 - second.f1) < 0.1
    kept = {picture.tobytes() for picture in unseen().pictures}
    assert not kept & {picture.tobytes() for picture in parts()[0].pictures}
    best = own_resemblance(EACH)
    assert best is not None and best.f1 == pytest.approx(real_resemblance(), abs=1e-3)
    assert own_accuracy() == pytest.approx(classifier_accuracy(), abs=1e-3)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_the_same_few_pictures_again_and_again_cover_nothing(kept: int) -> None:
    """All of them are real and recognised; the figure still knows."""
    pictures = real().reshape(EACH, 10, 8, 8)[np.arange(EACH) % kept].reshape(-1, 8, 8)
    assert recognised(pictures, LABELS) > 0.9 and of(pictures).true > 0.7
    assert of(pictures).covered == of(pictures).f1 == 0


def test_the_mean_of_each_class_is_recognised_and_covers_nothing() -> None:
    assert recognised(means(), LABELS) == 1 and of(means()).true == 1
    assert of(means()).f1 == 0


def test_the_nearer_to_the_mean_the_less_is_covered() -> None:
    found = [of(share * real() + (1 - share) * means()).f1 for share in (1.0, 0.8, 0.6, 0.4)]
    assert found == sorted(found, reverse=True) and found[0] > found[-1] + 0.5, found


def test_the_more_noise_the_less_is_true() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(real().shape)
    found = [of(np.clip(real() + scale * noise, 0, 1)) for scale in (0.0, 0.2, 0.4)]
    assert found[0].true > found[1].true > found[2].true and found[0].f1 > found[1].f1 > found[2].f1
    assert of(rng.random(real().shape)).f1 == 0


def test_digits_that_were_not_asked_for_are_not_true() -> None:
    assert of(real(), [(label + 1) % 10 for label in LABELS]).true < 0.05


def test_broken_pictures_are_not_true() -> None:
    broken = real().copy()
    broken[: len(broken) // 2] = np.nan
    assert 0.3 < of(broken).true < 0.55 and of(np.full_like(broken, np.nan)).f1 == 0


def test_too_few_of_a_class_tell_nothing() -> None:
    assert resemblance(real()[:30], LABELS[:30]) is None
    assert resemblance(real()[:0], []) is None
    assert resemblance(real()[:40], LABELS[:40]) is not None


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_pictures_does_not_count_and_nothing_is_left_to_chance(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(LABELS))
    assert of(real()[order], [LABELS[place] for place in order.tolist()]) == of(real())
