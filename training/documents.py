"""Documents: typed pages, tables, charts and bar codes, drawn procedurally. They fill an image with thin
parallel strokes, and there is no rain in any of them.
"""

from collections.abc import Callable

import cv2
import numpy as np

from derain.arrays import Image
from training.randomness import Purpose, generator

_LETTERS = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:-()"
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_PLAIN,
)

Colour = tuple[int, int, int]


def draw_document(height: int, width: int, seed: int, index: int) -> Image:
    """Document number `index`, uint8 (height, width, 3), a function of (seed, index)."""
    rng = generator(Purpose.DOCUMENT, seed, index)
    paper, ink = _colours(rng)
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    canvas[:] = paper
    _KINDS[rng.choice(len(_KINDS), p=_SHARES)](canvas, ink, rng)
    if rng.random() < 0.3:  # photographed or scanned, not quite straight
        canvas = _askew(canvas, paper, rng)
    if rng.random() < 0.3:
        canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.2)), dtype=np.uint8)
    return canvas


def _colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Of paper and ink; one time in six bright on dark, as on a screen."""
    paper = np.clip(rng.uniform(225, 256) + rng.normal(0, 4, 3), 0, 255)
    ink = np.clip(rng.uniform(0, 110) + rng.normal(0, 12, 3), 0, 255)
    if rng.random() < 0.4:
        paper, ink = np.full(3, 255.0), np.zeros(3)
    if rng.random() < 1 / 6:
        paper, ink = ink, paper
    return _whole(paper), _whole(ink)


def _whole(colour: np.ndarray) -> Colour:
    red, green, blue = np.rint(colour).astype(int).tolist()
    return red, green, blue


def _type_page(canvas: Image, ink: Colour, rng: np.random.Generator) -> None:
    """Lines of words in a column or two, with headings."""
    height, width = canvas.shape[:2]
    scale = float(np.exp(rng.uniform(np.log(0.25), np.log(1.0))))
    font, thickness = _FONTS[rng.integers(len(_FONTS))], int(rng.integers(1, 3)) if scale > 0.5 else 1
    line_px = max(6, round(30 * scale * rng.uniform(0.9, 1.6)))
    columns = int(rng.integers(1, 3))
    column_px = width // columns
    for column in range(columns):
        left = column * column_px + int(rng.uniform(-0.2, 0.1) * column_px)
        top = int(rng.integers(-line_px, line_px))
        while top < height + line_px:
            if rng.random() < 0.9:
                words = column_px * rng.uniform(0.5, 1.0) / (18 * scale)
                _write(canvas, (left, top), max(2, int(words)), font, scale, ink, thickness, rng)
            top += line_px


def _write(
    canvas: Image,
    corner: tuple[int, int],
    length: int,
    font: int,
    scale: float,
    ink: Colour,
    thickness: int,
    rng: np.random.Generator,
) -> None:
    letters = rng.choice(list(_LETTERS), length)
    letters[rng.random(length) < 0.17] = " "
    cv2.putText(canvas, "".join(letters), corner, font, scale, ink, thickness, cv2.LINE_AA)


def _rule_table(canvas: Image, ink: Colour, rng: np.random.Generator) -> None:
    """Rows and columns, ruled or striped, with numbers in them."""
    height, width = canvas.shape[:2]
    row_px, column_px = int(rng.integers(10, 48)), int(rng.integers(24, 120))
    top, left = int(rng.integers(0, row_px)), int(rng.integers(0, column_px))
    scale = float(rng.uniform(0.4, 0.8) * row_px / 30)
    if rng.random() < 0.4:
        shade = tuple(int(0.85 * level + 0.15 * dark) for level, dark in zip(canvas[0, 0], ink, strict=True))
        for y in range(top, height, 2 * row_px):
            cv2.rectangle(canvas, (0, y), (width, y + row_px - 1), shade, -1)
    rules = int(rng.integers(0, 3)), int(rng.integers(0, 3))
    for y in range(top, height, row_px):
        if rules[0]:
            cv2.line(canvas, (0, y), (width, y), ink, rules[0])
        for x in range(left - column_px, width, column_px):
            text = "".join(rng.choice(list("0123456789.,-%"), int(rng.integers(1, 7))))
            cv2.putText(canvas, text, (x + 3, y - row_px // 4), _FONTS[0], scale, ink, 1, cv2.LINE_AA)
    if rules[1]:
        for x in range(left, width, column_px):
            cv2.line(canvas, (x, 0), (x, height), ink, rules[1])


def _plot_chart(canvas: Image, _ink: Colour, rng: np.random.Generator) -> None:
    """Grid lines, then bars, or curves, or points, in a few colours."""
    height, width = canvas.shape[:2]
    grid = tuple(int(0.8 * level + 30) for level in canvas[0, 0])
    for y in range(int(rng.integers(4, 40)), height, int(rng.integers(14, 60))):
        cv2.line(canvas, (0, y), (width, y), grid, 1)
    colours = [_whole(rng.uniform(0, 230, 3)) for _ in range(4)]
    if rng.random() < 0.5:
        bar_px, gap_px = int(rng.integers(2, 30)), int(rng.integers(1, 20))
        for number, x in enumerate(range(int(rng.integers(0, 20)), width, bar_px + gap_px)):
            top = int(rng.uniform(0.1, 1.0) * height)
            cv2.rectangle(canvas, (x, top), (x + bar_px - 1, height), colours[number % 2], -1)
        return
    for colour in colours[: rng.integers(1, 5)]:
        steps = int(rng.integers(6, 80))
        heights = np.clip(0.5 + np.cumsum(rng.normal(0, 0.1, steps)), -0.1, 1.1) * height
        points = np.stack([np.linspace(0, width, steps), heights], axis=1)
        curve = np.rint(points * 16).astype(np.int32)
        cv2.polylines(canvas, [curve], False, colour, int(rng.integers(1, 4)), cv2.LINE_AA, 4)


def _print_bars(canvas: Image, ink: Colour, rng: np.random.Generator) -> None:
    """A bar code, upright or lying, or squares of a matrix code."""
    height, width = canvas.shape[:2]
    module_px = int(rng.integers(1, 8))
    if rng.random() < 0.25:
        cells = rng.random((-(-height // module_px), -(-width // module_px))) < 0.5
        dark = cells.repeat(module_px, axis=0).repeat(module_px, axis=1)[:height, :width]
    else:
        bars = np.repeat(rng.random(width) < 0.5, module_px * rng.integers(1, 4, width))
        dark = np.broadcast_to(bars[:width], (height, width)).copy()
        margin_px = int(rng.uniform(0, 0.3) * height)
        dark[:margin_px], dark[height - margin_px :] = False, False
        if rng.random() < 0.3 and height == width:
            dark = dark.T
    canvas[dark] = ink


def _askew(canvas: Image, paper: Colour, rng: np.random.Generator) -> Image:
    height, width = canvas.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 4), rng.uniform(0.8, 1.2))
    turned = cv2.warpAffine(canvas, turn, (width, height), flags=cv2.INTER_LINEAR, borderValue=paper)
    return np.asarray(turned, dtype=np.uint8)


_KINDS: tuple[Callable[[Image, Colour, np.random.Generator], None], ...] = (
    _type_page,
    _rule_table,
    _plot_chart,
    _print_bars,
)
_SHARES = (0.4, 0.2, 0.2, 0.2)
