"""Procedural documents."""

from collections.abc import Callable

import numpy as np
import pytest

from derain.arrays import Image
from training.documents import _KINDS, Colour, _colours, draw_document

SIDE_PX = 128


@pytest.fixture(scope="module")
def drawn() -> list[Image]:
    return [draw_document(SIDE_PX, SIDE_PX, 0, index) for index in range(120)]


def test_seed_and_index_decide_the_document(drawn: list[Image]) -> None:
    for index in (7, 3, 0, 40):
        np.testing.assert_array_equal(draw_document(SIDE_PX, SIDE_PX, 0, index), drawn[index])
    others = [draw_document(SIDE_PX, SIDE_PX, 1, index) for index in range(8)]
    assert len({page.tobytes() for page in [*drawn, *others]}) == len(drawn) + len(others)


@pytest.mark.parametrize("size", [(8, 8), (40, 200), (301, 97)])
def test_documents_are_of_the_size_asked_for(size: tuple[int, int]) -> None:
    """Of every kind, down to the smallest scene that is drawn."""
    for index in range(25):
        page = draw_document(*size, 0, index)
        assert page.shape == (*size, 3)
        assert page.dtype == np.uint8


def test_most_are_dark_on_bright(drawn: list[Image]) -> None:
    """One in six is bright on dark, as on a screen."""
    rng = np.random.default_rng(0)
    colours = [_colours(rng) for _ in range(600)]
    assert np.mean([sum(paper) > sum(ink) for paper, ink in colours]) == pytest.approx(5 / 6, abs=0.05)
    assert all(abs(sum(paper) - sum(ink)) > 3 * 60 for paper, ink in colours), "all can be read"
    middles = np.array([np.median(page) for page in drawn])
    assert (middles > 200).mean() > 1.5 * (middles < 120).mean() > 0


def test_there_is_something_on_them(drawn: list[Image]) -> None:
    contrasts = np.array([np.ptp(page.mean(axis=2)) for page in drawn])
    assert (contrasts > 60).mean() > 0.9
    assert len({page.shape for page in drawn}) == 1


@pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_each_kind_draws_ink_on_paper(
    kind: Callable[[Image, Colour, np.random.Generator], None],
) -> None:
    drew = 0
    for seed in range(10):
        page = np.full((96, 120, 3), 240, dtype=np.uint8)
        kind(page, (10, 20, 30), np.random.default_rng(seed))
        ink = (page != 240).any(axis=2)
        drew += 0.01 < ink.mean() < 0.9
    assert drew >= 8
