"""The `derain` command: images, videos and folders in, the same without rain out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from derain.arguments import DONE, SOME_FAILED, check_output
from derain.command import streams
from derain.command.arguments import parse
from derain.command.disk import check_folder, check_space, problem_of
from derain.command.plan import Job, Output, PlanError, plan, read_output
from derain.command.progress import Progress
from derain.command.report import REPORT_SUFFIXES, Outcome, Report, Status, left_out_lines, shown_name
from derain.command.running import make_engine, result_options, run_interruptible
from derain.command.streams import STREAM
from derain.command.videos import derain_stream, has_frames
from derain.command.watch import Watched, watch
from derain.command.work import derain_all
from derain.models.registry import find_model
from derain.pointer import promoted_model


def main(arguments: list[str] | None = None) -> int:
    """The exit status: `derain --help` says what each means."""
    options = parse(arguments)
    return run_interruptible(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.report not in (None, STREAM):
        check_output(Path(options.report), REPORT_SUFFIXES)
        check_folder(Path(options.report).parent)
    folder = find_model(options.model) if options.model else promoted_model()
    report = Report(options.report, folder.resolve().name)
    if options.watch:
        _watch(options, folder, report)
    else:
        _derain(options, folder, report)
    unfinished = (Status.FAILED, Status.NOT_TRIED, Status.CUT_SHORT)
    return SOME_FAILED if any(map(report.count, unfinished)) else DONE


def _derain(options: argparse.Namespace, folder: Path, report: Report) -> None:
    """All that can be known before is checked before the model is loaded."""
    output = read_output(options.output, options.inputs)
    if STREAM in options.inputs:
        streams.check_input()
        if options.inputs == [STREAM] and has_frames(options.raw):
            _derain_stream(options, folder, output, report)
            return
    if output.is_stream:
        streams.check_output()
    planned = plan(options.inputs, output, options.format, options.codec)
    _check_options(planned.jobs, options)
    _note(planned.outcomes, report, options.quiet)
    todo = planned.jobs if output.folder is None else _to_do(planned.jobs, options, report)
    _check_space(todo, output, is_as_it_came=not (options.format or options.quality))
    engine = make_engine(options, folder) if todo else None
    try:
        if engine:
            derain_all(engine, todo, result_options(options), report, Progress(todo, options.quiet))
            engine.close()
    finally:
        report.write()
        if not (options.quiet or output.is_stream):
            print(report.summary(options.output), file=sys.stderr)


def _derain_stream(options: argparse.Namespace, folder: Path, output: Output, report: Report) -> None:
    """The frames of a video, in y4m or plain."""
    if not output.is_stream:
        raise PlanError(f"frames from standard input go to standard output, not to {options.output}: -o -")
    streams.check_output()
    _check_video_options("frames", options)
    engine = make_engine(options, folder)
    outcome = derain_stream(engine, result_options(options).clip, options.raw, options.quiet)
    if outcome.reason:
        print(f"derain: {outcome.reason}", file=sys.stderr)
    report.add(outcome)
    report.write()
    engine.close()


def _check_options(jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """Raises PlanError for an option that videos do not have. What only images have may be for others."""
    videos = [job for job in jobs if job.is_video]
    if len(videos) == len(jobs) or options.explain:
        for job in videos[:1]:
            _check_video_options(shown_name(job.source), options)


def _check_video_options(what: str, options: argparse.Namespace) -> None:
    for name in ("explain", "format", "lossless", "quality"):
        if getattr(options, name):
            hint = {"quality": "; of videos it is --crf", "lossless": "; of videos it is --codec ffv1"}
            raise PlanError(f"--{name} is of images, and {what} is none{hint.get(name, '')}")


def _watch(options: argparse.Namespace, folder: Path, report: Report) -> None:
    """Ends by being interrupted."""
    results = read_output(options.output, options.inputs).folder
    assert results is not None, "a folder is never derained into a file"
    check_folder(results)
    watched = Watched(
        Path(options.inputs[0]), results, options.format, options.codec
    )  # raises before the model is loaded
    engine, wanted = make_engine(options, folder), result_options(options)

    def work(new: Sequence[Job], changed: Sequence[Job], untold: Sequence[Outcome]) -> None:
        _note(untold, report, options.quiet)
        todo = [*_to_do(new, options, report), *changed]
        derain_all(engine, todo, wanted, report, Progress(todo, options.quiet, has_lines=True))
        report.write()

    _say(f"watching {options.inputs[0]}; Ctrl+C ends it", options.quiet)
    try:
        watch(watched, work)
    finally:
        report.write()
        _say(report.summary(options.output), options.quiet)


def _to_do(jobs: Sequence[Job], options: argparse.Namespace, report: Report) -> list[Job]:
    """Those that can be written and are not there already; of the others, the report has why."""
    todo = []
    for job in jobs:
        assert job.target is not None, "results in a folder have names"
        if problem := problem_of(job.target):
            _note([job.failed(problem)], report, options.quiet)
        elif job.target.exists() and not options.overwrite:
            report.add(Outcome(job.source, Status.THERE, job.target))
        else:
            todo.append(job)
    return todo


def _check_space(jobs: Sequence[Job], output: Output, is_as_it_came: bool) -> None:
    """Results in the formats of their sources take about as much; of others nobody knows."""
    if output.folder is not None:
        check_space(output.folder, sum(job.source_bytes for job in jobs) if is_as_it_came else 1)
    elif output.file is not None and not output.is_in_place:
        check_space(output.file.parent, 1)


def _note(outcomes: Sequence[Outcome], report: Report, is_quiet: bool) -> None:
    """Of what there is nothing to do for: said, and in the report."""
    for outcome in outcomes:
        report.add(outcome)
        if outcome.status is Status.FAILED:
            print(f"derain: {shown_name(outcome.source)}: {outcome.reason}", file=sys.stderr)
    for line in left_out_lines(outcomes):
        _say(line, is_quiet)


def _say(text: str, is_quiet: bool) -> None:
    if not is_quiet:
        print(f"derain: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
