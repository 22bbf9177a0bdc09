"""What became of each file, as the report and the journal have it."""

from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Self

from derain.command.report import Status


@dataclass(frozen=True, slots=True)
class Item:
    """One image to derain."""

    source: str
    target: str
    bytes: int = 0  # of the source; 0: not known
    replaces: bool = False  # what is at the target is to be derained anew


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one file; the names are those of the report's columns."""

    source: str
    status: Status
    target: str | None = None
    seconds: float | None = None  # of decoding, deraining and encoding
    width: int | None = None  # pixels, of the result
    height: int | None = None
    bytes: int | None = None  # of the result
    rain_found: bool | None = None  # None: nobody looked, at a strength of 0
    residual_rain: float | None = None  # how likely it is that rain was left, 0 to 1
    dropped: str | None = None  # what the file held and the result does not
    error: str | None = None  # in words, of what has no result
    model: str | None = None  # SHA-256, as the manifest has it
    options: str | None = None  # other than the usual ones
    finished: str | None = None  # UTC, ISO 8601

    @property
    def is_done(self) -> bool:
        return self.status in (Status.DERAINED, Status.DRY)

    def now(self) -> Self:
        return replace(self, finished=datetime.now(UTC).isoformat(timespec="milliseconds"))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for what is no row."""
        known: dict[str, Any] = {name: values.get(name) for name in COLUMNS}
        return cls(**known | {"source": str(values["source"]), "status": Status(values["status"])})


# They come as they come to be done; closing them ends the work.
Rows = Generator[Row, None, None]

COLUMNS = tuple(field.name for field in fields(Row))
