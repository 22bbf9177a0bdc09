"""What is done, written down as it is done, so that a run that was killed goes on where it stopped.

The journal is a folder beside the report, with lines of JSON in it. Whoever derains, be it this process or
an actor on another machine, writes files of its own there, and nobody waits for anybody.

The row of an image is in the journal before its result is at its place. So a result that is there has its
row, and a row whose result is not there, or not of its size, is of one that was killed in between: it is
derained again.

At the end the rows go into the report, and the journal goes away.
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Lock

from derain.bulk import storage
from derain.bulk.rows import Row

# A put for each row would double the requests: far away, rows are written down so many at once.
_ROWS_AT_ONCE = 16


class Journal:
    """The journal of a report. Safe to call from several threads at once."""

    def __init__(self, report: str) -> None:
        self.report = report
        folder, slash, name = report.rpartition("/")
        self.folder = f"{folder}{slash}.{name}.journal"
        self.rows_at_once = _ROWS_AT_ONCE if storage.is_remote(report) else 1
        self._writer = uuid.uuid4().hex[:12]
        self._numbers = count()
        self._lock = Lock()

    def add(self, rows: Sequence[Row]) -> None:
        """When it returns they outlive this process. Raises StorageError, or OSError of a disk."""
        data = "".join(json.dumps(row.to_dict()) + "\n" for row in rows).encode()
        if storage.is_remote(self.folder):
            storage.write(f"{self.folder}/{self._writer}-{next(self._numbers):06}.jsonl", data)
            return
        with self._lock:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            with Path(self.folder, f"{self._writer}.jsonl").open("ab", buffering=0) as file:
                file.write(data)

    def read(self) -> Iterator[Row]:
        """Of all who write or wrote to it. A line that was not written to its end is passed over."""
        for place, _ in storage.files_below(self.folder):
            if not place.endswith(".jsonl"):
                continue
            for line in storage.read(storage.join(self.folder, place)).splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    yield Row.from_dict(json.loads(line))

    def remove(self) -> None:
        storage.remove(self.folder)


def latest(rows: Iterable[Row]) -> dict[str, Row]:
    """The last row of each source, by source."""
    found: dict[str, Row] = {}
    for row in rows:
        known = found.get(row.source)
        if known is None or (known.finished or "") <= (row.finished or ""):
            found[row.source] = row
    return found
