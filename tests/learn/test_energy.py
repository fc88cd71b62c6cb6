"""Energy: the power of a device rises with its work, never passes its TDP, and is unknown without one."""

import numpy as np
import pytest

from metainf.domain import (
    ArtifactError,
    BadInput,
    Device,
    Hardware,
    Lengths,
    Measured,
    Method,
    Metrics,
    Model,
    Provenance,
    Record,
    Setting,
    Workload,
)
from metainf.embed.columns import Columns, columns
from metainf.embed.physics import terms
from metainf.learn.energy import EnergyLearner, devices_of, share_of_tdp, work
from metainf.learn.forecast import Forecast
from metainf.learn.table import Table, table

SIZES = {"m3": 3.0, "m8": 8.0, "m14": 14.0, "m32": 32.0}
DEVICES = {
    name: Device(name=name, memory_gib=80, memory_bandwidth_gb_per_s=bandwidth, bf16_tflops=flops, tdp_w=tdp)
    for name, bandwidth, flops, tdp in (("old", 1500.0, 300.0, 400.0), ("new", 3300.0, 990.0, 700.0))
}
TRUE = np.log(np.array([0.3, 2.0, 2.0, 1.5, 1.0]))


def asked(size: float, device: Device, load: float, count: int = 1) -> Columns:
    model = Model(
        name=f"m{size:g}", params_b=size, num_layers=32, hidden_size=4096, num_heads=32, num_kv_heads=8,
        vocab_size=100_000,
    )  # fmt: skip
    job = Workload(input_tokens=Lengths(mean=500), output_tokens=Lengths(mean=200), concurrency=load)
    return columns([model], [job], [Hardware(device=device, count=count)], [Method(engine="vllm")])


def rate_of(size: float, load: float) -> float:
    return 3000.0 / size * load / (1 + load / 64)


def history(share: float = 1.0) -> Table:
    """64 runs whose power obeys the law exactly, scaled by `share`."""
    records = []
    for name, size in SIZES.items():
        for device in DEVICES.values():
            for load in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0):
                found, rate = asked(size, device, load), rate_of(size, load)
                part = share_of_tdp(TRUE, work(terms(found)), np.array([rate]))[0] * share
                joules = part * (device.tdp_w or 0) / rate
                records.append(_record(name, size, device, load, (rate, float(joules))))
    return table(records)


def _record(name: str, size: float, device: Device, load: float, found: tuple[float, float]) -> Record:
    model = Model(
        name=name, params_b=size, num_layers=32, hidden_size=4096, num_heads=32, num_kv_heads=8,
        vocab_size=100_000,
    )  # fmt: skip
    job = Workload(input_tokens=Lengths(mean=500), output_tokens=Lengths(mean=200), concurrency=load)
    return Record(
        setting=Setting(model=model, workload=job, hardware=Hardware(device=device, count=1)),
        method=Method(engine="vllm"),
        outcome=Measured(metrics=Metrics(output_tokens_per_s=found[0], energy_j_per_token=found[1])),
        provenance=Provenance(source="made-up"),
    )


def forecast_of(found: Columns, rate: float, scale: float = 0.1) -> Forecast:
    t = terms(found)
    e2e = np.log(t["conc"] * t["osl"] / rate)
    names = {"output_tokens_per_s": np.log(np.full(len(e2e), rate)), "e2e_s": e2e}
    return Forecast(names, {name: np.full(len(e2e), scale) for name in names}, np.ones(len(e2e)), t)


@pytest.fixture(scope="module")
def learner() -> EnergyLearner:
    return EnergyLearner().fit(history())


def test_a_known_law_is_recovered(learner: EnergyLearner) -> None:
    for load in (1.0, 16.0, 128.0):
        found = asked(8.0, DEVICES["new"], load)
        said = learner.add(found, forecast_of(found, rate_of(8.0, load)))
        truth = share_of_tdp(TRUE, work(terms(found)), np.array([rate_of(8.0, load)]))[0] * 700.0
        assert np.exp(said.log_median["power_w"][0]) == pytest.approx(truth, rel=0.1)


def test_power_is_energy_times_rate_and_stays_below_the_tdp(learner: EnergyLearner) -> None:
    for rate in (10.0, 1e3, 1e5):
        found = asked(32.0, DEVICES["old"], 64.0, count=4)
        said = learner.add(found, forecast_of(found, rate))
        power, joules = (np.exp(said.log_median[name][0]) for name in ("power_w", "energy_j_per_token"))
        assert power == pytest.approx(joules * rate)
        assert power <= 4 * 400.0
        assert np.exp(said.log_median["energy_j_per_request"][0]) == pytest.approx(joules * 200)


def test_a_faster_run_takes_more_power_and_less_energy(learner: EnergyLearner) -> None:
    found = asked(8.0, DEVICES["new"], 16.0)
    slow, fast = (learner.add(found, forecast_of(found, rate)) for rate in (300.0, 600.0))
    assert slow.log_median["power_w"][0] < fast.log_median["power_w"][0]
    assert slow.log_median["energy_j_per_token"][0] > fast.log_median["energy_j_per_token"][0]


def test_an_uncertain_rate_widens_the_energy_but_not_fully(learner: EnergyLearner) -> None:
    found = asked(8.0, DEVICES["new"], 16.0)
    sharp, blunt = (learner.add(found, forecast_of(found, 500.0, scale)) for scale in (0.01, 0.5))
    widths = [said.log_scale["energy_j_per_token"][0] for said in (sharp, blunt)]
    assert widths[0] < widths[1] < np.hypot(widths[0], 0.5)


def test_idle_time_between_requests_draws_little(learner: EnergyLearner) -> None:
    found = asked(8.0, DEVICES["new"], 1.0)
    given = forecast_of(found, 100.0)
    rare = Forecast(
        {**given.log_median, "output_tokens_per_s": given.log_median["output_tokens_per_s"] - np.log(100)},
        given.log_scale, given.p_ok, given.basis,
    )  # fmt: skip
    idle, full = learner.add(found, rare), learner.add(found, given)
    assert np.exp(idle.log_median["power_w"][0]) < 0.12 * 700.0 < np.exp(full.log_median["power_w"][0])


def test_calibration_widens_to_cover_predicted_rates() -> None:
    """Rates that are three times too high need more room; models whose rates were learnt do not count."""
    rows = history()

    def rated(found: Columns) -> Forecast:
        t = terms(found)
        rate = np.array(
            [3 * rate_of(size, load) for size, load in zip(found["params_b"], t["conc"], strict=True)]
        )
        names = {"output_tokens_per_s": np.log(rate), "e2e_s": np.log(t["conc"] * t["osl"] / rate)}
        return Forecast(names, {name: np.full(len(rate), 0.05) for name in names}, np.ones(len(rate)), t)

    groups = set(rows.keys["model_group"].tolist())
    plain, wide, told = EnergyLearner().fit(rows), EnergyLearner().fit(rows), EnergyLearner().fit(rows)
    wide.calibrate(rows, rated, set())
    told.calibrate(rows, rated, groups)
    assert plain.stretch == told.stretch == 1.0 < wide.stretch
    said = wide.add(rows.columns, rated(rows.columns))
    off = np.abs(said.log_median["energy_j_per_token"] - np.log(rows.metrics["energy_j_per_token"]))
    assert np.mean(off <= 1.645 * said.log_scale["energy_j_per_token"]) >= 0.85


def test_a_device_without_a_tdp_has_no_energy(learner: EnergyLearner) -> None:
    bare = Device(name="bare", memory_gib=80, memory_bandwidth_gb_per_s=1500, bf16_tflops=300)
    found = asked(8.0, bare, 4.0)
    said = learner.add(found, forecast_of(found, 100.0))
    assert np.isnan(said.log_median["power_w"][0]) and np.isnan(said.log_median["energy_j_per_token"][0])


def test_a_new_device_is_less_certain_than_a_new_model(learner: EnergyLearner) -> None:
    other = DEVICES["new"].model_copy(update={"name": "unseen"})
    wide = [
        learner.add(found, forecast_of(found, 300.0)).log_scale["power_w"][0]
        for found in (asked(5.0, DEVICES["new"], 4.0), asked(5.0, other, 4.0))
    ]
    assert wide[1] > wide[0]


def test_dump_and_load_say_the_same(learner: EnergyLearner) -> None:
    found = asked(14.0, DEVICES["old"], 4.0)
    given = forecast_of(found, 200.0)
    first, again = (x.add(found, given) for x in (learner, EnergyLearner.load(learner.dump())))
    assert first.log_median["power_w"] == again.log_median["power_w"]
    assert first.log_scale["power_w"] == again.log_scale["power_w"]


def test_a_state_without_a_part_is_refused(learner: EnergyLearner) -> None:
    state = learner.dump()
    del state["theta"]["base"]
    with pytest.raises(ArtifactError, match="base"):
        EnergyLearner.load(state)


def test_little_history_is_refused() -> None:
    few = history().take(np.arange(8))
    with pytest.raises(BadInput, match="energy"):
        EnergyLearner().fit(few)


def test_devices_come_from_the_row_else_from_the_layout() -> None:
    found = asked(8.0, DEVICES["new"], 4.0, count=4)
    assert devices_of(found, terms(found))[0] == 4
    found["num_devices"] = np.array([np.nan])
    found["tensor"] = np.array([2.0])
    assert devices_of(found, terms(found))[0] == 2
