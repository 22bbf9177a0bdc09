"""An image with all that is needed to derain it, and what comes of it."""

from dataclasses import dataclass

from derain.images.coded import Header
from derain.images.colour import check_target
from derain.images.formats import ImageFormat, check_size, check_writable
from derain.images.memory import work_bytes
from derain.monitor import Reading
from serving.operations.request_record import RequestRecord
from serving.pipeline.options import Options


@dataclass(frozen=True)
class Job:
    data: bytes
    header: Header
    target: ImageFormat  # of the answer
    options: Options
    record: RequestRecord

    @property
    def pixels(self) -> int:
        return self.header.pixels

    @property
    def work_bytes(self) -> int:
        """About how much memory the image takes while it is in work."""
        return work_bytes(self.header, self.target)

    def check_target(self) -> None:
        """Raises ImageTooLargeError or UnsupportedFormatError where the answer could not be written."""
        check_size(self.header.width, self.header.height, self.target)
        check_writable(self.target, self.options.lossless)
        check_target(self.header.code_points, self.target)


@dataclass(frozen=True)
class DerainedFile:
    data: bytes
    sha256: str
    format: ImageFormat
    model: str
    residual_rain: Reading | None
    rain_found: bool | None  # None: nobody looked for any
    dropped: tuple[str, ...] = ()  # what the file held and the answer does not
