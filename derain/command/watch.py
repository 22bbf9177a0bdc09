"""Looks again and again into a folder for images that are new or changed, and have all arrived."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from derain.command.folder import walk
from derain.command.names import Namer
from derain.command.plan import Job, PlanError, Source, look_at, name_targets
from derain.command.report import Outcome
from derain.images.formats import ImageFormat

POLL_S = 1.0  # a file that stays as it is from one look to the next has arrived

_Stamp = tuple[int, int]  # bytes, and the time of the last change in ns


class Arrivals:
    """Which files have arrived: those that are as they were a look ago, and not yet given out like that."""

    def __init__(self) -> None:
        self._seen: dict[Path, _Stamp] = {}
        self._given: dict[Path, _Stamp] = {}

    def look(self, paths: Iterable[Path]) -> list[Path]:
        """To be called once in a while with all files that are there."""
        stamps = dict(_stamps(paths))
        arrived = [
            path
            for path, stamp in stamps.items()
            if stamp[0] and stamp == self._seen.get(path) and stamp != self._given.get(path)
        ]
        self._seen = stamps
        self._given |= {path: stamps[path] for path in arrived}
        return arrived


class Watched:
    """A folder that is watched, and what its images are called in the folder of results.

    Raises PlanError where that is the same folder: results would be derained again, and their results.
    """

    def __init__(
        self,
        folder: Path,
        results: Path,
        image_format: ImageFormat | None,
        codec: str | None = None,
    ) -> None:
        if folder.resolve() == results.resolve():
            raise PlanError(f"{folder} cannot take the results while it is watched; choose another --output")
        self._folder = folder
        self._results = results
        self._format = image_format
        self._codec = codec
        self._arrivals = Arrivals()
        self._namer = Namer()
        self._jobs: dict[Path, Job] = {}
        self._reported: set[Outcome] = set()

    def look(self) -> tuple[list[Job], list[Job], list[Outcome]]:
        """What is new, what was given out before and has changed since, and what is newly left out."""
        found = list(walk(self._folder, self._results))
        outcomes = [each for each in found if isinstance(each, Outcome)]
        left_out = [each for each in outcomes if each not in self._reported]
        self._reported = set(outcomes)
        arrived = self._arrivals.look(each for each in found if isinstance(each, Path))
        known = [path for path in arrived if path in self._jobs]
        changed = [replace(self._jobs[path], pixels=self._look_at(path).pixels) for path in known]
        sources = [self._look_at(path) for path in arrived if path not in self._jobs]
        new = name_targets(sources, self._results, self._format, self._namer)
        self._jobs |= {job.source: job for job in new if job.source}
        return new, changed, left_out

    def _look_at(self, path: Path) -> Source:
        return look_at(path, path.relative_to(self._folder), self._codec)


def watch(watched: Watched, work: Callable[[list[Job], list[Job], list[Outcome]], None]) -> NoReturn:
    """Does the work for what is new, what has changed and what is left out, until it is interrupted."""
    while True:
        new, changed, left_out = watched.look()
        if new or changed or left_out:
            work(new, changed, left_out)
        time.sleep(POLL_S)


def _stamps(paths: Iterable[Path]) -> Iterator[tuple[Path, _Stamp]]:
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue  # gone in the meantime
        yield path, (status.st_size, status.st_mtime_ns)
