"""What overlaps, what is bounded, and what is left of a run that was stopped."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from derain.bulk import storage
from derain.bulk.journal import Journal
from derain.bulk.pipeline import Pipeline, _Gate
from derain.bulk.plan import Make
from derain.bulk.progress import progress_line
from derain.bulk.report import read_report
from derain.bulk.rows import Item, Row
from derain.command import work
from derain.command.report import Status
from derain.command.work import ResultOptions
from derain.images.encoding import encode_photo
from derain.images.formats import PNG
from derain.images.photo import Photo
from derain.images.plain import encode
from derain.inference.engine import Engine
from tests.conftest import ROOT, files_in, heed_interrupts, noise
from tests.derain.bulk.conftest import write_many

SOON_S = 30
REPORT = "derain-bulk.csv"


def pipeline_of(engine: Engine, report: str) -> Pipeline:
    return Pipeline(engine, ResultOptions(max_pixels=10**6), Make("0" * 64, None), Journal(report))


def test_images_are_read_while_others_are_derained(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No read ends until more have begun than the engine has threads; one by one they would break."""
    together = threading.Barrier(engine.threads + 2)
    honest = storage.read

    def read(name: str) -> bytes:
        together.wait(SOON_S)
        return honest(name)

    monkeypatch.setattr(storage, "read", read)
    items = []
    for index in range(2 * together.parties):
        (tmp_path / f"{index}.png").write_bytes(encode(noise(20, 20), PNG))
        items.append(Item(str(tmp_path / f"{index}.png"), str(tmp_path / "out" / f"{index}.png")))
    rows = list(pipeline_of(engine, str(tmp_path / "run.csv")).run(items))
    assert {row.status for row in rows} == {Status.DERAINED}
    assert len(files_in(tmp_path / "out")) == len(items)


def test_memory_is_bounded_and_the_large_ones_get_their_turn() -> None:
    gate = _Gate(most=3, most_bytes=100)
    order: list[str] = []

    def enter(name: str, needed: int) -> threading.Thread:
        def work() -> None:
            with gate.room(needed):
                order.append(name)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    with ExitStack() as inside:
        inside.enter_context(gate.room(60))
        large = enter("large", 1000)  # more than there is: it goes alone
        while not gate._first.locked():
            time.sleep(0.001)
        small = enter("small", 1)  # there would be room
        small.join(0.05)
        assert order == []
    for thread in (large, small):
        thread.join(SOON_S)
    assert order == ["large", "small"]


def test_a_row_is_written_down_before_its_result(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So whatever is at its place has one, however the process ends; but of what is replaced, after it."""
    (tmp_path / "a.png").write_bytes(encode(noise(20, 20), PNG))
    report = str(tmp_path / "run.csv")
    seen: list[list[str]] = []
    honest = storage.write

    def write(name: str, data: bytes) -> None:
        seen.append([row.source for row in Journal(report).read()])
        honest(name, data)

    monkeypatch.setattr(storage, "write", write)
    source, target = str(tmp_path / "a.png"), str(tmp_path / "out.png")
    list(pipeline_of(engine, report).run([Item(source, target)]))
    assert seen == [[source]]
    Journal(report).remove()
    list(pipeline_of(engine, report).run([Item(source, target, replaces=True)]))
    assert seen == [[source], []]
    assert [row.source for row in Journal(report).read()] == [source]


def test_what_another_did_meanwhile_is_not_done_again(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"its result")
    item = Item("nowhere.png", str(tmp_path / "a.png"))
    rows = list(pipeline_of(engine, str(tmp_path / "run.csv")).run([item]))
    assert [row.status for row in rows] == [Status.THERE]
    assert (tmp_path / "a.png").read_bytes() == b"its result"


def test_a_full_disk_ends_the_run(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = []
    for index in range(40):
        (tmp_path / f"{index}.png").write_bytes(encode(noise(20, 20), PNG))
        items.append(Item(str(tmp_path / f"{index}.png"), str(tmp_path / "out" / f"{index}.png")))

    def write(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_atomically", write)
    pipeline = pipeline_of(engine, str(tmp_path / "run.csv"))
    rows = list(pipeline.run(items))
    assert pipeline.stopped_by is not None
    assert "No space left on device" in pipeline.stopped_by
    assert 1 <= len(rows) < 40
    assert {row.status for row in rows} == {Status.FAILED}


def test_an_error_of_ours_fails_its_image_alone(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = []
    for name, height in (("a.png", 20), ("b.png", 21), ("c.png", 20)):
        (tmp_path / name).write_bytes(encode(noise(height, 20), PNG))
        items.append(Item(str(tmp_path / name), str(tmp_path / "out" / name)))

    def fail_on_one(photo: Photo, *given: Any, **named: Any) -> bytes:
        if photo.image.shape[0] == 21:
            raise ValueError("21 is no good")
        return encode_photo(photo, *given, **named)

    monkeypatch.setattr(work, "encode_photo", fail_on_one)
    pipeline = pipeline_of(engine, str(tmp_path / "run.csv"))
    rows = {Path(row.source).name: row for row in pipeline.run(items)}
    assert pipeline.stopped_by is None
    assert [rows[name].status for name in ("a.png", "b.png", "c.png")] == [
        Status.DERAINED,
        Status.FAILED,
        Status.DERAINED,
    ]
    assert rows["b.png"].error == "an error in Derain: ValueError: 21 is no good"


def test_a_far_journal_is_written_in_parts(engine: Engine, tmp_path: Path) -> None:
    """A put for each row would double the requests."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    source = tmp_path / "a.png"
    source.write_bytes(encode(noise(20, 20), PNG))
    items = [Item(str(source), f"memory:///out/{index}.png") for index in range(40)]
    rows = list(pipeline_of(engine, "memory:///run.csv").run(items))
    assert len(rows) == 40
    assert len(system.find("/.run.csv.journal")) == 3
    assert len(list(Journal("memory:///run.csv").read())) == 40
    assert len(system.find("/out")) == 40
    system.store.clear()


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "run.csv"))
    journal.add([Row("a.png", Status.DERAINED), Row("b.png", Status.DERAINED)])
    (file,) = Path(journal.folder).iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    assert [row.source for row in journal.read()] == ["a.png"]


def test_a_log_says_how_long_it_takes() -> None:
    assert progress_line(1200, 10_000, 400) == "1,200 of 10,000 images, 3 a second, 49 min left"
    assert progress_line(10, 1_000_000, 10) == "10 of 1,000,000 images, 1 a second, 277.8 h left"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return write_many(tmp_path / "many", 24)


def start(source: Path, target: Path, model: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "derain", "bulk", source, target, "--model", model, "--threads", "1"]
    return subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


def wait_for_results(target: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(list(target.glob("*.png"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def check_complete(source: Path, target: Path) -> None:
    names = {path.name for path in source.iterdir()}
    assert files_in(target) - {name for name in files_in(target) if name.endswith(".unfinished")} == names | {
        REPORT
    }
    rows = list(read_report(str(target / REPORT)))
    assert sorted(row.source.rpartition("/")[2] for row in rows) == sorted(names)
    for row in rows:
        assert row.status is Status.DERAINED
        assert row.target is not None
        assert row.bytes == Path(row.target).stat().st_size
        assert row.seconds is not None


@pytest.mark.slow
def test_a_killed_run_goes_on(many: Path, slow_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    process = start(many, target, slow_model)
    wait_for_results(target, 5, process)
    process.kill()
    process.communicate()
    stamps = {path: path.stat().st_mtime_ns for path in target.glob("*.png")}
    assert 5 <= len(stamps) < 24
    again = start(many, target, slow_model)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert f"{24 - len(stamps)} derained, {len(stamps)} already there, 0 failed" in said
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items()), "done once"
    check_complete(many, target)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_reports_and_goes_on(
    many: Path, slow_model: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    target = tmp_path / "out"
    process = start(many, target, slow_model)
    wait_for_results(target, 3, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == status, said
    assert "derain: interrupted; the same command goes on with what is left" in said
    assert "Traceback" not in said
    statuses = [row.status for row in read_report(str(target / REPORT))]
    done = len(list(target.glob("*.png")))
    assert statuses.count(Status.DERAINED) == done
    assert statuses.count(Status.NOT_TRIED) == 24 - done > 0
    assert all(name.endswith((".png", REPORT)) for name in files_in(target)), "no half file, no journal"
    again = start(many, target, slow_model)
    assert again.wait(300) == 0
    again.communicate()
    check_complete(many, target)


@pytest.mark.slow
def test_memory_stays_flat(model: Path, tmp_path: Path) -> None:
    """From the 50th of 500 images of mixed sizes on, within 5 %."""
    for index in range(25):
        height, width = 40 + 37 * index % 400, 40 + 61 * index % 400
        (tmp_path / f"{index}.png").write_bytes(encode(noise(height, width, seed=index), PNG))
    program = f"""
from derain.bulk.journal import Journal
from derain.bulk.pipeline import Pipeline
from derain.bulk.plan import Make
from derain.bulk.rows import Item
from derain.command.work import ResultOptions
from derain.inference.engine import Engine
from derain.memory import give_memory_back
from pathlib import Path

give_memory_back()
pipeline = Pipeline(
    Engine(Path({str(model)!r}), threads=2),
    ResultOptions(10**6),
    Make("", None),
    Journal({str(tmp_path / "r.csv")!r}),
)
items = [Item(f"{tmp_path}/{{i % 25}}.png", f"{tmp_path}/out/{{i}}.png") for i in range(500)]
for done, row in enumerate(pipeline.run(items), 1):
    assert row.error is None, row
    if done >= 50:
        print(int(open("/proc/self/statm").read().split()[1]))
"""
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    resident = list(map(int, run.stdout.split()))
    assert len(resident) == 451
    # Means: a sample has what is in work at that moment as well, and what the engine keeps from run to run
    # and gives back every 25 images.
    first, last = np.mean(resident[:150]), np.mean(resident[-150:])
    assert last <= 1.05 * first, resident
