"""`derain bulk` on this machine: names, sources, what is done again and what is not, and the report."""

import csv
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from pyarrow import Table, parquet

from derain import cli
from derain.bulk import pipeline, storage
from derain.bulk.cli import main
from derain.bulk.plan import result_place
from derain.bulk.report import read_report
from derain.command.report import Status
from derain.command.work import read_image_header
from derain.images.formats import AVIF, JPEG, PNG, WEBP
from derain.images.header import read_header
from derain.images.plain import encode, read_image
from derain.manifest import load_manifest
from tests.conftest import files_in, noise, write_estimating, write_model
from tests.derain.bulk.conftest import Bulk, photographs

ALL = {"a.png", "trip/a.png", "trip/day 2/B.JPEG"}
REPORT = "derain-bulk.csv"


def rows_of(report: str | Path) -> dict[str, dict[str, Any]]:
    """By the names of the sources."""
    return {row.source.rpartition("/")[2]: row.to_dict() for row in read_report(str(report))}


def test_a_folder_keeps_its_names_and_its_bytes(bulk: Bulk, model: Path, rainy: Path, tmp_path: Path) -> None:
    """They are those of the command on a folder."""
    status, said = bulk(rainy, tmp_path / "out")
    assert status == 0
    assert said.endswith(f"derain: 3 derained, 0 already there, 0 failed, 2 left out; in {tmp_path}/out\n")
    assert "derain: left out, GIF cannot be read: 1\n" in said
    assert files_in(tmp_path / "out") == ALL | {REPORT}
    assert cli.main([str(rainy), "-o", str(tmp_path / "by-folder"), "--model", str(model)]) == 0
    for place in ALL:
        assert (tmp_path / "out" / place).read_bytes() == (tmp_path / "by-folder" / place).read_bytes()


def test_videos_are_left_out(bulk: Bulk, rainy: Path, tmp_path: Path) -> None:
    """Of a folder too, which the command takes them from."""
    (rainy / "clip.mp4").write_bytes(b"no image")
    status, said = bulk(rainy, tmp_path / "out")
    assert status == 0
    assert "derain: left out, videos (the derain command takes them): 1\n" in said
    assert rows_of(tmp_path / "out" / REPORT)["clip.mp4"]["status"] == "left out"


@pytest.mark.parametrize("name", ["run.csv", "run.parquet"])
def test_the_report_has_a_row_for_each_file(
    bulk: Bulk, model: Path, rainy: Path, tmp_path: Path, name: str
) -> None:
    (rainy / "broken.png").write_bytes((rainy / "a.png").read_bytes()[:300])
    report = tmp_path / name
    assert bulk(rainy, tmp_path / "out", "--report", report)[0] == 1
    rows = list(read_report(str(report)))
    assert len(rows) == 6
    by_name = {row.source: row for row in rows}
    row = by_name[f"{rainy}/trip/a.png"]
    assert row.status is Status.DERAINED
    assert row.target == f"{tmp_path}/out/trip/a.png"
    assert (row.width, row.height) == (20, 30)
    assert row.bytes == (tmp_path / "out/trip/a.png").stat().st_size
    assert row.seconds is not None
    assert row.seconds > 0
    assert row.model == load_manifest(model).sha256
    assert row.rain_found is True
    assert row.residual_rain is not None
    assert 0 <= row.residual_rain <= 1
    assert row.error is None
    broken = by_name[f"{rainy}/broken.png"]
    assert broken.status is Status.FAILED
    assert broken.error is not None
    assert broken.error.startswith("the PNG image is ")
    assert by_name[f"{rainy}/notes.txt"].status is Status.LEFT_OUT


def test_the_reports_are_read_by_others(bulk: Bulk, rainy: Path, tmp_path: Path) -> None:
    assert bulk(rainy, tmp_path / "out", "--report", tmp_path / "run.parquet")[0] == 0
    assert bulk(rainy, tmp_path / "other")[0] == 0
    table = parquet.read_table(tmp_path / "run.parquet")
    with (tmp_path / "other" / REPORT).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert table.column_names == list(rows[0])
    assert sorted(table["source"].to_pylist()) == sorted(row["source"] for row in rows)
    assert str(table.schema.field("seconds").type) == "double"
    assert str(table.schema.field("rain_found").type) == "bool"


def test_dry_images_are_said_to_be_dry(rainy: Path, tmp_path: Path) -> None:
    model = write_estimating(tmp_path / "estimating")
    dry = tmp_path / "dry"
    dry.mkdir()
    (dry / "dark.png").write_bytes(encode(np.zeros((40, 40, 3), np.uint8), PNG))
    (dry / "bright.png").write_bytes(encode(np.full((40, 40, 3), 200, np.uint8), PNG))
    assert main([str(dry), str(tmp_path / "out"), "--model", str(model), "-q"]) == 0
    rows = rows_of(tmp_path / "out" / REPORT)
    assert [rows[name]["rain_found"] for name in ("dark.png", "bright.png")] == [False, True]
    assert rows["dark.png"]["status"] is Status.DRY


def test_what_is_there_and_whole_is_not_done_again(bulk: Bulk, rainy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bulk(rainy, out)
    before = rows_of(out / REPORT)
    stamps = {place: (out / place).stat().st_mtime_ns for place in ALL}
    (out / "a.png").write_bytes((out / "a.png").read_bytes()[:100])  # not whole any more
    (out / "trip/a.png").unlink()
    status, said = bulk(rainy, out)
    assert status == 0
    assert "2 derained, 1 already there, 0 failed" in said
    assert (out / "trip/day 2/B.JPEG").stat().st_mtime_ns == stamps["trip/day 2/B.JPEG"]
    assert read_image(out / "a.png").shape == (20, 30, 3)
    after = rows_of(out / REPORT)
    assert after["B.JPEG"] == before["B.JPEG"], "its figures are kept"
    assert after.keys() == before.keys()


def test_what_somebody_else_left_there_stays(bulk: Bulk, rainy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "trip").mkdir(parents=True)
    (out / "a.png").write_bytes(b"before")
    (out / "trip" / "a.png").touch()  # empty: nobody's result
    assert "2 derained, 1 already there" in bulk(rainy, out)[1]
    assert (out / "a.png").read_bytes() == b"before"
    assert "3 derained, 0 already there" in bulk(rainy, out, "--overwrite")[1]
    assert read_image(out / "a.png").shape == (20, 30, 3)


def test_one_target_has_results_of_one_model(bulk: Bulk, rainy: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", channels=5)
    out = tmp_path / "out"
    bulk(rainy, out)
    before = (out / "a.png").read_bytes()
    status, said = bulk(rainy, out, "--strength", "0.5")
    assert status == 2
    assert "was made with options none, not strength=0.5 now: choose another target, or --overwrite" in said
    assert main([str(rainy), str(out), "--model", str(other)]) == 2
    assert (out / "a.png").read_bytes() == before
    assert main([str(rainy), str(out), "--model", str(other), "--overwrite"]) == 0
    assert (out / "a.png").read_bytes() != before
    assert {row["model"] for row in rows_of(out / REPORT).values() if row["model"]} == {
        load_manifest(other).sha256
    }


def test_what_was_to_be_overwritten_and_was_not_keeps_its_row(
    bulk: Bulk, rainy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run knows what made it, and does not take it for its own."""
    out = tmp_path / "out"
    bulk(rainy, out)
    before = rows_of(out / REPORT)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.Pipeline, "_work", interrupt)
        status, said = bulk(rainy, out, "--overwrite", "--strength", "0.5")
    assert status == 130
    assert "0 derained, 0 already there, 0 failed, 2 left out, 3 not tried" in said
    assert rows_of(out / REPORT) == before
    status, said = bulk(rainy, out, "--strength", "0.5")
    assert status == 2
    assert "was made with options none, not strength=0.5 now" in said


def test_one_bad_file_does_not_stop_the_rest_and_is_tried_again(
    bulk: Bulk, rainy: Path, tmp_path: Path
) -> None:
    (rainy / "empty.jpg").touch()
    status, said = bulk(rainy, tmp_path / "out")
    assert status == 1
    assert f"derain: {rainy}/empty.jpg: no image: the data is empty\n" in said
    assert "3 derained, 0 already there, 1 failed" in said
    (rainy / "empty.jpg").write_bytes(encode(noise(9, 9), JPEG))
    assert "1 derained, 3 already there, 0 failed" in bulk(rainy, tmp_path / "out")[1]
    assert rows_of(tmp_path / "out" / REPORT)["empty.jpg"]["error"] is None


def test_what_another_run_derained_meanwhile_is_there(bulk: Bulk, rainy: Path, tmp_path: Path) -> None:
    """Two runs may share a target, with a report each."""

    def read_late(data: bytes, max_pixels: int) -> Any:
        for place in ALL:  # the other run is faster
            (tmp_path / "out" / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "out" / place).write_bytes(b"theirs")
        return read_image_header(data, max_pixels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("derain.bulk.pipeline.read_image_header", read_late)
        status, said = bulk(rainy, tmp_path / "out", "--threads", "1", "--report", tmp_path / "mine.csv")
    assert status == 0, said
    assert "0 not tried" not in said
    statuses = [row["status"] for row in rows_of(tmp_path / "mine.csv").values()]
    assert Status.NOT_TRIED not in statuses


@pytest.mark.parametrize(
    ("place", "image_format", "result"),
    [
        ("a/b.jpg", None, "a/b.jpg"),
        ("a/b.JPEG", None, "a/b.JPEG"),
        ("b.heic", None, "b.heic.jpg"),
        ("b.mpo", None, "b.mpo.jpg"),
        ("b.jpg", WEBP, "b.jpg.webp"),
        ("b.webp", WEBP, "b.webp"),
        ("b.tif", AVIF, "b.tif.avif"),
    ],
)
def test_a_name_depends_on_its_source_alone(place: str, image_format: Any, result: str) -> None:
    assert result_place(place, image_format) == result


def test_a_result_is_in_the_format_of_its_name(bulk: Bulk, rainy: Path, tmp_path: Path) -> None:
    (rainy / "a.png").write_bytes(encode(noise(20, 30), JPEG))  # no PNG, whatever its name says
    assert bulk(rainy, tmp_path / "out")[0] == 0
    assert bulk(rainy, tmp_path / "webp", "--format", "webp")[0] == 0
    assert read_header((tmp_path / "out" / "a.png").read_bytes()).format.name == "PNG"
    assert files_in(tmp_path / "webp") == {f"{place}.webp" for place in ALL} | {REPORT}
    assert read_header((tmp_path / "webp" / "a.png.webp").read_bytes()).format == WEBP


def test_collisions_are_refused(bulk: Bulk, rainy: Path, tmp_path: Path) -> None:
    """Disks may take two names for one."""
    (rainy / "A.PNG").write_bytes((rainy / "a.png").read_bytes())
    status, said = bulk(rainy, tmp_path / "out")
    assert status == 2
    assert f"{rainy}/A.PNG and {rainy}/a.png would both be written to {tmp_path}/out/a.png" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing", "out"], "missing does not exist"),
        (["notes.md", "out"], "notes.md is not an image, a folder, a prefix, a pattern or a manifest"),
        (["empty", "out"], "no images in "),
        (["rainy/*.webp", "out"], "nothing fits "),
        (["rainy", "rainy"], "would be written over itself"),
        (["rainy", "link"], "would be written over itself"),
        (["rainy", "notes.md"], "notes.md is not a folder"),
        (["rainy", "out", "--report", "run.json"], "run.json: a report is written as .csv or .parquet"),
        (["rainy", "out", "--report", "notes.csv"], "notes.csv is no report of derain bulk"),
        (["rainy", "out", "--root", "rainy"], "--root is for manifests"),
        (["list.txt", "out", "--column", "url"], "--column is for .parquet"),
        (["list.txt", "out", "--root", "empty"], "is not below the root"),
        (["nothing.txt", "out"], "nothing.txt names no image"),
        (["binary.txt", "out"], "binary.txt is no text in UTF-8"),
        (["notes.parquet", "out"], "notes.parquet cannot be read as Parquet"),
        (["ftpx://host/a", "out"], "ftpx:// is no protocol that fsspec knows"),
        (["s3://bucket/a", "out"], "s3:// needs the package s3fs, which is not installed: pip install s3fs"),
        (["zip://a::rainy/a.zip", "out"], "chained URLs"),
        (["rainy", "out", "--provider", "tensorrt"], "tensorrt was asked for"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant(
    bulk: Bulk, rainy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("link").symlink_to("rainy")
    Path("notes.md").touch()
    Path("notes.csv").write_text("name,age\nAnna,7\n")
    Path("list.txt").write_text("rainy/a.png\n")
    Path("nothing.txt").write_text("# none\n\n")
    Path("binary.txt").write_bytes(b"\xff\xfe")
    Path("notes.parquet").write_bytes(b"PAR1")
    before = files_in(tmp_path)
    status, printed = bulk(*arguments)
    assert status == 2
    assert printed.splitlines()[-1].startswith("derain: error: ")
    assert said in printed
    assert "Traceback" not in printed
    assert files_in(tmp_path) == before


def test_the_target_may_lie_in_the_source(bulk: Bulk, rainy: Path) -> None:
    assert "3 derained" in bulk(rainy, rainy / "derained")[1]
    assert "0 derained, 3 already there" in bulk(rainy, rainy / "derained")[1]


def test_sources_of_every_kind(bulk: Bulk, rainy: Path, tmp_path: Path) -> None:
    """An image, a pattern, and manifests."""
    (tmp_path / "list.txt").write_text(f"# of a camera\nrainy/a.png\n{rainy}/trip/a.png\nrainy/a.png\n")
    parquet.write_table(
        Table.from_pydict({"n": [1], "url": [f"file://{rainy}/trip/day 2/B.JPEG"]}), tmp_path / "list.parquet"
    )
    expected = {
        "single": (rainy / "a.png", {"a.png"}),
        "pattern": (rainy / "trip*" / "*.png", {"trip/a.png"}),
        "deep": (rainy / "**" / "*.png", {"a.png", "trip/a.png"}),
        "lines": (tmp_path / "list.txt", {"a.png", "trip/a.png"}),
        "column": (tmp_path / "list.parquet", {"B.JPEG"}),
    }
    for name, (source, places) in expected.items():
        assert bulk(source, tmp_path / name)[0] == 0, name
        assert files_in(tmp_path / name) == places | {REPORT}, name
    assert bulk(tmp_path / "list.parquet", tmp_path / "rooted", "--column", "url", "--root", rainy)[0] == 0
    assert files_in(tmp_path / "rooted") == {"trip/day 2/B.JPEG", REPORT}


@pytest.mark.parametrize(
    ("source", "places"),
    [
        ("IMG[1].png", {"IMG[1].png"}),
        ("*.png", {"IMG[1].png", "IMG1.png"}),
        ("IMG[0-9].png", {"IMG1.png"}),
        ("trip [a]/*.png", {"b.png"}),
        ("trip*/b.png", {"trip [a]/b.png"}),
    ],
)
def test_what_is_there_is_no_pattern(
    bulk: Bulk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, places: set[str]
) -> None:
    """Neither a file nor a folder, be it one that is not named but stood in."""
    folder = tmp_path / "shots [2020]"
    (folder / "trip [a]").mkdir(parents=True)
    for place in ("IMG[1].png", "IMG1.png", "trip [a]/b.png"):
        (folder / place).write_bytes(encode(noise(8, 9), PNG))
    monkeypatch.chdir(folder)
    assert bulk(source, tmp_path / "out")[0] == 0
    assert files_in(tmp_path / "out") == places | {REPORT}


def test_a_list_may_begin_with_a_byte_order_mark(bulk: Bulk, rainy: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("rainy/a.png\nrainy/trip/a.png\n".encode("utf-8-sig"))
    assert "2 derained, 0 already there, 0 failed" in bulk(tmp_path / "list.txt", tmp_path / "out")[1]


def test_a_folder_of_this_machine_may_have_colons_in_its_name(
    bulk: Bulk, rainy: Path, tmp_path: Path
) -> None:
    rainy.rename(tmp_path / "a::b")
    assert bulk(tmp_path / "a::b", tmp_path / "out::put")[0] == 0
    assert files_in(tmp_path / "out::put") == ALL | {REPORT}
    assert bulk(f"{tmp_path}/a::b/*.png", tmp_path / "pattern")[0] == 0
    assert files_in(tmp_path / "pattern") == {"a.png", REPORT}


@pytest.mark.parametrize(
    ("column", "said"), [("path", "has no column path"), ("n", "has 1, which names no image")]
)
def test_a_column_that_has_no_names(bulk: Bulk, tmp_path: Path, column: str, said: str) -> None:
    parquet.write_table(Table.from_pydict({"n": [1]}), tmp_path / "list.parquet")
    status, printed = bulk(tmp_path / "list.parquet", tmp_path / "out", "--column", column)
    assert status == 2
    assert said in printed


@pytest.fixture
def memory() -> Any:
    """An empty file system of fsspec's, that has no atomic put."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


def test_what_fsspec_reaches(bulk: Bulk, rainy: Path, tmp_path: Path, memory: Any) -> None:
    """The same bytes as from disk to disk; nothing is seen under its name before it is whole."""
    bulk(rainy, tmp_path / "near")
    for place, data in photographs().items():
        memory.pipe_file(f"/source/{place}", data)
    memory.pipe_file("/source/.hidden/x.png", b"")
    status, said = bulk("memory://source", "memory://target/deep", "--report", "memory://target/run.parquet")
    assert status == 0
    assert "3 derained, 0 already there, 0 failed, 1 left out" in said
    found = {path.removeprefix("/target/deep/") for path in memory.find("/target/deep")}
    assert found == ALL
    for place in ALL:
        assert memory.cat_file(f"/target/deep/{place}") == (tmp_path / "near" / place).read_bytes()
    assert memory.find("/target", maxdepth=1) == ["/target/run.parquet"], "the journal is gone"
    memory.rm("/target/deep/a.png")
    again = bulk("memory://source", "memory://target/deep", "--report", "memory://target/run.parquet")
    assert "1 derained, 2 already there" in again[1]
    sources = {row.source for row in read_report("memory://target/run.parquet")}
    assert sources == {f"memory:///source/{place}" for place in [*ALL, ".hidden/x.png"]}


def test_far_patterns_and_manifests(bulk: Bulk, tmp_path: Path, memory: Any) -> None:
    for place, data in photographs().items():
        memory.pipe_file(f"/source/{place}", data)
    memory.pipe_file("/lists/list.txt", b"memory://source/trip/a.png\n../source/a.png\n")
    assert bulk("memory://source/trip/*/*.JPEG", tmp_path / "pattern")[0] == 0
    assert files_in(tmp_path / "pattern") == {"day 2/B.JPEG", REPORT}
    memory.pipe_file("/lists/list.txt", b"memory://source/trip/a.png\nmemory://source/a.png\n")
    assert bulk("memory://lists/list.txt", tmp_path / "list")[0] == 0
    assert files_in(tmp_path / "list") == {"a.png", "trip/a.png", REPORT}


def test_a_put_that_breaks_off_leaves_nothing(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(self: Any, old: str, new: str, **_: Any) -> None:
        raise ConnectionResetError("the line is dead")

    storage.write("memory://target/a.png", b"whole")
    monkeypatch.setattr(type(memory), "mv", break_off)
    monkeypatch.setattr(storage, "_PAUSE_S", 0)
    with pytest.raises(storage.StorageError, match=r"a\.png cannot be written: the line is dead"):
        storage.write("memory://target/a.png", b"anew")
    assert memory.find("/target") == ["/target/a.png"]
    assert storage.read("memory://target/a.png") == b"whole"


def test_a_network_that_fails_once_is_asked_again(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe_file("/a", b"whole")
    asked = []
    honest = type(memory).cat_file

    def fail_once(self: Any, path: str, **options: Any) -> bytes:
        asked.append(path)
        if len(asked) == 1:
            raise ConnectionResetError("the line is dead")
        return bytes(honest(self, path, **options))

    monkeypatch.setattr(type(memory), "cat_file", fail_once)
    monkeypatch.setattr(storage, "_PAUSE_S", 0)
    assert storage.read("memory://a") == b"whole"
    assert len(asked) == 2
    with pytest.raises(storage.MissingError, match="does not exist"):
        storage.read("memory://b")
    assert len(asked) == 3, "what is not there will not be there"
