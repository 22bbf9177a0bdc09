"""A bulk run: plan, derain what is not done, and report on every file. Start reading here."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from derain.bulk import storage
from derain.bulk.journal import Journal, latest
from derain.bulk.plan import Make, Plan, PlanError, leave_out_done, make_plan
from derain.bulk.progress import BulkProgress
from derain.bulk.report import REPORT_SUFFIXES, read_report, write_report
from derain.bulk.rows import Item, Row, Rows
from derain.bulk.sources import Manifest
from derain.command.disk import check_folder, check_space
from derain.command.report import Status, summary
from derain.errors import DerainError
from derain.images.formats import ImageFormat

REPORT_NAME = "derain-bulk.csv"  # in the target, unless another is named

# Derains images, whichever way: here, or on a cluster. The rows come as they come to be done.
DerainAll = Callable[[Sequence[Item], Journal], Rows]


@dataclass(frozen=True)
class BulkOptions:
    """From where to where."""

    source: str
    target: str
    report: str
    manifest: Manifest
    make: Make
    format: ImageFormat | None = None
    is_as_it_came: bool = True  # formats and qualities: results take about as much as their sources
    overwrites: bool = False
    is_quiet: bool = False

    @property
    def has_far_target(self) -> bool:
        return storage.is_remote(self.target)


def run(options: BulkOptions, derain_all: DerainAll) -> Counter[Status]:
    """How many files became what. The report is written also when the run is interrupted.

    Raises DerainError or OSError for what stops it all.
    """
    _check(options)
    plan = make_plan(options.source, options.target, options.manifest, options.format)
    journal = Journal(options.report)
    earlier = latest(chain(read_report(options.report), journal.read()))
    # To overwrite is to believe the journal alone: it is of a run that did not end.
    believed = latest(journal.read()) if options.overwrites else earlier
    leave_out_done(plan, options.target, believed, options.make, options.overwrites)
    finished = {item.source: earlier[item.source].finished for item in plan.to_do if item.source in earlier}
    del earlier, believed  # they may be large, and the work is long
    _say_left_out(plan, options.is_quiet)
    if not options.has_far_target and options.is_as_it_came:
        check_space(Path(options.target), sum(item.bytes for item in plan.to_do))
    results = _Results(options, plan, journal, finished)
    progress = BulkProgress(len(plan.to_do), options.is_quiet)
    try:
        if plan.to_do:
            with closing(derain_all(plan.to_do, journal)) as rows:
                for row in rows:
                    progress.end(row)
                    results.note(row)
    except BaseException as error:
        if progress.done > 0 or not isinstance(error, DerainError | OSError):
            results.report()
        raise
    finally:
        progress.close()
    return results.report()


def _check(options: BulkOptions) -> None:
    """What can be known before anything is listed. Raises PlanError, FileError or StorageError."""
    if not options.report.endswith(REPORT_SUFFIXES):
        raise PlanError(f"{options.report}: a report is written as {' or '.join(REPORT_SUFFIXES)}")
    if options.source == options.target or _is_one_folder(options.source, options.target):
        raise PlanError(f"{options.target} would be written over itself: choose another target")
    if options.has_far_target:
        storage.check(options.target)
    else:
        check_folder(Path(options.target))
    if not storage.is_remote(options.report):
        check_folder(Path(options.report).parent)


def _is_one_folder(source: str, target: str) -> bool:
    """Through links as well."""
    is_near = not storage.is_remote(source) and not storage.is_remote(target)
    return is_near and Path(source).resolve() == Path(target).resolve()


class _Results:
    """Of the files of a plan. `finished` has when their earlier rows were written, by source."""

    def __init__(
        self, options: BulkOptions, plan: Plan, journal: Journal, finished: dict[str, str | None]
    ) -> None:
        self._options = options
        self._plan = plan
        self._journal = journal
        self._finished = finished
        self._by_others: set[str] = set()  # sources that another run derained meanwhile
        self._counts: Counter[Status] = Counter()

    def note(self, row: Row) -> None:
        if row.status is Status.THERE:
            self._by_others.add(row.source)

    def report(self) -> Counter[Status]:
        """Writes it, and takes the journal away; how many files became what in this run."""
        rows = latest(chain(read_report(self._options.report), self._journal.read()))
        self._counts = Counter(dict.fromkeys(Status, 0))
        write_report(self._options.report, self._all(rows))
        self._journal.remove()
        if not self._options.is_quiet:
            print(f"derain: {summary(self._counts, self._options.target)}", file=sys.stderr)
        return self._counts

    def _all(self, rows: dict[str, Row]) -> Iterator[Row]:
        """The row of each file, in the order of the plan; then those of files that are not in it any more."""
        to_do = {item.source: item for item in self._plan.to_do}
        for item in self._plan.images:
            row = rows.pop(item.source, None)
            if item.source in to_do:
                yield self._of_this_run(to_do[item.source], row)
            else:
                self._counts[Status.THERE] += 1
                yield row if row and row.is_done else Row(item.source, Status.THERE, item.target)
        for row in self._plan.left_out:
            rows.pop(row.source, None)
            self._counts[row.status] += 1
            yield row
        yield from (row for row in rows.values() if row.is_done)

    def _of_this_run(self, item: Item, row: Row | None) -> Row:
        """An earlier result that was to be replaced, and was not, keeps its row: it says what made it."""
        if row is not None and self._finished.get(item.source, "") != row.finished:
            self._counts[row.status] += 1
            return row
        status = Status.THERE if item.source in self._by_others else Status.NOT_TRIED
        self._counts[status] += 1
        return row if row and row.is_done and item.replaces else Row(item.source, status, item.target)


def _say_left_out(plan: Plan, is_quiet: bool) -> None:
    """How many, for each reason; files that are not named as images would surprise nobody."""
    for row in plan.left_out:
        if row.status is Status.FAILED:
            print(f"derain: {row.source}: {row.error}", file=sys.stderr)
    reasons = Counter(row.error for row in plan.left_out if row.status is Status.LEFT_OUT)
    for reason, count in reasons.items():
        if reason != "not named as an image" and not is_quiet:
            print(f"derain: left out, {reason}: {count:,}", file=sys.stderr)
