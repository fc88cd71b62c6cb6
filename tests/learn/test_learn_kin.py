"""The process over related runs: what it carries over, and to whom."""

import json

import numpy as np
import pytest

from metainf.domain import Device, Hardware, Lengths, Method, Model, Workload
from metainf.domain.method import Disaggregation, Parallelism, Pool
from metainf.embed.columns import Columns, columns
from metainf.embed.physics import terms
from metainf.learn.kin import FEWEST, MOST, REASONS, Kin, Relations, relations

TARGETS = ("tpot", "ttft")


def runs(
    model: str, engine: str = "vllm", version: str = "1.0", loads: int = 16, pools: bool = False
) -> Columns:
    method = Method(engine=engine, engine_version=version, techniques=(Parallelism(tensor=2),))
    if pools:
        pool = Pool(workers=1, tensor=2)
        split = (Disaggregation(prefill=pool, decode=pool),)
        method = method.model_copy(update={"techniques": split})
    facts = Model(name=model, params_b=8.0, num_layers=32, hidden_size=4096, num_heads=32, num_kv_heads=8)
    work = [
        Workload(input_tokens=Lengths(mean=1000), output_tokens=Lengths(mean=200), concurrency=1.5**n)
        for n in range(loads)
    ]
    place = Hardware(device=Device(name="card", memory_gib=80, memory_bandwidth_gb_per_s=3000), count=4)
    return columns([facts] * loads, work, [place] * loads, [method] * loads)


def where(*parts: Columns) -> Relations:
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return relations(joined, terms(joined))


def fitted(shift: dict[str, float], **more: object) -> Kin:
    """A process that saw each model's times off by `shift` (log units)."""
    past = where(*(runs(name, **more) for name in shift))  # type: ignore[arg-type]
    left = np.repeat(list(shift.values()), len(past.pool) // len(shift))
    return Kin.fit(past, dict.fromkeys(TARGETS, left), np.ones(len(left)))


def total(kin: Kin, asked: Relations) -> np.ndarray:
    return kin.corrections(asked, TARGETS)["tpot"].sum(axis=1)


def test_what_a_model_left_is_carried_to_its_other_runs() -> None:
    kin = fitted({"fast": -0.4, "slow": 0.4})
    found = total(kin, where(runs("fast"), runs("slow")))
    assert found[:16] == pytest.approx(-0.4, abs=0.1)
    assert found[16:] == pytest.approx(0.4, abs=0.1)


def test_strangers_learn_little_and_other_engines_nothing() -> None:
    kin = fitted({"slow": 0.4})
    own, stranger = total(kin, where(runs("slow"))), total(kin, where(runs("new", version="2.0")))
    assert np.all(np.abs(stranger) < 0.5 * np.abs(own))
    assert np.all(total(kin, where(runs("slow", engine="sglang"))) == 0)
    assert np.all(total(kin, where(runs("slow", pools=True))) == 0)


def test_the_same_build_says_more_of_a_new_model_than_another_build() -> None:
    kin = fitted({"a": 0.4, "b": 0.4, "c": 0.4})
    same, other = (total(kin, where(runs("new", version=v))).mean() for v in ("1.0", "2.0"))
    assert same > other + 0.02 > 0


def test_repeats_count_once_and_broken_runs_are_cut() -> None:
    once = where(runs("a"))
    many = where(runs("a"), runs("a"), runs("a"))
    left = np.linspace(-0.2, 0.2, 16)
    one = Kin.fit(once, dict.fromkeys(TARGETS, left), np.ones(16))
    three = Kin.fit(many, {n: np.tile(left, 3) for n in TARGETS}, np.ones(48))
    assert np.allclose(total(one, once), total(three, once), atol=1e-5)
    broken = Kin.fit(once, {n: np.full(16, 50.0) for n in TARGETS}, np.ones(16))
    assert total(broken, once).max() < 1.05


def test_few_runs_say_nothing_and_many_are_thinned() -> None:
    few = where(runs("a", loads=FEWEST - 1))
    assert Kin.fit(few, {n: np.ones(FEWEST - 1) for n in TARGETS}, np.ones(FEWEST - 1)).pools == {}
    crowd = where(*(runs(f"m{i}", loads=16) for i in range(50)))
    kin = Kin.fit(crowd, {n: np.full(800, 0.3) for n in TARGETS}, np.ones(800))
    assert len(kin.pools["vllm"]["points"]) == MOST
    assert total(kin, where(runs("m7"))) == pytest.approx(0.3, abs=0.1)


def test_a_process_survives_json_bit_identically() -> None:
    kin = fitted({"a": 0.3, "b": -0.1})
    again = Kin(json.loads(json.dumps(kin.pools)))
    asked = where(runs("a"), runs("new", version="3"))
    assert np.array_equal(total(kin, asked), total(again, asked))


def test_parts_are_named_and_sized() -> None:
    kin = fitted({"a": 0.4, "b": -0.4})
    parts = kin.corrections(where(runs("a")), TARGETS)["ttft"]
    assert parts.shape == (16, len(REASONS))
    assert np.argmax(kin.sizes("tpot")) == REASONS.index("runs of this model")


def test_terms_tell_where_runs_stand() -> None:
    c = runs("a")
    found = relations(c, terms(c))
    names = [names[code] for names, code in zip(found.names, found.labels[0], strict=True)]
    assert set(found.pool.tolist()) == {"vllm"} and names == ["a", "vllm|1.0", "dense"]
    assert np.isfinite(found.points).all()
