"""How far a bulk run is: a bar on a terminal, a line now and then in a log."""

import sys
import time

from derain.bulk.rows import Row
from derain.command.progress import make_bar
from derain.command.report import Status, shown_name

_BAR = "{percentage:3.0f}%|{bar}| {n:,.0f} of {total:,.0f} images [{elapsed}<{remaining}, {rate_noinv_fmt}]"
_LINE_EVERY_S = 30.0


class BulkProgress:
    """On standard error. Failures are always said."""

    def __init__(self, images: int, is_quiet: bool = False) -> None:
        self._images = images
        self.done = 0
        self._bar = make_bar(images, " images", _BAR, is_hidden=is_quiet)
        self._has_lines = not is_quiet and not sys.stderr.isatty()
        self._started = self._line_at = time.monotonic()

    def end(self, row: Row) -> None:
        self.done += 1
        self._bar.update(1)
        if row.status is Status.FAILED:
            self._bar.write(f"derain: {shown_name(row.source)}: {row.error}", file=sys.stderr)
        now = time.monotonic()
        if self._has_lines and now - self._line_at >= _LINE_EVERY_S:
            self._line_at = now
            print(f"derain: {progress_line(self.done, self._images, now - self._started)}", file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


def progress_line(done: int, images: int, seconds: float) -> str:
    """`1,200 of 10,000 images, 3.2 a second, 46 min left`."""
    rate = done / seconds
    left_min = (images - done) / rate / 60
    left = f"{left_min:.0f} min" if left_min < 120 else f"{left_min / 60:.1f} h"
    return f"{done:,} of {images:,} images, {rate:.3g} a second, {left} left"
