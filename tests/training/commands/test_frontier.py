"""The figure of gain against cost: what is in it, what is hollow, and what it will not put side by side."""

import shutil
import subprocess
from pathlib import Path

import pytest

from derain.manifest import MANIFEST_NAME, CleanBack, Evaluation, Manifest, load_manifest
from tests.conftest import ROOT
from tests.training.conftest import figure_texts
from training.commands.frontier import main
from training.experiments.frontier import (
    COSTS,
    MACHINES_DIFFER,
    ONE_THREAD,
    collect,
    draw,
    model_cost,
    read_models,
)
from training.experiments.peers import PAIR_SETS, PEERS, SETS, Peers, PeersError, read_peers

TABLE = """\
name,trained_on,seen,akin,sample,parameters,kmac_per_pixel,cpu_s_480x320,cpu_s_1280x720,rain100l,rain100h,ddn_sirr,kodak24_back
rainy input,,,,all,,,,,25,12,20,
rainy input,,,,part,,,,,26,13,21,
Whole,L,rain100l,,all,100,52,0.2,1.8432,29,16,23,37
Third,M,,ddn_sirr,part,100,500,2,9.216,27,17,22,30
Unscored,,,,,100,50,0.1,1,,,,
"""


def clean_back(identical: int = 0) -> CleanBack:
    return CleanBack(images=3, identical=identical, below_40=0, below_30=0, worst=None, median_changed=40.0)


def evaluation(name: str, gain: float = 2.0, measured_on: str | None = ONE_THREAD) -> Evaluation:
    rainy = {"rain100l": 25.0, "rain100h": 12.0, "ddn_sirr": 20.0}.get(name)
    return Evaluation(
        name=name,
        role="validation" if name == "ddn_sirr" else "test",
        pictures=3,
        psnr=None if rainy is None else rainy + gain,
        ssim=None,
        input_psnr=rainy,
        removal=None,
        rain_change=None,
        background_error=None,
        background_error_50=None,
        clean=clean_back(),
        ms_per_megapixel=500.0 if measured_on else None,
        measured_on=measured_on,
    )


def put(models: Path, model: Path, name: str, evaluations: list[Evaluation]) -> Manifest:
    """A model of that name and those scores."""
    shutil.copytree(model, models / name)
    known = load_manifest(model)
    manifest = known.model_copy(update={"name": name, "kmac_per_pixel": 40.0, "evaluations": evaluations})
    (models / name / MANIFEST_NAME).write_text(manifest.model_dump_json())
    return manifest


@pytest.fixture
def models(model: Path, tmp_path: Path) -> Path:
    """One model that is all measured, one that was never scored, and what an export left behind."""
    put(tmp_path / "models", model, "small", [evaluation(name) for name in SETS])
    put(tmp_path / "models", model, "fresh", [evaluation("drawn shower")])
    put(tmp_path / "models", model, ".half.unfinished", [evaluation(name) for name in SETS])
    return tmp_path / "models"


@pytest.fixture
def peers(tmp_path: Path) -> Path:
    path = tmp_path / "peers.csv"
    path.write_text(TABLE)
    return path


# Points


def test_gain_is_over_the_rainy_pictures_of_the_same_sample(models: Path, peers: Path) -> None:
    points = collect(read_models(models), read_peers(peers), "ms")
    gains = {name: {point.label: point.score for point in own} for name, own in points.items()}
    assert gains["rain100l"] == {"small": 2, "Whole, L": 4, "≈ Third, M": 1}
    assert gains["kodak24"] == {"small": 40, "Whole, L": 37, "≈ Third, M": 30}, "these are no gains"


def test_images_that_came_back_identical_are_counted_beside_the_median(model: Path, tmp_path: Path) -> None:
    kodak = evaluation("kodak24").model_copy(update={"clean": clean_back(identical=2)})
    put(tmp_path, model, "small", [kodak])
    (point,) = collect(read_models(tmp_path), Peers([], {}), "ms")["kodak24"]
    assert (point.label, point.score) == ("small (besides 2 of 3 identical)", 40)


def test_what_was_trained_on_is_told(models: Path, peers: Path) -> None:
    points = collect(read_models(models), read_peers(peers), "ms")
    told = {(name, point.label): point.exposure for name, own in points.items() for point in own}
    known = {key: exposure for key, exposure in told.items() if exposure != "unseen"}
    assert known == {("rain100l", "Whole, L"): "seen", ("ddn_sirr", "≈ Third, M"): "akin"}


def test_costs(models: Path, peers: Path) -> None:
    """An image of 1280 x 720 has 0.9216 megapixels."""
    ms, kmac = (
        {
            point.label: point.cost
            for point in collect(read_models(models), read_peers(peers), cost)["kodak24"]
        }
        for cost in COSTS
    )
    assert ms == {"small": 500, "Whole, L": pytest.approx(2000), "≈ Third, M": pytest.approx(10000)}
    assert kmac == {"small": 40, "Whole, L": 52, "≈ Third, M": 500}


def test_a_speed_is_of_one_thread_whatever_else_was_measured(model: Path, tmp_path: Path) -> None:
    others = [evaluation("rain100l", measured_on="cuda, 1 thread"), evaluation("rain100h")]
    others[0] = others[0].model_copy(update={"ms_per_megapixel": 9.0})
    assert model_cost(put(tmp_path, model, "both", others), "ms") == 500


# The command


@pytest.mark.slow
@pytest.mark.parametrize("cost", COSTS)
def test_the_figure_names_all_that_was_scored(
    cost: str, models: Path, peers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "frontier.svg"
    assert main([str(models), "-o", str(figure), "--peers", str(peers), "--cost", cost]) == 0
    assert "shows small among" in capsys.readouterr().out
    said = figure_texts(figure)
    assert all(said.count(label) == len(SETS) for label in ("small", "Whole, L", "≈ Third, M"))
    assert not [text for text in said if "fresh" in text or "Unscored" in text or "half.unf" in text]
    assert "ddn_sirr (our choices were guided by it)" in said
    assert "rain100l" in said
    assert [text for text in said if "factor of two" in text] if cost == "ms" else "factor" not in str(said)
    assert MACHINES_DIFFER == 2, "as the figure says in words"


def test_models_stand_alone_where_there_are_no_peers(models: Path, tmp_path: Path) -> None:
    draw(tmp_path / "ours.svg", read_models(models), Peers([], {}), "ms")
    assert figure_texts(tmp_path / "ours.svg").count("small") == len(SETS)


@pytest.mark.slow
def test_a_model_may_lack_sets(model: Path, peers: Path, tmp_path: Path) -> None:
    put(tmp_path / "models", model, "some", [evaluation("rain100h")])
    figure = tmp_path / "some.svg"
    assert main([str(tmp_path / "models"), "-o", str(figure), "--peers", str(peers)]) == 0
    assert figure_texts(figure).count("some") == 1


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (
            [evaluation("rain100l", measured_on=None)],
            "manifest of odd has no speed that was measured on cpu, 1",
        ),
        (
            [evaluation("rain100l", measured_on="cpu, 4 threads")],
            "--provider cpu --threads 1, or draw --cost",
        ),
        ([evaluation("drawn shower")], "was scored on ddn_sirr, rain100l, rain100h, kodak24: python -m"),
        (
            [evaluation("rain100l").model_copy(update={"input_psnr": 25.5})],
            "scored on different images as rain100l: rainy, these have 25.50 and 25.00 dB",
        ),
    ],
)
def test_models_that_cannot_be_compared_are_refused(
    scores: list[Evaluation],
    said: str,
    model: Path,
    peers: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(tmp_path / "models", model, "odd", scores)
    figure = tmp_path / "odd.svg"
    assert main([str(tmp_path / "models"), "-o", str(figure), "--peers", str(peers)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert said in error
    assert not figure.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "-o", "{tmp}/f.svg"], "nowhere is not a folder"),
        (["{models}", "-o", "{tmp}/f.pdf"], "it can be written as .svg or .png"),
        (["{models}", "-o", "{tmp}/f.svg", "--peers", "{tmp}/no.csv"], "No such file"),
    ],
)
def test_mistakes_are_said_in_one_line(
    arguments: list[str], said: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.format(models=models, tmp=tmp_path) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


# The table of peers


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",kodak24_back\n", "\n", "has no column kodak24_back"),
        ("52,0.2,1.8432", "52,0.2,fast", "line 4: cpu_s_1280x720 of Whole is 'fast'"),
        ("52,0.2,1.8432", ",0.2,1.8432", "line 4: kmac_per_pixel of Whole is '', which is no number above 0"),
        ("29,16,23,37", "29,16,nan,37", "line 4: ddn_sirr of Whole is 'nan'"),
        ("29,16,23,37", "29,16,23", "line 4: not 13 columns"),
        ("29,16,23,37", "29,16,23,37,1", "line 4: not 13 columns"),
        (",rain100l,,all", ",rain100x,,all", "line 4: seen of Whole names 'rain100x'"),
        (",rain100l,,all", ",rain100l,,some", "line 4: sample is 'some'"),
        (",rain100l,,all", ",rain100l,,", "line 4: Whole has scores, and sample does not say of what"),
        ("Whole,", ",", "line 4: no name"),
        (
            "rainy input,,,,part,,,,,26,13,21,\n",
            "",
            "Third, M was scored on part of ddn_sirr, rain100h, rain100l",
        ),
    ],
)
def test_a_malformed_table_is_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "peers.csv"
    path.write_text(TABLE.replace(old, new, 1))
    with pytest.raises(PeersError) as refused:
        read_peers(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_the_committed_table_is_of_the_pictures_of_our_scores() -> None:
    """Every shipped model that was scored fits it; a network appears once."""
    peers = read_peers(PEERS)
    collect(read_models(ROOT / "models"), peers, "kmac")
    labels = [peer.label for peer in peers.networks]
    assert len(set(labels)) == len(labels)
    assert {name for peer in peers.networks for name in peer.scores} == {*PAIR_SETS, "kodak24"}


@pytest.mark.parametrize("name", ["frontier", "frontier-kmac"])
def test_the_committed_figures_have_the_shipped_models(name: str) -> None:
    """Draw them again, as docs/evaluation.md says, when a model comes, goes or is scored again."""
    command = ["git", "ls-files", "models"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    drawn = figure_texts(ROOT / "docs" / "models" / f"{name}.svg")
    for model in read_models(ROOT / "models"):
        if f"models/{model.name}/{MANIFEST_NAME}" in listed.splitlines():
            assert model.name in drawn
