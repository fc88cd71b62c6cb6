"""What a result file does not say and the person who ran it does."""

from dataclasses import dataclass, fields

from metainf import catalog
from metainf.domain import (
    BadInput,
    Device,
    Hardware,
    Method,
    Model,
    UnknownName,
    WeightQuantization,
    Workload,
)
from metainf.domain.setting import Modality

FLAGS = {
    "model": "--model",
    "hardware": "--hardware",
    "count": "--count",
    "engine": "--engine",
    "workload": "--workload",
}


@dataclass(frozen=True)
class Context:
    """Facts given beside a file; a value here wins over the same fact inside the file.

    `hardware` is a catalogue name ("H100", "4xL4" sets the count too); `method` replaces the whole method;
    `source`, `licence`, `campaign` and `date` go into the provenance.
    """

    model: str | Model | None = None
    hardware: str | Hardware | Device | None = None
    count: int | None = None
    engine: str | None = None
    engine_version: str | None = None
    method: Method | None = None
    workload: Workload | None = None
    source: str | None = None
    licence: str | None = None
    campaign: str | None = None
    date: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str) and not value.strip():
                raise BadInput(f"{FLAGS.get(field.name, field.name)}: expected a value, found an empty text")
        if self.count is not None and self.count < 1:
            raise BadInput(f"--count: expected at least 1 device, found {self.count}")

    def model_of(
        self, named: str | None, modality: Modality = "text", params_b: float | None = None
    ) -> Model:
        """The model: from this context, else what the file names. BadInput when neither says it."""
        given = self.model if self.model is not None else named
        if isinstance(given, Model):
            return given
        if not given:
            raise BadInput("the file does not name the model: give --model NAME")
        strict = self.model is not None
        return known_model(given, modality=modality, params_b=params_b, strict=strict)

    def hardware_of(self, named: str | None, count: int | None = None) -> Hardware:
        """The hardware: from this context, else what the file names. BadInput when neither says it.

        The number of devices is `--count`, else what the file says, else unknown (None).
        """
        given = self.hardware if self.hardware is not None else named
        if isinstance(given, Hardware):
            return given if self.count is None else given.model_copy(update={"count": self.count})
        if isinstance(given, Device):
            return Hardware(device=given, count=self.count or count)
        if not given:
            raise BadInput("the file does not name the hardware: give --hardware DEVICE (and --count N)")
        if self.hardware is not None:
            devices, own = split_count(given)
            return Hardware(device=catalog.find_device(devices), count=self.count or own or count)
        return Hardware(device=known_device(given), count=self.count or count)


def split_count(text: str) -> tuple[str, int | None]:
    """("L4", 4) of "4xL4"; (text, None) when no count stands before it."""
    head, _, tail = text.partition("x")
    if tail and head.strip().isdigit() and int(head) > 0:
        return tail.strip(), int(head)
    return text, None


def known_model(
    name: str,
    *,
    modality: Modality = "text",
    params_b: float | None = None,
    active_params_b: float | None = None,
    strict: bool = False,
) -> Model:
    """The catalogue's model, else one of which only the given facts are known.

    `strict` (a name typed by a person) raises UnknownName with near misses instead.
    """
    try:
        return catalog.find_model(name)
    except UnknownName:
        if strict:
            raise
    return Model(name=name, modality=modality, params_b=params_b, active_params_b=active_params_b)


def weights(format: str, bits: float | None = None) -> WeightQuantization:
    """Weight quantization of an engine's format name; `bits`, where the source gives them, win."""
    return WeightQuantization(
        format=format,
        bits=catalog.weight_bits(format) if bits is None else bits,
        activation_bits=catalog.activation_bits(format),
    )


def known_device(name: str) -> Device:
    """The catalogue's device, else one of which only the name is known."""
    try:
        return catalog.find_device(name)
    except UnknownName:
        return Device(name=name)
