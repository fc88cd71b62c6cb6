"""Proofs with TOPLOC, where the extra is installed and fits the PyTorch that is there."""

import numpy as np
import pytest

from metainf.domain import BadInput, MissingExtra

pytest.importorskip("torch", reason="needs the extra swarm")
pytest.importorskip("transformers", reason="needs the extra swarm")

from audit_place import small_model

from metainf.swarm.trust.audit_calibrating import Plan, Workshop, honest, lying
from metainf.swarm.trust.audit_toploc import proofs, verified
from metainf.swarm.words import Profile

PLAN = Plan(audits=16, most_tokens=70, lies=10)


def needs_the_extra() -> None:
    pytest.importorskip("toploc", reason="needs the extra toploc", exc_type=ImportError)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(small_model(tmp_path_factory.mktemp("llama")), Profile(dtype="float32", codec="f32"))


def test_without_the_extra_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "toploc", None)
    with pytest.raises(MissingExtra, match="toploc"):
        proofs(np.ones((1, 4, 64), np.float32))


def test_honest_proofs_hold_and_are_small(shop: Workshop) -> None:
    needs_the_extra()
    for claimed, replayed in honest(shop, "f32", PLAN, np.random.default_rng(1)):
        made = proofs(claimed)
        assert len(made) == -(-claimed.shape[1] // 32) and all(len(each) < 300 for each in made)
        assert verified(made, replayed).honest


def test_cheapened_and_other_texts_are_found(shop: Workshop) -> None:
    needs_the_extra()
    pairs = [pair for pair in lying(shop, "f32", PLAN, np.random.default_rng(2)) if pair[0].shape[1] >= 8]
    assert len(pairs) >= 4
    for claimed, replayed in pairs:
        assert not verified(proofs(claimed), replayed).honest
    short, long = sorted(pairs, key=lambda pair: pair[0].shape[1])[:: len(pairs) - 1]
    assert not verified(proofs(short[1]), long[1][:, : short[1].shape[1]]).honest


def test_broken_proofs_are_refused(shop: Workshop) -> None:
    needs_the_extra()
    values = np.random.default_rng(3).normal(size=(1, 40, 64)).astype(np.float32)
    made = proofs(values)
    assert verified(made, values).honest
    for broken in ([], made[:1], [b"", b""], [b"\x00" * 258] * 2, [made[1], made[0]], [made[0][:-1]] * 2):
        assert not verified(broken, values).honest
    with pytest.raises(BadInput):
        proofs(values * np.nan)
