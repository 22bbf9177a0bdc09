"""How complex backgrounds and rain are, in one unit, and which of the two a network finds simpler.

    python -m training.complexity photographs/ --rain large --figure complexity.svg
    python -m training.complexity leaves --leaves-complexity 0.5 --count 64 --rain wide

"Networks are Slacking Off" (Gu et al., NeurIPS 2023): a network learns the simpler of two things, what
backgrounds are or what the rain of its training is. Only the first takes rain away that it never saw. The
paper names two levers, few and simple backgrounds and a wide range of rain, but no way to weigh one
against the other. This is ours; it is a model of what a network has to hold, not a theorem.

What is measured, on grey patches of 128 px cut as training cuts them, and on rain over black:

- bits per pixel: the size as lossless WebP, once levels are rounded to steps of 8;
- gradient energy: the root mean square step between neighbouring pixels, in levels;
- looks: how many kinds of patch there are. A look is what is left of a patch when positions are forgotten:
  the power spectrum of its 8 x 8 windows. Two looks are the same as far as the two Gaussian textures with
  these spectra overlap under noise of 4 levels (their Bhattacharyya coefficient); the number is the
  exponential of the entropy of the matrix of overlaps (Friedman and Dieng's Vendi score, 2023);
- distinct: how many things come back during training and could be known by heart. A background comes back
  as it is, so these are the pictures, near copies counted once. Rain never falls twice in the same places,
  only its look comes back, so of rain these are the looks;
- complexity: one patch of every distinct thing, compressed, in kilobytes: distinct x bits per pixel, whose
  mean is over distinct things, so that a look which comes often counts no more than one which comes once.
  It grows with the number of backgrounds and with the range of the rain.

Why this and not another (256 patches, seed 0). Bits and gradients of single patches do not see the range
of the rain (gradient energy: small 16.7, medium 16.9, large 19.8), nor how many pictures there are. Looks
see the range (rain of one length, width and angle 1 to 2, small 3, medium 24, large 94) and the variety of
pictures (faces 19, animals 33, nature 43, city 140), but not their number (8 faces 18, 56 faces 19): what the
thousandth face adds is no new texture, it is one more picture to know. So n enters by counting pictures.

Held against training: in 82 small trainings on 41 sets of backgrounds (docs/study), removal of unseen rain
fell with gradient energy (Spearman's rho -0.68), bits per pixel (-0.61), complexity (-0.54), the number of
pictures (-0.43) and looks (-0.36); damage to the background fell with complexity (-0.78) before all others.
So of two sets of one complexity, the one of fewer bits per pixel is to be preferred. In medium rain, removal
had done most of its falling by the number of backgrounds that is as complex as that rain, about 20.

Where it fails:

- One patch of a picture against one patch of a look is a convention. Only the order of two sets, and ratios
  within one kind, are measurements; where the two kinds are equal is for training to find out.
- So are the noise of 4 levels and the windows of 8 px. With 8 levels large rain carries 55 faces, with
  windows of 16 px 238, instead of 109; medium 11 or 137 instead of 25. The order small, medium, large, and
  that of faces and cities, is the same with all of them. A recommended n is right to a factor of a few.
- Looks are counted among 256 patches, and of large, wide and misty rain and of cities more would show more:
  their numbers are lower bounds. Rain with streaks so few that a patch catches one or none counts as one
  look too many.
- It sees no colour, nothing above 8 px but through the thumbnails that tell copies, and no even veil: misty
  rain is as complex here as wide rain.
- Of large, wide and rainmix it does not surely say which is the most complex: they are within a third of one
  another, the seed moves them by a sixth, and with the mean over patches, not looks, large comes first.
- Grain and JPEG noise beyond 4 levels count as content.
- It does not look at how alike backgrounds and rain are: railings and wires are no more complex than leaves,
  but are what a network has to tell from rain.
- The sizes depend a little on the version of libwebp: compare numbers of one installation.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray
from tqdm import tqdm

from derain.arguments import at_least, check_output, run_command
from derain.arrays import Image
from training.backgrounds import BackgroundError, Leaves, cut_patch, draw_leaves, load_folder
from training.charts import BLUE, FIGURE_SUFFIXES, GREY, VERMILION, write_figure
from training.rain.families import HELD_OUT, TRAINABLE, Family, family
from training.randomness import Purpose, generator

PATCH_PX = 128
PATCHES = 256  # looks are counted among so many: numbers for other counts do not compare
FEWEST_BACKGROUNDS = 8  # the fewest that the paper trains on: with less, backgrounds come back damaged

_NOISE = 4.0  # levels; what differs by less is the same
_STEP = int(2 * _NOISE)  # of rounding, which is off by as much as half a step
_WINDOW_PX = 8
_LEAVES = 64  # are drawn where no count is given

_COLOURS, _DASHES = (BLUE, VERMILION), ("-", "--")  # of backgrounds and of rain


@dataclass(frozen=True)
class PatchComplexity:
    """Of one picture, whatever set it comes from."""

    bits_per_pixel: float
    gradient_energy: float  # levels of 255


@dataclass(frozen=True)
class Complexity:
    """Of a set of backgrounds, or of a range of rain; the module's docstring says what is what."""

    bits_per_pixel: tuple[float, ...]  # of each patch
    gradient_energy: tuple[float, ...]
    looks: float
    distinct: float
    distinct_bits_per_pixel: float  # the mean in which every distinct thing counts the same

    @property
    def kilobytes(self) -> float:
        """Of one patch of each distinct thing, compressed."""
        return self.distinct * self.distinct_bits_per_pixel * PATCH_PX**2 / 8 / 1000


@dataclass(frozen=True)
class Kinds:
    """How many different things there are among some."""

    number: float  # 1 where all are alike, at most how many they are
    weights: NDArray[np.float64]  # what each counts, 1 where no other is like it


def picture_complexity(picture: Image) -> PatchComplexity:
    """Of the picture as it is, uint8 (H, W, 3), not of patches cut from it."""
    grey = _grey(picture)
    rounded = ((grey.astype(np.uint16) + _STEP // 2) // _STEP).astype(np.uint8)
    done, data = cv2.imencode(".webp", rounded, (cv2.IMWRITE_WEBP_QUALITY, 101))  # above 100: lossless
    assert done
    levels = grey.astype(np.float32)
    down, right = np.diff(levels, axis=0)[:, :-1], np.diff(levels, axis=1)[:-1]
    energy = float(np.sqrt(np.mean(down**2 + right**2))) if down.size else 0.0
    return PatchComplexity(8 * data.size / grey.size, energy)


def set_complexity(pictures: Sequence[Image], patches: int = PATCHES, seed: int = 0) -> Complexity:
    """Of backgrounds, uint8 (H, W, 3) of any size. Of more pictures than patches, the first are cut."""
    cut = [
        cut_patch(pictures[index % len(pictures)], PATCH_PX, generator(Purpose.SAMPLE, seed, index))
        for index in range(patches)
    ]
    distinct = distinct_pictures(pictures)
    weights = distinct.weights[np.arange(patches) % len(pictures)]
    return _complexity(cut, looks(cut), Kinds(distinct.number, weights))


def rain_complexity(rain: Family, patches: int = PATCHES, seed: int = 0) -> Complexity:
    """Of rain, as it falls on black: also where it blends otherwise than by adding."""
    black = np.zeros((PATCH_PX, PATCH_PX, 3), dtype=np.uint8)
    fallen = [rain.add(black, seed, index) for index in range(patches)]
    kinds = looks(fallen)
    return _complexity(fallen, kinds, distinct=kinds)


def _complexity(patches: Sequence[Image], kinds: Kinds, distinct: Kinds) -> Complexity:
    measured = [picture_complexity(patch) for patch in patches]
    bits_per_pixel = [one.bits_per_pixel for one in measured]
    return Complexity(
        bits_per_pixel=tuple(bits_per_pixel),
        gradient_energy=tuple(one.gradient_energy for one in measured),
        looks=kinds.number,
        distinct=distinct.number,
        distinct_bits_per_pixel=float(np.average(bits_per_pixel, weights=distinct.weights)),
    )


def looks(patches: Sequence[Image]) -> Kinds:
    """The textures among the patches, wherever in a patch things are."""
    # In units of the noise, which is in every look: what is far below it does not count.
    power = np.stack([1 + _spectrum(patch) / _NOISE**2 for patch in patches])
    # A real window has as many numbers as pixels: all but the middle columns of its half spectrum
    # stand for two. The mean level is no look.
    numbers = np.full(power.shape[1:], 2.0)
    numbers[:, [0, -1]] = 1
    numbers[0, 0] = 0
    variances = power.reshape(len(patches), -1)
    logs = np.log(variances)
    # Of Gaussians with variances a and b, the overlap is the root of sqrt(a b) / ((a + b) / 2), a number.
    overlaps = [
        np.exp(0.5 * ((log + logs) / 2 - np.log((one + variances) / 2)) @ numbers.ravel())
        for one, log in zip(variances, logs, strict=True)
    ]
    return _kinds(np.stack(overlaps))


def distinct_pictures(pictures: Sequence[Image]) -> Kinds:
    """The pictures without near copies of another, by thumbnails of 8 x 8."""
    size = (_WINDOW_PX, _WINDOW_PX)
    thumbnails = np.stack(
        [cv2.resize(_grey(p), size, interpolation=cv2.INTER_AREA).ravel() for p in pictures]
    ).astype(np.float64)
    overlaps = [
        np.exp(-np.mean((thumbnail - thumbnails) ** 2, axis=1) / (8 * _NOISE**2)) for thumbnail in thumbnails
    ]
    return _kinds(np.stack(overlaps))


def _spectrum(patch: Image) -> NDArray[np.float64]:
    """The mean power of 8 x 8 windows, (8, 5), in squared levels: of white noise, its variance."""
    windows = np.lib.stride_tricks.sliding_window_view(_grey(patch).astype(np.float32), (_WINDOW_PX,) * 2)
    windows = windows[::3, ::3]  # their neighbours are nearly the same
    windows = windows - windows.mean(axis=(2, 3), keepdims=True)
    taper = np.outer(_HANN, _HANN)
    power = np.abs(np.fft.rfft2(windows * (taper / np.sqrt(np.sum(taper**2))))) ** 2
    return np.asarray(power.mean(axis=(0, 1)), dtype=np.float64)


_HANN = np.hanning(_WINDOW_PX + 2)[1:-1]


def _kinds(overlaps: NDArray[np.float64]) -> Kinds:
    """Of a square matrix from 0, nothing in common, to 1, the same."""
    shares = np.linalg.eigvalsh(overlaps / len(overlaps))
    shares = shares[shares > 1e-12]
    return Kinds(float(np.exp(-np.sum(shares * np.log(shares)))), 1 / overlaps.sum(axis=1))


def _grey(picture: Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


# What follows from it


def carried(rain: Complexity, backgrounds: Complexity, count: int) -> int:
    """About how many backgrounds like these `count` stay simpler than the rain."""
    return int(count * rain.kilobytes / backgrounds.kilobytes)


def advise(backgrounds: Complexity, count: int, asked: str, rains: dict[str, Complexity]) -> list[str]:
    """What to train with, a line each: options of training/run.py, the best first."""
    trainable = {name: rain for name, rain in rains.items() if name not in HELD_OUT}
    if asked in trainable and backgrounds.kilobytes < rains[asked].kilobytes:
        room = _room(rains[asked], backgrounds, count)
        return [f"--count {count} --rain {asked}: keep all; {room}{_few(count)}"]
    lines = []
    fewer = carried(rains[asked], backgrounds, count)
    if asked in trainable and fewer >= FEWEST_BACKGROUNDS:
        lines.append(f"--count {fewer} --rain {asked}: so many of them stay simpler than this rain")
    enough = [name for name, rain in trainable.items() if rain.kilobytes > backgrounds.kilobytes]
    if enough:
        simplest = min(enough, key=lambda name: trainable[name].kilobytes)
        lines.append(
            f"--count {count} --rain {simplest}: the simplest rain that all of them are simpler than"
            + _few(count)
        )
    most = max(trainable, key=lambda name: trainable[name].kilobytes)
    fewer = carried(trainable[most], backgrounds, count)
    if not enough and most != asked and fewer >= FEWEST_BACKGROUNDS:
        lines.append(
            f"--count {fewer} --rain {most}: so many stay simpler than the most complex rain there is"
        )
    return lines or [
        f"simpler backgrounds: of these not even {FEWEST_BACKGROUNDS}, the fewest to train on, "
        "stay simpler than any rain here"
    ]


def _few(count: int) -> str:
    if count >= FEWEST_BACKGROUNDS:
        return ""
    return f". Find more: the paper trains on no fewer than {FEWEST_BACKGROUNDS}"


def _room(rain: Complexity, backgrounds: Complexity, count: int) -> str:
    return f"about {carried(rain, backgrounds, count)} like these would be as complex as the rain"


# What is shown


def report(title: str, backgrounds: Complexity, count: int, asked: str, rains: dict[str, Complexity]) -> str:
    rain = rains[asked]
    ratio = backgrounds.kilobytes / rain.kilobytes
    verdict = (
        f"The backgrounds are simpler, {ratio:.2f} of the rain: so measured, the paper's condition holds."
        if ratio < 1
        else f"The rain is simpler, {1 / ratio:.2f} of the backgrounds: so measured, the paper's condition "
        "does not hold,\nand it expects of a network to learn this rain rather than the backgrounds."
    )
    rows = [
        ("", title, f"{asked} rain"),
        ("bits per pixel", _spread(backgrounds.bits_per_pixel, 2), _spread(rain.bits_per_pixel, 2)),
        ("gradient energy", _spread(backgrounds.gradient_energy, 1), _spread(rain.gradient_energy, 1)),
        ("looks", f"{backgrounds.looks:.1f}", f"{rain.looks:.1f}"),
        ("distinct", f"{backgrounds.distinct:.1f} pictures", f"{rain.distinct:.1f} looks"),
        ("complexity", f"{backgrounds.kilobytes:.0f} kB", f"{rain.kilobytes:.0f} kB"),
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    table = [f"{name:{widths[0]}}  {left:{widths[1]}}  {right}".rstrip() for name, left, right in rows]
    ordered = sorted(rains.items(), key=lambda item: item[1].kilobytes)
    longest = max(len(name) for name in rains)
    others = [
        f"  {name:{longest}}  {one.kilobytes:5.0f} kB  {carried(one, backgrounds, count):5}"
        for name, one in ordered
    ]
    advice = [f"  {line}" for line in advise(backgrounds, count, asked, rains)]
    return "\n".join(
        [
            *table,
            "",
            verdict,
            "",
            "Rain, its complexity, and about how many such backgrounds stay simpler:",
            *others,
            "",
            "Recommended, to a factor of a few:",
            *advice,
        ]
    )


def _spread(values: Sequence[float], decimals: int) -> str:
    low, median, high = np.percentile(values, (10, 50, 90))
    return f"{median:.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})"


def draw(
    path: Path, title: str, pictures: Sequence[Image], backgrounds: Complexity, asked: str, rain: Complexity
) -> None:
    """Both distributions, and how the backgrounds' complexity grows with their number; SVG or PNG."""

    def paint(figure: Figure) -> None:
        bits, gradients, growth = figure.subplots(1, 3)
        _histograms(bits, {title: backgrounds.bits_per_pixel, f"{asked} rain": rain.bits_per_pixel})
        bits.set(title="Bits per pixel, compressed", xlabel="bits per pixel", ylabel="share of patches")
        _histograms(gradients, {title: backgrounds.gradient_energy, f"{asked} rain": rain.gradient_energy})
        gradients.set(title="Gradient energy", xlabel="levels of 255", ylabel="share of patches")
        _growth(growth, pictures, backgrounds, rain)
        figure.legend(*bits.get_legend_handles_labels(), loc="outside upper center", ncols=2)

    write_figure(path, 10, 3.4, paint)


def _histograms(axes: Axes, sides: dict[str, Sequence[float]]) -> None:
    """Of the backgrounds, then of the rain."""
    edges = np.linspace(0, max(max(values) for values in sides.values()), 33)
    for (name, values), colour, dash in zip(sides.items(), _COLOURS, _DASHES, strict=True):
        shares = np.histogram(values, edges)[0] / len(values)
        axes.stairs(shares, edges, color=colour, alpha=0.25, fill=True)
        axes.stairs(shares, edges, color=colour, linestyle=dash, linewidth=1.6, label=name)
        axes.axvline(float(np.median(values)), color=colour, linestyle=dash, linewidth=1)


def _growth(axes: Axes, pictures: Sequence[Image], backgrounds: Complexity, rain: Complexity) -> None:
    counts = sorted({*(2**power for power in range(len(pictures).bit_length())), len(pictures)})
    of_one = backgrounds.kilobytes / backgrounds.distinct
    known = [of_one * distinct_pictures(pictures[:count]).number for count in counts]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", subs=[2, 5])
    axes.plot(counts, known, color=_COLOURS[0], linestyle=_DASHES[0])
    axes.axhline(rain.kilobytes, color=_COLOURS[1], linestyle=_DASHES[1])
    limit = carried(rain, backgrounds, len(pictures))
    if limit > 0:
        # Where the lines meet, measured or drawn on.
        ends = [(len(pictures), limit), (known[-1], rain.kilobytes)] if limit > len(pictures) else [(), ()]
        axes.plot(*ends, color=GREY, linestyle=":", marker="")
        axes.axvline(limit, color=GREY, linestyle=":", marker="")
        axes.text(limit, min(known), f"n ≈ {limit} ", color=GREY, horizontalalignment="right")
    axes.set(title="Complexity of n backgrounds", xlabel="n", ylabel="kB, one patch of each")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    if options.figure is not None:
        check_output(options.figure, FIGURE_SUFFIXES)
    asked = family(options.rain)
    title, pictures = _backgrounds(options)
    names = [name for name in TRAINABLE if name != options.rain]
    families = {options.rain: asked, **{name: family(name) for name in names}}
    backgrounds = set_complexity(pictures, seed=options.seed)
    rains = {
        name: rain_complexity(rain, seed=options.seed)
        for name, rain in tqdm(families.items(), desc="rain", unit="range", leave=False)
    }
    print(report(title, backgrounds, len(pictures), options.rain, rains))
    if options.figure is not None:
        draw(options.figure, title, pictures, backgrounds, options.rain, rains[options.rain])
        print(f"\n{options.figure} shows the distributions")
    return 0


def _backgrounds(options: argparse.Namespace) -> tuple[str, list[Image]]:
    """What they are called, and the pictures themselves."""
    if options.backgrounds == "leaves":
        world = Leaves(1.0 if options.leaves_complexity is None else options.leaves_complexity)
        count = options.count or _LEAVES
        pictures = [draw_leaves(world, options.seed, index) for index in range(count)]
        return f"{count} leaves of complexity {world.complexity:g}", pictures
    if options.leaves_complexity is not None:
        raise BackgroundError(f"--leaves-complexity is for leaves, and {options.backgrounds} is a folder")
    pictures = load_folder(Path(options.backgrounds), options.count, options.seed)
    return f"{len(pictures)} of {Path(options.backgrounds).resolve().name}", pictures


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.complexity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("backgrounds", metavar="FOLDER|leaves", help="clean pictures, or procedural ones")
    parser.add_argument(
        "--rain", default="large", help=f"default: %(default)s; {', '.join(TRAINABLE)}, textures:FOLDER ..."
    )
    parser.add_argument(
        "--count", type=at_least(1), help=f"how many backgrounds (default: all of a folder, {_LEAVES} leaves)"
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="decides which, and where patches are cut"
    )
    parser.add_argument("--leaves-complexity", type=_share, metavar="C", help="from 0 to 1 (default: 1)")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draws the distributions, .svg or .png")
    return parser.parse_args(arguments)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
