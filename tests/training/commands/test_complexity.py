"""How complex backgrounds and rain are, against cases whose answer is known."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from derain.arrays import Image
from derain.images.formats import PNG
from derain.images.plain import encode, read_image
from training.commands.complexity import main
from training.data.complexity import (
    PATCH_PX,
    Complexity,
    advise,
    carried,
    distinct_images,
    image_complexity,
    looks,
    rain_complexity,
    set_complexity,
)
from training.data.complexity_report import draw, report
from training.data.dead_leaves import Leaves, draw_leaves
from training.rain.streaks import LARGE, MEDIUM, SMALL, RainRange

ONE_RAIN = RainRange("one", (0.01, 0.01), (5,), (30, 30), 0, (0.2, 0.2))


def grey(levels: NDArray[np.floating]) -> Image:
    return np.repeat(np.rint(np.clip(levels, 0, 255))[..., None], 3, axis=-1).astype(np.uint8)


def noise(sigma: float, seed: int, side_px: int = PATCH_PX) -> Image:
    return grey(np.random.default_rng(seed).normal(128, sigma, (side_px, side_px)))


def wave(angle_deg: float, phase: float) -> Image:
    """Of 4 px from crest to crest."""
    y, x = np.mgrid[:PATCH_PX, :PATCH_PX]
    angle = np.deg2rad(angle_deg)
    return grey(128 + 60 * np.sin(np.pi / 2 * (x * np.cos(angle) + y * np.sin(angle)) + phase))


def leaves(complexity: float, count: int) -> list[Image]:
    return [draw_leaves(Leaves(complexity, size_px=PATCH_PX), 0, index) for index in range(count)]


# One image


def test_levels_at_random_cost_their_entropy() -> None:
    """32 steps of 8 levels, all as likely, are 5 bits; 4 steps are 2."""
    rng = np.random.default_rng(0)
    fine, coarse = (grey(8.0 * rng.integers(0, steps, (256, 256))) for steps in (32, 4))
    assert image_complexity(fine).bits_per_pixel == pytest.approx(5, rel=0.02)
    assert image_complexity(coarse).bits_per_pixel == pytest.approx(2, rel=0.02)
    assert image_complexity(grey(np.full((256, 256), 90.0))).bits_per_pixel < 0.01


def test_grain_below_the_rounding_costs_nothing() -> None:
    faint = np.random.default_rng(0).integers(-3, 4, (128, 128))
    assert image_complexity(grey(128.0 + faint)).bits_per_pixel < 0.03


def test_gradient_energy_of_a_slope_is_its_steepness() -> None:
    y, x = np.mgrid[:30, :40]
    assert image_complexity(grey(3.0 * x + 4.0 * y)).gradient_energy == pytest.approx(5)
    assert image_complexity(grey(np.full((1, 1), 7.0))).gradient_energy == 0


# How many kinds


def test_looks_are_counted_wherever_things_are() -> None:
    angles = (0, 45, 90, 135)
    patches = [wave(angles[i % 4], phase) for i, phase in enumerate(np.linspace(0, 9, 32))]
    assert looks(patches).number == pytest.approx(4, rel=0.01)
    assert looks(patches[::4]).number == pytest.approx(1, abs=0.01)
    assert looks(patches).weights == pytest.approx(np.full(32, 1 / 8), rel=0.01)


def test_overlap_of_two_textures_is_bhattacharyya_s() -> None:
    """Two strengths of white noise, whose Gaussians are known: 63 numbers of one variance each."""
    weak, strong = 8.0, 10.0
    a, b = (sigma**2 + 4.0**2 for sigma in (weak, strong))
    overlap = (2 * np.sqrt(a * b) / (a + b)) ** (63 / 2)
    shares = np.array([1 + overlap, 1 - overlap]) / 2
    expected = np.exp(-np.sum(shares * np.log(shares)))
    assert 1.2 < expected < 1.8, "the case says something"
    assert looks([noise(weak, 0, 512), noise(strong, 1, 512)]).number == pytest.approx(expected, rel=0.05)


def test_copies_of_a_picture_count_once() -> None:
    images = leaves(1.0, 8)
    brighter = [np.clip(p.astype(int) + 1, 0, 255).astype(np.uint8) for p in images]
    assert distinct_images(images).number == pytest.approx(8, rel=0.05)
    copies = distinct_images([*images, *brighter, *images])
    assert copies.number == pytest.approx(distinct_images(images).number, rel=0.03)
    assert copies.weights == pytest.approx(np.full(24, 1 / 3), rel=0.01)
    assert distinct_images(images[:1]).number == pytest.approx(1)


def test_what_comes_often_counts_no_more_than_what_comes_once() -> None:
    """Nine flat images that are one, and one of noise: the mean is that of two."""
    flat = grey(np.full((PATCH_PX, PATCH_PX), 250.0))
    images = [*[flat] * 9, noise(40, 0)]
    measured = set_complexity(images, patches=10)
    cheap, dear = min(measured.bits_per_pixel), max(measured.bits_per_pixel)
    assert measured.distinct_bits_per_pixel == pytest.approx((cheap + dear) / 2, rel=0.01)


# Backgrounds


@pytest.mark.slow
def test_leaves_cost_more_the_more_complex_they_are() -> None:
    flat, middling, rich = (set_complexity(leaves(c, 12), patches=24) for c in (0.0, 0.5, 1.0))
    assert flat.kilobytes < 0.9 * middling.kilobytes < 0.81 * rich.kilobytes


@pytest.mark.slow
def test_complexity_grows_with_the_number_of_backgrounds() -> None:
    images = leaves(0.5, 32)
    few, more, all_ = (set_complexity(images[:count], patches=64).kilobytes for count in (2, 8, 32))
    assert 4 * few < 2 * more < all_


@pytest.mark.slow
def test_blurring_simplifies_backgrounds() -> None:
    images = leaves(1.0, 12)
    blurred = [np.asarray(cv2.GaussianBlur(p, (0, 0), 2), dtype=np.uint8) for p in images]
    sharp, soft = set_complexity(images, patches=24), set_complexity(blurred, patches=24)
    assert soft.kilobytes < 0.8 * sharp.kilobytes
    assert soft.looks < sharp.looks
    assert np.median(soft.gradient_energy) < np.median(sharp.gradient_energy)


def test_backgrounds_may_have_any_size_and_be_more_than_the_patches() -> None:
    images = [noise(30, seed, side_px) for seed, side_px in enumerate((1, 5, 60, 128, 300))]
    measured = set_complexity(images, patches=3)
    assert len(measured.bits_per_pixel) == len(measured.gradient_energy) == 3
    assert measured.distinct <= 5
    assert np.isfinite(measured.kilobytes)


def test_the_seed_decides_where_patches_are_cut() -> None:
    images = leaves(1.0, 2)
    assert set_complexity(images, 4, seed=1) == set_complexity(images, 4, seed=1)
    assert set_complexity(images, 4, seed=1) != set_complexity(images, 4, seed=2)


# Rain


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_paper_s_nested_ranges_come_in_order(seed: int) -> None:
    small, medium, large = (rain_complexity(rain, 96, seed) for rain in (SMALL, MEDIUM, LARGE))
    assert small.looks < 0.5 * medium.looks < 0.25 * large.looks
    assert small.kilobytes < 0.5 * medium.kilobytes < 0.25 * large.kilobytes


@pytest.mark.slow
def test_rain_of_one_kind_is_nearly_one_look_and_more_angles_are_more() -> None:
    one, fan, wide_fan = (rain_complexity(replace(ONE_RAIN, angle_deg=a), 96) for a in (0, 20, 60))
    assert one.looks < 1.5
    assert one.looks < 0.5 * fan.looks < 0.4 * wide_fan.looks


def test_an_even_veil_is_not_seen() -> None:
    """A limit, said in the documentation: should it fall, the documentation has to change."""
    dense = replace(ONE_RAIN, density=(0.002, 0.002))
    veiled = rain_complexity(replace(dense, veil=(0.1, 0.1)), 24)
    assert veiled.kilobytes == pytest.approx(rain_complexity(dense, 24).kilobytes, rel=0.15)


# Advice


def complexity(distinct: float) -> Complexity:
    """Of two bits per pixel."""
    return Complexity((1.0, 2.0, 3.0), (10.0, 20.0, 30.0), distinct, distinct, 2.0)


RAINS = {
    name: complexity(n) for name, n in {"small": 3, "medium": 24.5, "large": 90.5, "wide": 110.5}.items()
}


def test_kilobytes_are_of_one_patch_of_each_distinct_thing() -> None:
    assert complexity(10).kilobytes == pytest.approx(10 * 2.0 * 128 * 128 / 8000)


def test_rain_carries_as_many_backgrounds_as_are_as_complex() -> None:
    assert carried(RAINS["large"], complexity(30), 30) == 90
    assert carried(RAINS["large"], complexity(30), 60) == 181, "every other image is a copy"


@pytest.mark.parametrize(
    ("count", "asked", "starts"),
    [
        (56, "large", ["--count 56 --rain large: keep all"]),
        (56, "medium", ["--count 24 --rain medium", "--count 56 --rain large"]),
        (56, "small", ["--count 56 --rain large"]),  # three are too few
        (164, "large", ["--count 90 --rain large", "--count 110 --rain wide"]),
        (164, "wide", ["--count 110 --rain wide"]),
    ],
)
def test_advice(count: int, asked: str, starts: list[str]) -> None:
    lines = advise(complexity(count), count, asked, RAINS)
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts


@pytest.mark.parametrize(("asked", "distinct"), [("large", 4), ("small", 4)])
def test_fewer_than_the_paper_trains_on_are_said_to_be_few(asked: str, distinct: int) -> None:
    (line,) = advise(complexity(distinct), 4, asked, RAINS)
    assert line.endswith("the paper trains on no fewer than 8")
    (line,) = advise(complexity(distinct), 8, asked, RAINS)
    assert "paper" not in line


def test_backgrounds_of_which_no_number_will_do_are_advised_against() -> None:
    overwhelming = replace(complexity(20), distinct_bits_per_pixel=50.0)
    (line,) = advise(overwhelming, 20, "wide", RAINS)
    assert line.startswith("simpler backgrounds")


@pytest.mark.parametrize("count", [56, 300])
def test_rain_kept_for_evaluation_is_measured_but_not_advised(count: int) -> None:
    rains = RAINS | {"shower": complexity(200)}
    (line,) = advise(complexity(count), count, "shower", rains)
    assert line.startswith({56: "--count 56 --rain large", 300: "--count 110 --rain wide"}[count])


def test_report_says_which_is_simpler() -> None:
    simple = report("faces", complexity(45.25), 45, "large", RAINS)
    assert "The backgrounds are simpler, 0.50 of the rain" in simple
    assert "2.00 (1.20 to 2.80)" in simple, "median and percentiles"
    assert "The rain is simpler, 0.50 of the backgrounds" in report(
        "city", complexity(181), 181, "large", RAINS
    )


# The command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("images")
    for index, image in enumerate(leaves(0.3, 9)):
        (made / f"{index}.png").write_bytes(encode(image, PNG))
    return made


@pytest.mark.slow
def test_command_measures_a_folder_and_draws(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of fewer patches, which tell the same here.
    monkeypatch.setattr("training.commands.complexity.rain_complexity", partial(rain_complexity, patches=40))
    monkeypatch.setattr("training.commands.complexity.set_complexity", partial(set_complexity, patches=40))
    figure = tmp_path / "complexity.svg"
    command = [str(folder), "--rain", "large", "--figure", str(figure)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "The backgrounds are simpler" in said
    assert "--count 9 --rain large: keep all" in said
    assert all(f"\n  {name} " in said for name in ("small", "medium", "large", "wide", "misty", "rainmix"))
    assert ElementTree.parse(figure).getroot().tag.endswith("svg")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_figures_are_the_same_bytes_again(suffix: str, tmp_path: Path) -> None:
    images = leaves(0.3, 3)
    measured = set_complexity(images, patches=6)
    for number in (1, 2):
        draw(tmp_path / f"{number}{suffix}", "leaves", images, measured, "large", RAINS["large"])
    assert (tmp_path / f"1{suffix}").read_bytes() == (tmp_path / f"2{suffix}").read_bytes()


@pytest.mark.slow
def test_command_measures_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.commands.complexity.TRAINABLE", ("small", "large"))
    monkeypatch.setattr("training.commands.complexity.rain_complexity", partial(rain_complexity, patches=24))
    monkeypatch.setattr("training.commands.complexity.set_complexity", partial(set_complexity, patches=24))
    figure = tmp_path / "leaves.png"
    arguments = ["leaves", "--leaves-complexity", "0", "--count", "3", "--rain", "small", "--figure"]
    assert main([*arguments, str(figure)]) == 0
    assert "3 leaves of complexity 0" in capsys.readouterr().out
    assert read_image(figure).shape[1] > 1000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["{folder}", "--count", "10"], "10 backgrounds asked for, 9 there"),
        (["{folder}", "--rain", "frogs"], "no rain family 'frogs': small, "),
        (["{folder}", "--figure", "chart.docx"], "chart.docx: it can be written as .svg or .png"),
        (["{folder}", "--figure", "{tmp}/no/chart.svg"], "no is not a folder"),
        (["{folder}", "--figure", "{tmp}"], "is a folder: name a file"),
        (["{folder}", "--leaves-complexity", "0.5"], "--leaves-complexity is for leaves"),
        (["{tmp}"], "no images in"),
        (["{tmp}/broken"], "broken.png: not a"),
    ],
)
def test_mistakes_are_said_in_one_line(
    arguments: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.png").write_bytes(b"no image")
    assert main([argument.format(folder=folder, tmp=tmp_path) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("share", ["2", "-1", "nan", "much"])
def test_leaves_complexity_is_a_share(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["leaves", f"--leaves-complexity={share}"])
    assert f"{share!r} is not a number from 0 to 1" in capsys.readouterr().err
