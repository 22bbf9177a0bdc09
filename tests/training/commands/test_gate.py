"""A candidate that is worse in anything is refused for it, and one that is as good passes."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from derain.images.formats import PNG
from derain.images.plain import encode
from derain.inference.engine import Engine
from derain.inference.sessions import Provider
from derain.manifest import MANIFEST_NAME, describe_file, load_manifest
from derain.models.registry import Registry
from tests.conftest import describe_model, noise, write_estimating
from training.commands.gate import NOT_RUN, PASSED, REFUSED, main
from training.evaluation.gate.comparison import (
    CLEAN_ENOUGH_PSNR,
    MEASURES,
    PSNR,
    SIZE,
    SPEED,
    Outcome,
    Row,
    Tolerances,
    compare,
    compare_folders,
    report,
)
from training.evaluation.gate.scenes import (
    OWN_SET,
    PIECE_PX,
    GateError,
    Scene,
    SceneSet,
    check_unseen,
    cut_pieces,
    held_out_scenes,
    scenes_of,
)
from training.evaluation.pairs import PairFiles, find_clean
from training.rain.drawn import DRAWN
from training.stats import Interval


def write_filter(
    folder: Path, opening: float = 0.6, blur: float = 0.0, idle: int = 0, ballast: int = 100_000
) -> Path:
    """A model folder whose network takes bright lines off, by a share of a morphological opening.

    A share of a blur does damage, idle convolutions take time, and ballast is never read.
    """

    def scaled(name: str, factor: float) -> TensorProto:
        return numpy_helper.from_array(np.array(factor, np.float32), name)

    window: dict[str, Any] = {"kernel_shape": [1, 5], "pads": [0, 2, 0, 2]}
    around: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Neg", ["rainy"], ["negative"]),
        helper.make_node("MaxPool", ["negative"], ["eroded"], **window),
        helper.make_node("Neg", ["eroded"], ["darkest"]),
        helper.make_node("MaxPool", ["darkest"], ["opened"], **window),
        helper.make_node("Sub", ["rainy", "opened"], ["lines"]),
        helper.make_node("Mul", ["lines", "opening"], ["rain"]),
        helper.make_node("Sub", ["rainy", "rain"], ["dry"]),
        helper.make_node("AveragePool", ["dry"], ["blurred"], count_include_pad=0, **around),
        helper.make_node("Sub", ["dry", "blurred"], ["detail"]),
        helper.make_node("Mul", ["detail", "blur"], ["lost"]),
        helper.make_node("Sub", ["dry", "lost"], ["idle0"]),
        *(helper.make_node("Conv", [f"idle{i}", "same"], [f"idle{i + 1}"], **around) for i in range(idle)),
        helper.make_node("Identity", [f"idle{idle}"], ["derained"]),
    ]
    same = np.zeros((3, 3, 3, 3), np.float32)
    same[range(3), range(3), 1, 1] = 1
    shape: list[str | int | None] = ["N", 3, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "filter",
        [helper.make_tensor_value_info("rainy", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("derained", TensorProto.FLOAT, shape)],
        [
            scaled("opening", opening),
            scaled("blur", blur),
            *([numpy_helper.from_array(same, "same")] if idle else []),
        ],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    network.doc_string = "." * ballast
    folder.mkdir(parents=True)
    onnx.save(network, folder / "model.onnx")
    describe_model(folder)
    return folder


@pytest.fixture(autouse=True)
def few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evaluation.gate.comparison.TURNS", 9)


@pytest.fixture(scope="module")
def own_scenes() -> list[Scene]:
    return list(held_out_scenes())


@pytest.fixture(scope="module")
def few(own_scenes: list[Scene]) -> SceneSet:
    """Some of the repository's own scenes."""
    return SceneSet(OWN_SET, own_scenes[::3], [drawn.name for drawn in DRAWN])


@pytest.fixture(scope="module")
def current(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(write_filter(tmp_path_factory.mktemp("models") / "current"), Provider.CPU, threads=1)
    yield engine
    engine.close()


# Time depends on what else the machine does: with these a candidate can only be refused for its images.
ANY_SPEED = replace(Tolerances(), slower=1000.0)


def outcome_of(
    folder: Path, current: Engine, few: SceneSet, tolerances: Tolerances = ANY_SPEED, **changes: Any
) -> Outcome:
    candidate = Engine(write_filter(folder, **changes), Provider.CPU, threads=1)
    try:
        return compare(candidate, current, [few], tolerances)
    finally:
        candidate.close()


@pytest.mark.slow
def test_an_equal_candidate_passes(tmp_path: Path, current: Engine, few: SceneSet) -> None:
    outcome = outcome_of(tmp_path / "equal", current, few)
    assert outcome.refusals == []
    judged = [row for row in outcome.rows if row.set == OWN_SET]
    assert {row.measure.key for row in judged} >= {measure.key for measure in MEASURES}
    assert all(row.difference == Interval(0, 0, 0) and row.images == len(few.scenes) for row in judged)


@pytest.mark.slow
def test_one_that_damages_clean_pictures_is_refused(tmp_path: Path, current: Engine, few: SceneSet) -> None:
    outcome = outcome_of(tmp_path / "blurred", current, few, blur=0.7)
    (said,) = [refusal for refusal in outcome.refusals if "clean images come back" in refusal]
    (row,) = [row for row in outcome.rows if row.measure.key == "clean_psnr"]
    assert said == (
        f"drawn rain: clean images come back at {row.candidate:.2f} dB, "
        f"{row.loss.mean:.2f} dB [{row.loss.low:.2f}, {row.loss.high:.2f}] below "
        f"the current model's {row.current:.2f} dB; allowed: 1 dB"
    )
    assert row.candidate < row.current <= CLEAN_ENOUGH_PSNR
    assert 0 < row.loss.low < row.loss.mean < row.loss.high
    assert [refusal for refusal in outcome.refusals if "the error off the rain is" in refusal]


@pytest.mark.slow
def test_one_that_leaves_rain_is_refused(tmp_path: Path, current: Engine, few: SceneSet) -> None:
    outcome = outcome_of(tmp_path / "lazy", current, few, opening=0.1)
    assert [refusal for refusal in outcome.refusals if "the share of rain removed is" in refusal]
    assert not [refusal for refusal in outcome.refusals if "clean images" in refusal], "it does less damage"
    family = {row.set: row for row in outcome.rows if row.measure.key == "removal"}
    assert family["– downpour"].difference.mean < 0
    assert family["– downpour"].allowed is None


@pytest.mark.slow
def test_a_better_one_passes(tmp_path: Path, current: Engine, few: SceneSet) -> None:
    lazy = Engine(write_filter(tmp_path / "lazy", opening=0.3, blur=0.7), Provider.CPU, threads=1)
    outcome = compare(current, lazy, [few], ANY_SPEED)
    lazy.close()
    assert outcome.refusals == []
    better = {row.measure.key: row.loss.high for row in outcome.rows if row.set == OWN_SET}
    assert better["clean_psnr"] < 0
    assert better["removal"] < 0


@pytest.mark.slow
def test_a_slower_one_is_refused(tmp_path: Path, current: Engine, few: SceneSet) -> None:
    scene = SceneSet(OWN_SET, few.scenes[:2])
    outcome = outcome_of(tmp_path / "slow", current, scene, Tolerances(), idle=150)
    (said,) = [refusal for refusal in outcome.refusals if refusal.startswith("speed")]
    assert "a megapixel takes" in said
    assert said.endswith("allowed: 10 %")
    (row,) = [row for row in outcome.rows if row.measure is SPEED]
    assert row.candidate > 2 * row.current
    assert row.difference.low > 100


@pytest.mark.slow
def test_a_larger_one_is_refused(tmp_path: Path, current: Engine, few: SceneSet) -> None:
    scene = SceneSet(OWN_SET, few.scenes[:2])
    outcome = outcome_of(tmp_path / "large", current, scene, ballast=150_000)
    (said,) = outcome.refusals
    assert said.startswith("size: the ONNX files have 0.15 MB, ")
    assert said.endswith(" % above the current model's 0.10 MB; allowed: 10 %")


@pytest.mark.slow
def test_the_size_is_that_of_all_files(tmp_path: Path) -> None:
    folders = [write_estimating(tmp_path / name) for name in ("heavy", "light")]
    heavy, light = (load_manifest(folder) for folder in folders)
    assert heavy.estimator is not None
    path = folders[0] / heavy.estimator.file.name
    network = onnx.load(path)
    network.doc_string = "." * 2 * sum(file.bytes for file in light.files)
    onnx.save(network, path)
    estimator = heavy.estimator.model_copy(update={"file": describe_file(path, heavy.estimator.file.opset)})
    heavy = heavy.model_copy(update={"estimator": estimator})
    (folders[0] / MANIFEST_NAME).write_text(heavy.model_dump_json())

    outcome = compare_folders(folders[0], folders[1], [], ANY_SPEED)
    (said,) = outcome.refusals
    assert said.startswith("size: ")
    (row,) = [row for row in outcome.rows if row.measure is SIZE]
    bytes_ = [sum(path.stat().st_size for path in folder.glob("*.onnx")) for folder in folders]
    assert [row.candidate, row.current] == [value / 1e6 for value in bytes_]
    models = {"candidate": (folders[0], heavy), "current": (folders[1], light)}
    reported = report(outcome, models, ANY_SPEED)["models"]
    assert [each["bytes"] for each in reported.values()] == bytes_


def test_what_is_too_uncertain_is_refused_and_said_so() -> None:
    """On average within what is allowed, at the bad end not."""
    row = Row("mine", PSNR, 30.0, 30.1, Interval(-0.1, -0.9, 0.7), 5, 0.5)
    assert not row.passes
    assert row.refusal() == (
        "mine: too uncertain: rainy images come out at 30.00 dB, against the current model's 30.10 dB, "
        "which is within what is allowed, but 5 images cannot rule out 0.90 dB worse; allowed: 0.5 dB"
    )
    single = Row("mine", PSNR, 30.0, 30.1, Interval(-0.1, -math.inf, math.inf), 1, 0.5)
    assert not single.passes
    assert "but 1 image cannot tell" in single.refusal()
    assert Row("mine", PSNR, 30.0, 30.1, Interval(-0.1, -0.4, 0.7), 5, 0.5).passes


@pytest.mark.slow
def test_the_pictures_are_those_held_out_and_the_same_each_time(own_scenes: list[Scene]) -> None:
    assert len(own_scenes) >= 40
    for scene, other in zip(own_scenes, held_out_scenes(), strict=True):
        pairs = [case.read() for case in scene.cases]
        assert len(pairs) == len(DRAWN)
        assert all(np.array_equal(pair.clean, pairs[0].clean) for pair in pairs)
        for pair, same in zip(pairs, other.cases, strict=True):
            assert np.array_equal(pair.rainy, same.read().rainy)
            assert not np.array_equal(pair.rainy, pair.clean)
        assert scene.file is None or scene.file.parent.name == "heldout"
    names = [scene.name for scene in own_scenes]
    assert len(set(names)) == len(names)


def test_pieces_do_not_overlap_and_stay_inside() -> None:
    numbers = np.arange(450 * 620).reshape(450, 620)
    image = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1).astype(np.uint8)
    pieces = cut_pieces(image, PIECE_PX)
    assert [piece.shape for piece in pieces] == [(PIECE_PX, PIECE_PX, 3)] * 6
    seen = [piece.astype(int) @ [1, 256, 65536] for piece in pieces]
    assert len(np.unique(seen)) == 6 * PIECE_PX**2
    (small,) = cut_pieces(image[:50, :90], PIECE_PX)
    assert small.shape == (50, 90, 3)


def test_several_rains_over_one_scene_count_once() -> None:
    files = [PairFiles(Path(f"{scene}_{rain}.png"), Path(f"{scene}.png")) for scene in "ab" for rain in "12"]
    scenes = scenes_of(files)
    assert [(scene.name, len(scene.cases)) for scene in scenes] == [("a.png", 2), ("b.png", 2)]


# The command


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A registry that serves `current`, and candidates beside it."""
    folder = tmp_path / "models"
    write_filter(folder / "current")
    write_filter(folder / "better", opening=0.65)
    write_filter(folder / "worse", opening=0.1, blur=0.8)
    Registry(folder).promote("current", "the first")
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, few: SceneSet) -> None:
    """The command on some of the scenes."""
    monkeypatch.setattr("training.commands.gate.held_out_scenes", lambda: iter(few.scenes))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_better_is_promoted_the_worse_refused_and_the_way_back_is_open(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, report = Registry(models), tmp_path / "reports" / "gate.json"
    options = ["--report", str(report), "--promote", "--slower", "1000"]

    assert main([str(models / "worse"), *options]) == REFUSED
    said = capsys.readouterr().out
    assert f"{models / 'worse'} is refused:\n- drawn rain: " in said
    assert registry.current().model == "current"
    assert not json.loads(report.read_text())["passed"]

    assert main([str(models / "better"), *options]) == PASSED
    assert "served from now on: better" in capsys.readouterr().out
    choice = registry.current()
    assert choice.sha256 == load_manifest(models / "better").sha256
    assert choice.reason.startswith("passed the gate against tiny ")
    assert choice.reason.endswith(str(report))
    assert "removal η +0.0" in choice.reason

    found = json.loads(report.read_text())
    assert found["passed"]
    assert found["refusals"] == []
    assert found["models"]["candidate"]["sha256"] == choice.sha256
    assert found["tolerances"]["slower"] == 1000
    (row,) = [r for r in found["rows"] if r["set"] == OWN_SET and r["measure"] == "psnr"]
    each = {
        side: np.mean([e["psnr"] for e in found["each"] if e["model"] == side and e["set"] == OWN_SET])
        for side in ("candidate", "current")
    }
    assert row["candidate"] == pytest.approx(each["candidate"])
    assert row["difference"] == pytest.approx(each["candidate"] - each["current"])
    assert row["low"] <= row["difference"] <= row["high"]

    assert registry.roll_back().model == "current"


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_sets_of_ones_own_are_judged_too(models: Path, tmp_path: Path, few: SceneSet) -> None:
    """With clean images alone, and with one pair, which is too few to tell."""
    for folder in ("rainy", "clean", "dry"):
        (tmp_path / folder).mkdir()
    for number, scene in enumerate(few.scenes[:7]):
        pair = scene.cases[0].read()
        (tmp_path / "dry" / f"{number}.png").write_bytes(encode(pair.clean, PNG))
    (tmp_path / "rainy" / "0.png").write_bytes(encode(pair.rainy, PNG))
    (tmp_path / "clean" / "0.png").write_bytes(encode(pair.clean, PNG))
    report = tmp_path / "gate.json"
    sets = ["--pairs", "mine", str(tmp_path / "rainy"), str(tmp_path / "clean")]
    sets += ["--clean", "dry", str(tmp_path / "dry")]
    arguments = [str(models / "better"), str(models / "current"), *sets]
    assert main([*arguments, "--report", str(report), "--slower", "1000"]) == REFUSED
    found = json.loads(report.read_text())
    judged = {r["set"]: {r["measure"]} for r in found["rows"] if r["allowed"] is not None}
    assert judged["dry"] == {"clean_psnr"}
    assert {r["set"] for r in found["rows"] if not r["passes"]} == {"mine"}
    assert all("1 image cannot tell" in refusal for refusal in found["refusals"])
    (row, *_) = [r for r in found["rows"] if r["set"] == "mine"]
    assert (row["low"], row["high"], row["images"]) == (None, None, 1)


@pytest.mark.parametrize("fault", ["tampered", "no manifest", "missing", "no network", "another contract"])
def test_a_model_that_is_not_sound_is_not_compared(
    models: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models / "better"
    match fault:
        case "tampered":
            (folder / "model.onnx").write_bytes((models / "worse" / "model.onnx").read_bytes())
        case "no manifest":
            (folder / MANIFEST_NAME).unlink()
        case "missing":
            shutil.rmtree(folder)
        case "no network":
            (folder / "model.onnx").write_bytes(b"no network")
            describe_model(folder)
        case "another contract":
            network = onnx.load(folder / "model.onnx")
            network.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
            onnx.save(network, folder / "model.onnx")
            describe_model(folder)
    assert main([str(folder)]) == NOT_RUN
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert str(folder) in said.err
    assert said.out == ""


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_what_a_candidate_was_trained_on_does_not_judge_it(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = load_manifest(models / "better")
    recipe = {"backgrounds": {"photographs": "training/photographs/heldout"}}
    seen = manifest.model_copy(update={"recipe": recipe})
    (models / "better" / MANIFEST_NAME).write_text(seen.model_dump_json())
    assert main([str(models / "better")]) == NOT_RUN
    assert "better was trained on " in capsys.readouterr().err


def test_images_of_the_training_are_told_by_their_bytes(models: Path, tmp_path: Path) -> None:
    """A copy is no other image; one in a folder below is never read by a training."""
    photographs, copy = tmp_path / "photographs", tmp_path / "copy"
    manifest = load_manifest(models / "better")
    seen = manifest.model_copy(update={"recipe": {"backgrounds": {"photographs": str(photographs)}}})
    for path, side_px in ((photographs / "a", 40), (photographs / "below" / "a", 48), (copy / "b", 40)):
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".png").write_bytes(encode(noise(side_px, side_px), PNG))

    def check(folder: Path) -> None:
        check_unseen(models / "better", seen, [SceneSet("dry", scenes_of(find_clean(folder)))])

    check(photographs / "below")
    for folder, name in ((photographs, "a.png"), (copy, "b.png")):
        with pytest.raises(
            GateError, match=f"was trained on {photographs}, which has {folder / name} of dry"
        ):
            check(folder)
    (photographs / "a.png").unlink()
    check(copy)


def test_only_what_is_replaced_is_compared_with_when_promoting(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = ["--report", str(tmp_path / "gate.json"), "--promote"]
    assert main([str(models / "better"), str(models / "worse"), *report]) == NOT_RUN
    assert "can only be promoted against what it replaces" in capsys.readouterr().err
    assert main([str(models / "current"), *report]) == NOT_RUN
    assert "current is served already" in capsys.readouterr().err
    assert len(Registry(models).history()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["better", "--promote"], "--promote needs --report"),
        (["better", "--psnr", "-1"], "'-1' is not a number of 0 or more"),
        (["better", "--removal", "nan"], "'nan' is not a number of 0 or more"),
        (["better", "--pairs", "mine"], "--pairs takes a name and one or two folders"),
        ([], "required: candidate"),
    ],
)
def test_bad_arguments_are_explained(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == NOT_RUN
    assert words in capsys.readouterr().err


def test_nothing_served_and_nothing_named_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_filter(tmp_path / "models" / "one")
    assert main([str(tmp_path / "models" / "one")]) == NOT_RUN
    assert "no model has been promoted" in capsys.readouterr().err
