"""Clean backgrounds: chosen, drawn and cut."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derain.arrays import Image
from derain.errors import ImageError
from derain.images.formats import PNG
from derain.images.plain import encode, read_image
from training.data.backgrounds import LONGEST_PX, cut_patch, load_folder, relight
from training.data.dead_leaves import Leaves, draw_leaves
from training.image_folder import BackgroundError, subset
from training.repository import PHOTOGRAPHS

PATHS = [Path(f"{number:02}.png") for number in range(64)]


def write_picture(path: Path, level: int) -> None:
    path.write_bytes(encode(np.full((8, 8, 3), level, dtype=np.uint8), PNG))


# Folders


def test_subsets_are_nested_and_decided_by_the_seed() -> None:
    chosen = subset(PATHS, 64, seed=3)
    assert set(chosen) == set(PATHS)
    assert subset(PATHS[::-1], 16, seed=3) == chosen[:16]
    assert subset(PATHS, None, seed=3) == chosen
    assert subset(PATHS, 16, seed=4) != chosen[:16]


@pytest.mark.parametrize("count", [0, 65])
def test_impossible_counts_are_refused(count: int) -> None:
    with pytest.raises(BackgroundError, match=f"{count} backgrounds asked for, 64 there"):
        subset(PATHS, count, seed=0)


def test_folder_gives_its_pictures_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write_picture(tmp_path / "below" / "not_this.png", 0)
    (tmp_path / "README.md").write_text("nor this")
    for level in (10, 20, 30):
        write_picture(tmp_path / f"{level}.png", level)
    images = load_folder(tmp_path, None, seed=0)
    assert sorted(int(image[0, 0, 0]) for image in images) == [10, 20, 30]
    assert len(load_folder(tmp_path, 2, seed=0)) == 2


def test_folders_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    with pytest.raises(BackgroundError, match=r"missing is not a folder"):
        load_folder(tmp_path / "missing", None, seed=0)
    with pytest.raises(BackgroundError, match=r"no images in .*\.png"):
        load_folder(tmp_path, None, seed=0)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png"):
        load_folder(tmp_path, None, seed=0)


def test_large_photographs_are_shrunk_when_they_are_read(tmp_path: Path) -> None:
    """Of stripes of 1 px, 4000 px wide, every pixel is the mean once it stands for several of them."""
    stripes = np.zeros((30, 4000, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    (tmp_path / "wide.png").write_bytes(encode(stripes, PNG))
    (tmp_path / "fits.png").write_bytes(encode(stripes[:, :LONGEST_PX], PNG))
    shrunk, fits = sorted(load_folder(tmp_path, None, seed=0), key=len)
    assert shrunk.shape == (8, 1024, 3)
    assert np.abs(shrunk.astype(int) - 100).max() <= 30
    np.testing.assert_array_equal(fits, stripes[:, :1024])
    with pytest.raises(
        BackgroundError, match=r"wide\.png is 1024 x 8 pixels: too small, 16 .* 1024 or below"
    ):
        load_folder(tmp_path, None, seed=0, smallest_px=16)


@pytest.mark.slow
def test_the_repository_s_photographs_are_used_as_they_are() -> None:
    paths = sorted(PHOTOGRAPHS.glob("*.jpg"))[:2]
    loaded = {image.tobytes() for image in load_folder(PHOTOGRAPHS, None, seed=0)}
    assert all(read_image(path).tobytes() in loaded for path in paths)


# Dead leaves


@pytest.mark.parametrize("complexity", [0.0, 0.5, 1.0])
def test_leaves_are_a_function_of_seed_and_index(complexity: float) -> None:
    world = Leaves(complexity, size_px=112)
    images = [draw_leaves(world, 5, index) for index in (0, 1)]
    assert all(image.dtype == np.uint8 and image.shape == (112, 112, 3) for image in images)
    np.testing.assert_array_equal(draw_leaves(world, 5, 1), images[1])
    assert len({p.tobytes() for p in [*images, draw_leaves(world, 6, 0)]}) == 3


@pytest.mark.slow
def test_complexity_makes_pictures_harder_to_compress() -> None:
    def mean_bytes(complexity: float) -> float:
        world = Leaves(complexity, size_px=128)
        return float(np.mean([len(encode(draw_leaves(world, 0, i), PNG)) for i in range(8)]))

    flat, middling, rich = (mean_bytes(complexity) for complexity in (0.0, 0.5, 1.0))
    assert flat < 0.9 * middling < 0.81 * rich


# Patches


@settings(deadline=None, max_examples=50)
@given(st.tuples(st.integers(1, 150), st.integers(1, 150)), st.integers(8, 64), st.integers(0, 2**32))
def test_patch_has_its_size_whatever_the_picture(sides: tuple[int, int], size_px: int, seed: int) -> None:
    patch = cut_patch(np.zeros((*sides, 3), dtype=np.uint8), size_px, np.random.default_rng(seed))
    assert patch.shape == (size_px, size_px, 3)
    assert patch.dtype == np.uint8


@pytest.mark.parametrize("side_px", [12, 32, 200])
def test_patch_of_one_colour_keeps_it_or_is_relit(side_px: int) -> None:
    colour = np.array([200, 100, 50], dtype=np.uint8)
    image = np.broadcast_to(colour, (side_px, side_px, 3)).copy()
    patches = [cut_patch(image, 32, np.random.default_rng(seed)) for seed in range(40)]
    assert all((patch == patch[0, 0]).all() for patch in patches)
    kept = np.mean([(patch[0, 0] == colour).all() for patch in patches])
    assert 0.25 < kept < 0.75


@pytest.mark.parametrize("size_px", [32, 64, 96])
def test_picture_of_the_patch_size_is_turned_but_not_resampled(size_px: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    patches = [cut_patch(image, size_px, np.random.default_rng(seed)) for seed in range(60)]
    turned = {np.rot90(p, k).tobytes() for p in (image, image[:, ::-1]) for k in range(4)}
    assert len({patch.tobytes() for patch in patches} & turned) == 8


def test_relighting_maps_the_levels_of_each_channel(image: Image) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    tints = set()
    for seed in range(20):
        levels = relight(ramp, np.random.default_rng(seed))[0]  # (256, 3)
        assert (np.diff(levels.astype(int), axis=0) >= 0).all()
        assert not levels[0].any(), "black stays black"
        relit = relight(image, np.random.default_rng(seed))
        for channel in range(3):
            np.testing.assert_array_equal(relit[..., channel], levels[image[..., channel], channel])
        tints.add(tuple(levels[100].astype(int) - levels[100, 0]))
    assert len(tints) > 5
