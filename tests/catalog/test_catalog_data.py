"""The catalogue's own data: sources, ranges, dates, names and groups."""

from datetime import date

import pytest

from metainf.catalog import devices, model_group, models, prices, providers, quotes
from metainf.catalog.devices import lookup as device_lookup
from metainf.catalog.names import device_key, key, memory_in
from metainf.catalog.shapes import Extras, count_params
from metainf.catalog.tables import about, table

RANGES = {
    "memory_gib": (1, 2048),
    "memory_bandwidth_gb_per_s": (5, 20000),
    "fp32_tflops": (0.1, 500),
    "fp16_tflops": (0.1, 5000),
    "bf16_tflops": (0.1, 5000),
    "fp8_tflops": (10, 10000),
    "int8_tops": (0.1, 10000),
    "fp4_tflops": (10, 20000),
    "scaleup_gb_per_s": (5, 2000),
    "host_link_gb_per_s": (2, 1000),
    "tdp_w": (5, 2000),
}
SHAPE = (
    "num_layers hidden_size num_heads num_kv_heads head_dim kv_lora_rank num_experts experts_per_token "
    "moe_intermediate_size denoiser denoiser_params_b"
)


def test_there_is_enough_of_everything() -> None:
    language = [row for row in table("models") if "denoiser" not in row]
    assert len(language) >= 313
    assert len(table("models")) - len(language) >= 28
    assert len(devices()) >= 200
    assert len({row["device"] for row in table("prices")}) >= 50


@pytest.mark.parametrize("kind", ["models", "devices", "prices", "quotes", "quality", "formats"])
def test_every_row_names_its_source(kind: str) -> None:
    assert about(kind)
    assert [row for row in table(kind) if len(row.get("source", "")) < 5] == []


def test_every_row_is_a_valid_value() -> None:
    assert all(model.name == name for name, model in models().items())
    assert all(device.name == name for name, device in devices().items())


def test_device_figures_are_in_range() -> None:
    wrong = [
        (row["name"], field, row[field])
        for row in table("devices")
        for field, (low, high) in RANGES.items()
        if field in row and not low <= row[field] <= high
    ]
    assert wrong == []


def test_narrower_formats_are_never_slower_on_tensor_hardware() -> None:
    for device in devices().values():
        if device.fp8_tflops and device.fp16_tflops and device.arch != "Gaudi3":
            assert device.fp8_tflops >= device.fp16_tflops, device.name


def test_prices_are_ordered_and_dated() -> None:
    for price in prices():
        assert 0 < price.low <= price.usd_per_device_hour <= price.high < 100, price
        assert date(2025, 1, 1) <= date.fromisoformat(price.date) <= date(2026, 12, 31)
        assert price.device in devices()


def test_quotes_lie_between_the_lowest_and_the_highest_price_of_their_day() -> None:
    usual = {(price.device, price.date): price for price in prices() if price.tier == "on-demand"}
    seen = set()
    for row in table("quotes"):
        price = usual[row["device"], row["date"]]
        assert price.low <= row["usd_per_device_hour"] <= price.high, row
        assert (row["device"], row["provider"]) not in seen, "one price of each provider"
        seen.add((row["device"], row["provider"]))
        assert row["provider"] in providers()
    assert len(seen) >= 130 and quotes("nothing") == ()


def test_quality_low_is_not_above_mean() -> None:
    for row in table("quality"):
        assert 0 <= row["low"] <= row["mean"] <= 1, row
        assert row["n"] >= 1


def test_no_model_alias_means_two_models() -> None:
    seen: dict[str, str] = {}
    for row in table("models"):
        for alias in (row["name"], *row.get("aliases", ())):
            other = seen.setdefault(key(alias), row["name"])
            assert model_group(other) == model_group(row["name"]), (alias, other, row["name"])
            assert (
                alias.lower().rsplit("/", 1)[-1] != other.lower().rsplit("/", 1)[-1] or other == row["name"]
            )


def test_no_device_alias_means_two_devices() -> None:
    seen: dict[tuple[str, float | None], str] = {}
    for row in table("devices"):
        for alias in row.get("aliases", ()):
            assert seen.setdefault((device_key(alias), memory_in(alias)), row["name"]) == row["name"], alias


def test_every_name_title_and_alias_finds_its_own_row() -> None:
    for row in table("models"):
        for alias in (row["name"], *row.get("aliases", ())):
            assert model_group(alias) == row["group"], alias
    for row in table("devices"):
        for alias in (row["name"], *row.get("aliases", ())):
            assert device_lookup(alias) == row["name"], alias


def test_equal_shapes_share_a_group_and_a_group_has_one_shape() -> None:
    shapes: dict[str, set[tuple[object, ...]]] = {}
    for row in table("models"):
        shape = [row.get(field) for field in SHAPE.split()]
        shape[-1] = None if shape[-1] is None else round(row["denoiser_params_b"], 2)
        shapes.setdefault(row["group"], set()).add(tuple(shape))
    assert {group for group, found in shapes.items() if len(found) > 1} == set()


def test_dense_counts_agree_with_the_shapes() -> None:
    checked = 0
    for model in models().values():
        plain = model.family in {"Llama 1", "Llama 2", "Llama 3", "Llama 3.1", "Vicuna", "CodeLlama", "Yi"}
        if not plain or model.params_b is None or model.modality != "text":
            continue
        counted = count_params(model, Extras())
        assert counted is not None
        assert counted[0] == pytest.approx(model.params_b, rel=0.01), model.name
        checked += 1
    assert checked >= 20


def test_active_is_less_than_all_only_with_experts() -> None:
    for model in models().values():
        if model.params_b and model.active_params_b and model.active_params_b < 0.9 * model.params_b:
            assert model.num_experts, model.name
