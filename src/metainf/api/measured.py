"""What a sweep showed, summed up."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from metainf.domain.shown import data_frame, rows_html

if TYPE_CHECKING:
    from metainf.measure.summary import Line
    from metainf.measure.sweep import Swept


@dataclass(frozen=True)
class Measurement:
    """What a sweep showed: records, a line for each method and workload, and the noise between repeats."""

    swept: "Swept"
    lines: "list[Line]"
    noise: float | None

    @property
    def worked(self) -> bool:
        """Whether any run gave numbers; True where none was to be made."""
        records = [record for _, record in self.swept.records]
        return not records or any(record.metrics is not None for record in records)

    def rows(self) -> list[dict[str, Any]]:
        """One flat row for each method on each workload, for a data frame."""
        return [asdict(line) for line in self.lines]

    def to_pandas(self) -> Any:
        """The rows as a pandas data frame. Raises MissingExtra where pandas is not installed."""
        return data_frame(self.rows())

    def _repr_html_(self) -> str:
        return rows_html(self.rows(), f"measured: {self.swept.campaign}")

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        swept = self.swept
        return {
            "campaign": swept.campaign,
            "lines": [asdict(line) for line in self.lines],
            "noise": self.noise,
            "refused": dict(swept.refused),
            "warnings": swept.warnings,
            "resumed": swept.resumed,
            "unmade": swept.unmade,
            "skipped": swept.skipped,
            "records": [record for _, record in swept.records],
        }


def measurement(swept: "Swept") -> Measurement:
    """A sweep's records summed up."""
    from metainf.measure.summary import noise, summary

    return Measurement(swept, summary(swept.records), noise(swept.records))
