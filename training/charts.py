"""The style of our figures, and the one way to a file: readable in print, in grey and by the colour-blind.

Nothing here touches pyplot or matplotlib's global settings, so a figure looks the same whatever was
drawn before it, and the same figure gives the same bytes.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cycler import cycler
from matplotlib import style
from matplotlib.figure import Figure

from derain.files import write_atomically

# Okabe and Ito (2008), all but the yellow, which white paper swallows.
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#000000",
)
GREY = "#767676"  # reference lines and remarks

# Lines differ in marker and dash as well: without colour they can still be told apart.
_CYCLE = (
    cycler(color=(BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK))
    + cycler(marker=("o", "s", "^", "D", "v", "P", "X"))
    + cycler(linestyle=("-", "--", "-.", ":", "-", "--", "-."))
)

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": _CYCLE,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib
    "font.size": 9,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "savefig.dpi": 160,
    "svg.hashsalt": "derain",
}

# Without these, a file says when it was made, and by which matplotlib.
_METADATA: dict[str, dict[str, Any]] = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}
FIGURE_SUFFIXES = tuple(_METADATA)


def write_figure(path: Path, width_in: float, height_in: float, draw: Callable[[Figure], None]) -> None:
    """What `draw` puts on an empty figure, as SVG or PNG by the name: one of FIGURE_SUFFIXES."""
    suffix = path.suffix.lower()
    # From the default on, not from the settings of the user's matplotlibrc.
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(width_in, height_in))
        draw(figure)
        data = io.BytesIO()
        figure.savefig(data, format=suffix[1:], metadata=_METADATA[suffix])
    write_atomically(path, data.getvalue())
