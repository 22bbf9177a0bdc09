"""An image with all that is needed to derain it, and what comes of it."""

from dataclasses import dataclass

from derain.formats import ImageFormat, check_size, check_writable
from derain.header import Header, check_target
from derain.photo import work_bytes
from derain.slacking import Look
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
        """About what it takes while it is in work."""
        return work_bytes(self.header)

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
    look: Look | None
    rain_found: bool | None  # None: nobody looked for any
    dropped: tuple[str, ...] = ()  # what the file held and the answer does not
