"""Grids of small trainings: each cell in a process of its own, several at once.

A result lies in the grid's folder as `cells/NAME.json`, with the settings that decided it.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from derain.errors import DerainError
from derain.files import write_atomically
from training.recipes import Recipe
from training.trainer.loop import Execution

ONE_CORE = Execution(workers=0, threads=1)  # of a cell: others are trained beside it

Found = TypeVar("Found")


class GridError(DerainError):
    """A result that cannot be used."""


@dataclass(frozen=True)
class Job:
    """One cell to be done: functions that can be sent to another process, both raising DerainError."""

    name: str
    known: Callable[[], object | None]  # what came out, if it is done already
    run: Callable[[], object]


def cell_path(folder: Path, name: str) -> Path:
    return folder / "cells" / f"{name}.json"


def read_cell(path: Path, parse: Callable[[dict[str, Any]], Found], settings: object = None) -> Found:
    """What `parse` makes of a result.

    Raises GridError where it is damaged, or where its settings are not those that are given.
    """
    try:
        result = json.loads(path.read_text())
        found, made_with = parse(result), result["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise GridError(f"{path} is damaged, or of another version: remove it to measure again") from error
    if settings is not None and made_with != as_read(settings):
        raise GridError(f"{path} was made with other settings; remove it or choose another folder")
    return found


def write_cell(path: Path, settings: dict[str, Any], result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps({"settings": settings} | result, indent=1) + "\n").encode())


def as_read(settings: object) -> object:
    """As JSON gives it back: lists for tuples."""
    return json.loads(json.dumps(settings))


def of_steps(recipe: Recipe, steps: int | None) -> Recipe:
    """The recipe with so many steps, or its own, which is validated at the end alone."""
    course = replace(recipe.course, steps=steps or recipe.course.steps)
    return replace(recipe, course=course, every=replace(recipe.every, validate=course.steps))


def run_jobs(jobs: Sequence[Job], at_once: int) -> int:
    """The number of cells that failed: each says why, and the others go on.

    What is done already is not done again. Interrupted, the cells in work save a checkpoint.
    """
    failed = 0
    waiting: list[Job] = []
    running: dict[Connection, tuple[SpawnProcess, Job]] = {}
    with (
        # For the processes that are to come: each has one core (ONE_CORE), and there is one bar for all.
        _environment(OMP_NUM_THREADS="1", TQDM_DISABLE="1"),
        tqdm(total=len(jobs), unit="cell", disable=False) as progress,
    ):
        for job in reversed(jobs):
            try:
                if job.known() is None:
                    waiting.append(job)
                    continue
            except DerainError as error:
                failed += 1
                progress.write(f"{job.name}: {error}", file=sys.stderr)
            progress.update()
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop()
                    connection, process = _start(job)
                    running[connection] = process, job
                ready = wait(list(running))
                for connection in [one for one in running if one in ready]:
                    process, job = running.pop(connection)
                    if (error_text := _error(connection, process)) is not None:
                        failed += 1
                        progress.write(f"{job.name}: {error_text}", file=sys.stderr)
                    progress.update()
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.join()
    return failed


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _start(job: Job) -> tuple[Connection, SpawnProcess]:
    """A process that says at the end what went wrong, or nothing, and ends with this one."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job.run, theirs), daemon=True)
    process.start()
    theirs.close()  # so that its death shows here
    return ours, process


def _work(run: Callable[[], object], connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this one says when to stop
    cv2.setNumThreads(0)
    try:
        run()
    except (DerainError, OSError) as error:
        connection.send(str(error))
    except KeyboardInterrupt as interrupted:
        connection.send(str(interrupted))
    else:
        connection.send(None)


def _error(connection: Connection, process: SpawnProcess) -> str | None:
    """What went wrong in a process that is done or dead."""
    try:
        error: str | None = connection.recv()
    except EOFError:
        process.join()
        return f"its process ended with status {process.exitcode}; the same command tries again"
    process.join()
    return error
