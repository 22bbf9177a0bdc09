"""The pointer says what is served, whatever happens to it, to the models and to those who move it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from derain.errors import ModelError
from derain.manifest import ModelFile, describe_file, load_manifest
from derain.models.__main__ import main
from derain.models.registry import PromotionError, Registry
from derain.pointer import Choice
from tests.conftest import ROOT, describe_model, write_model

NAMES = ("first", "second", "third")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models; copied by the registry of each test."""
    folder = tmp_path_factory.mktemp("made")
    for channels, name in enumerate(NAMES, start=1):
        write_model(folder / name, channels)
    return folder


@pytest.fixture
def registry(made: Path, tmp_path: Path) -> Registry:
    return Registry(Path(shutil.copytree(made, tmp_path / "models")))


def served(registry: Registry) -> list[str]:
    return [choice.model for choice in registry.history()]


def test_the_repository_serves_a_model_that_it_has() -> None:
    choice = Registry().current()
    assert choice.sha256 == load_manifest(ROOT / "models" / choice.model).sha256


def test_what_is_promoted_is_current_and_pinned(registry: Registry) -> None:
    assert registry.names() == sorted(NAMES)
    made = [registry.promote(name, f"because of {name}") for name in NAMES]
    assert registry.history() == made
    assert registry.current() == made[-1]
    assert made[-1].sha256 == load_manifest(registry.folder("third")).sha256
    assert made[-1].reason == "because of third"
    assert Registry(registry.path).history() == made, "it is in the file"


def test_what_is_served_is_not_promoted_again(registry: Registry) -> None:
    registry.promote("first", "the first")
    with pytest.raises(PromotionError, match=r"first \w{12} is served already"):
        registry.promote("first", "once more")
    assert len(registry.history()) == 1


def test_each_way_back_goes_one_further(registry: Registry) -> None:
    for name in NAMES:
        registry.promote(name, "better")
    assert registry.roll_back().model == "second"
    assert registry.roll_back().model == "first"
    with pytest.raises(PromotionError, match="nothing was served before first"):
        registry.roll_back()
    assert served(registry) == [*NAMES, "second", "first"], "nothing is taken out of the history"
    assert registry.history()[-1].reason.startswith("back from second")
    # What went wrong is not gone back to after something new.
    registry.promote("third", "mended")
    assert registry.roll_back().model == "first"


def test_nothing_before_is_said(registry: Registry) -> None:
    with pytest.raises(ModelError, match="missing: no model has been promoted"):
        registry.roll_back()
    registry.promote("first", "the first")
    with pytest.raises(PromotionError, match="nothing was served before first"):
        registry.roll_back()


@pytest.mark.parametrize("name", ["none", "../models/first", ".", "", "/"])
def test_a_name_that_is_none_says_which_there_are(registry: Registry, name: str) -> None:
    with pytest.raises(ModelError, match="there are first, second, third"):
        registry.promote(name, "why not")
    assert not registry.pointer.exists()


def test_a_reason_is_needed(registry: Registry) -> None:
    with pytest.raises(PromotionError, match="why is first promoted"):
        registry.promote("first", " ")


def test_unfinished_models_are_none(registry: Registry) -> None:
    shutil.copytree(registry.folder("first"), registry.path / ".fourth.unfinished")
    (registry.path / "empty").mkdir()
    assert registry.names() == sorted(NAMES)


def test_a_model_that_was_tampered_with_is_neither_promoted_nor_current(registry: Registry) -> None:
    registry.promote("first", "the first")
    for name in ("first", "second"):
        path = registry.folder(name) / "model.onnx"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(ModelError, match="not the file its manifest describes"):
        registry.promote("second", "better")
    with pytest.raises(ModelError, match="not the file its manifest describes"):
        registry.current()
    assert served(registry) == ["first"]


def test_another_model_under_the_same_name_is_noticed_and_can_be_promoted(registry: Registry) -> None:
    registry.promote("second", "the first to be served")
    old = registry.promote("first", "better")
    shutil.rmtree(registry.path / "first")
    shutil.copytree(registry.path / "third", registry.path / "first")
    with pytest.raises(ModelError, match=r"first is another model than the one that was promoted: SHA-256 "):
        registry.current()
    new = registry.promote("first", "trained anew")
    assert registry.current() == new != old
    with pytest.raises(ModelError, match="another model"):  # the one that was served before is gone
        registry.roll_back()
    assert registry.current() == new


def test_a_model_that_is_gone_is_said(registry: Registry) -> None:
    registry.promote("first", "the first")
    shutil.rmtree(registry.path / "first")
    with pytest.raises(ModelError, match=r"no model 'first' in .*: there are second, third"):
        registry.current()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the whole file"),
        ('{"version": 1, "history": [', "the whole file"),
        ('{"version": 1, "history": []}', "history"),
        ('{"version": 2, "history": []}', "version"),
        ('{"version": 1, "history": [{"model": "../first"}]}', "history.0.model"),
        ("\x00" * 100, "the whole file"),
    ],
)
def test_a_broken_pointer_is_said_and_not_written_over(registry: Registry, text: str, words: str) -> None:
    registry.pointer.write_text(text)
    for attempt in (registry.current, registry.roll_back, lambda: registry.promote("first", "better")):
        with pytest.raises(ModelError, match=rf"serving\.json cannot be read: {words}"):
            attempt()
    assert registry.pointer.read_text() == text


def test_a_way_back_reads_the_model_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing is most of the time that a large one takes, and others wait for the lock."""
    registry.promote("first", "the first")
    registry.promote("second", "better")
    read: list[Path] = []

    def described(path: Path, opset: int) -> ModelFile:
        read.append(path)
        return describe_file(path, opset)

    monkeypatch.setattr("derain.manifest.describe_file", described)
    registry.roll_back()
    assert read == [registry.folder("first") / "model.onnx"]


@pytest.mark.parametrize("fault", ["shape", "channels", "input", "rubbish", "no network"])
def test_a_network_of_another_contract_is_not_promoted(registry: Registry, fault: str) -> None:
    """Its manifest is in order, but it does not run, or returns no image."""
    rainy: list[str | int | None] = ["N", 3, "H", "W"]
    clean: list[str | int | None] = ["N", 3, "H", "W"]
    nodes = [helper.make_node("Identity", ["rainy"], ["clean"])]
    match fault:
        case "shape":
            nodes = [helper.make_node("MaxPool", ["rainy"], ["clean"], kernel_shape=[2, 2], strides=[2, 2])]
            clean = ["N", 3, "h", "w"]
        case "channels":
            nodes = [helper.make_node("ReduceMean", ["rainy", "axes"], ["clean"])]
            clean = ["N", 1, "H", "W"]
        case "input":
            rainy = clean = ["N", 3, 64, 64]
        case "rubbish":
            nodes = [helper.make_node("Sub", ["rainy", "rainy"], ["clean"])]
    graph = helper.make_graph(
        nodes,
        fault,
        [helper.make_tensor_value_info("rainy", TensorProto.FLOAT, rainy)],
        [helper.make_tensor_value_info("clean", TensorProto.FLOAT, clean)],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    folder = registry.folder("second")
    onnx.save(network, folder / "model.onnx")
    if fault == "no network":
        (folder / "model.onnx").write_bytes(b"no network")
    describe_model(folder)
    with pytest.raises(ModelError, match="second"):
        registry.promote("second", "better")
    assert not registry.pointer.exists()


@pytest.mark.slow
def test_two_promotions_at_once_are_both_in_the_history(registry: Registry) -> None:
    """Threads of one process, and processes, each promoting what the others do not."""
    for number in range(12):
        shutil.copytree(registry.path / NAMES[number % 3], registry.path / f"of-thread-{number}")
    command = [sys.executable, "-m", "derain.models", "--models", str(registry.path), "promote"]
    processes = [subprocess.Popen([*command, name, "--reason", "a process"], cwd=ROOT) for name in NAMES]
    with ThreadPoolExecutor(4) as pool:
        names = [f"of-thread-{number}" for number in range(12)]
        list(pool.map(lambda name: registry.promote(name, "a thread"), names))
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert sorted(served(registry)) == sorted([*NAMES, *names])


_PROMOTE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from derain.models.registry import Registry
registry = Registry(Path(sys.argv[1]))
for name in itertools.cycle(("second", "first")):
    registry.promote(name, "on and on")
    print("promoted", flush=True)
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_is_the_old_one_or_the_new_one(registry: Registry) -> None:
    registry.promote("first", "the first")
    before = registry.history()
    for attempt in range(6):
        registry.promote("third", "so that both others are new")
        command = [sys.executable, "-c", _PROMOTE_FOR_EVER, str(registry.path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            time.sleep(0.003 * attempt)
            process.send_signal(signal.SIGKILL)
        after = registry.history()
        assert after[: len(before)] == before, "what was there is there"
        assert registry.current() == after[-1]
        before = after


@pytest.mark.slow
def test_readers_never_see_half_a_pointer(registry: Registry) -> None:
    registry.promote("first", "the first")
    done = threading.Event()
    seen: list[Choice] = []

    def read() -> None:
        while not done.is_set():
            seen.append(Registry(registry.path).history()[-1])

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for name in ("second", "third", "first") * 4:
            registry.promote(name, "better")
        done.set()
        reading.result()
    assert {choice.model for choice in seen} <= set(NAMES)


def test_a_full_disk_leaves_the_old_pointer(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.promote("first", "the first")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "fsync", full)
        registry.promote("second", "better")
    assert served(registry) == ["first"]
    assert registry.promote("second", "better").model == "second"


def test_a_lock_that_is_never_given_back_is_said(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("derain.models.registry._MAX_WAIT_S", 0.05)
    program = f"import fcntl, time; f = open({str(registry.path / '.serving.lock')!r}, 'a'); "
    program += "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(PromotionError, match=r"\.serving\.lock has been held by another promotion"):
            registry.promote("first", "better")
        process.kill()
    assert registry.promote("first", "better").model == "first", "the lock ends with its holder"


def test_the_command(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["--models", str(registry.path), *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    status, out, err = run("list")
    assert status == 1, "there is no pointer yet"
    assert all(name in out for name in NAMES)
    assert "no model has been promoted" in err
    assert run("promote", "first", "--reason", "the first")[0] == 0
    assert run("promote", "second", "--reason", "less rain left")[0] == 0
    status, _, err = run("promote", "second", "--reason", "again")
    assert (status, err[:6]) == (1, "error:")
    assert "* second" in run("list")[1]
    assert run("rollback")[1].startswith("served again: first")
    assert run("rollback")[0] == 1
    status, out, _ = run("history")
    assert [line.split("UTC")[1].split()[0] for line in out.splitlines()] == ["first", "second", "first"]
    assert "less rain left" in out
    (registry.path / "first" / "model.onnx").write_bytes(b"damaged")
    status, out, err = run("list")
    assert status == 1
    assert "* " not in out
    assert "is not the file its manifest describes" in out
    with pytest.raises(SystemExit) as exit_:
        run("promote", "first")
    assert exit_.value.code == 2


def test_the_pointer_is_for_people_as_well(registry: Registry) -> None:
    registry.promote("first", "the first")
    (entry,) = json.loads(registry.pointer.read_text())["history"]
    assert entry["model"] == "first"
    assert entry["at"].endswith("Z")
