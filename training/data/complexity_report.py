"""What the complexity of backgrounds and rain says, as text and as a figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from derain.arrays import Image
from training.data.complexity import Complexity, advise, carried, distinct_images
from training.figures.style import BLUE, GREY, VERMILION, write_figure

_COLOURS, _DASHES = (BLUE, VERMILION), ("-", "--")  # of backgrounds and of rain


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
        ("distinct", f"{backgrounds.distinct:.1f} images", f"{rain.distinct:.1f} looks"),
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
    path: Path, title: str, images: Sequence[Image], backgrounds: Complexity, asked: str, rain: Complexity
) -> None:
    """Both distributions, and how the backgrounds' complexity grows with their number; SVG or PNG."""

    def paint(figure: Figure) -> None:
        bits, gradients, growth = figure.subplots(1, 3)
        _histograms(bits, {title: backgrounds.bits_per_pixel, f"{asked} rain": rain.bits_per_pixel})
        bits.set(title="Bits per pixel, compressed", xlabel="bits per pixel", ylabel="share of patches")
        _histograms(gradients, {title: backgrounds.gradient_energy, f"{asked} rain": rain.gradient_energy})
        gradients.set(title="Gradient energy", xlabel="levels of 255", ylabel="share of patches")
        _growth(growth, images, backgrounds, rain)
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


def _growth(axes: Axes, images: Sequence[Image], backgrounds: Complexity, rain: Complexity) -> None:
    counts = sorted({*(2**power for power in range(len(images).bit_length())), len(images)})
    of_one = backgrounds.kilobytes / backgrounds.distinct
    known = [of_one * distinct_images(images[:count]).number for count in counts]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", subs=[2, 5])
    axes.plot(counts, known, color=_COLOURS[0], linestyle=_DASHES[0])
    axes.axhline(rain.kilobytes, color=_COLOURS[1], linestyle=_DASHES[1])
    limit = carried(rain, backgrounds, len(images))
    if limit > 0:
        # Where the lines meet, measured or drawn on.
        ends = [(len(images), limit), (known[-1], rain.kilobytes)] if limit > len(images) else [(), ()]
        axes.plot(*ends, color=GREY, linestyle=":", marker="")
        axes.axvline(limit, color=GREY, linestyle=":", marker="")
        axes.text(limit, min(known), f"n ≈ {limit} ", color=GREY, horizontalalignment="right")
    axes.set(title="Complexity of n backgrounds", xlabel="n", ylabel="kB, one patch of each")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
