"""The catalogue: what models, devices and number formats are, and what a device costs."""

from metainf.catalog.detect import detect
from metainf.catalog.devices import devices, find_device, parse_hardware, parse_price
from metainf.catalog.formats import activation_bits, canonical_format, weight_bits
from metainf.catalog.models import find_model, model_group, models
from metainf.catalog.names import may_be_file, names_only
from metainf.catalog.prices import Price, price, prices, tiers
from metainf.catalog.quality import QualityDelta, quality
from metainf.catalog.quotes import Quote, providers, quotes
from metainf.catalog.workloads import find_workload, workloads

__all__ = [
    "Price",
    "QualityDelta",
    "Quote",
    "activation_bits",
    "canonical_format",
    "detect",
    "devices",
    "find_device",
    "find_model",
    "find_workload",
    "may_be_file",
    "model_group",
    "models",
    "names_only",
    "parse_hardware",
    "parse_price",
    "price",
    "prices",
    "providers",
    "quality",
    "quotes",
    "tiers",
    "weight_bits",
    "workloads",
]
