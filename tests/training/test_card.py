"""The model card: its pictures show what the model does, and what was written by hand stays in it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from derain.arrays import Image
from derain.images.formats import JPEG
from derain.images.plain import decode, encode, read_image
from derain.manifest import CleanBack, Evaluation, Extreme, Gain, load_manifest
from tests.conftest import noise, scene
from tests.training.conftest import ExportedModel
from training.backgrounds import HELD_OUT_PHOTOGRAPHS
from training.card import ADDITIONS, REMARKS, CardError, evaluation_table, main, model_card, write_model_texts
from training.pictures import shrink
from training.showcase import (
    CREDITS,
    CUTS,
    LARGEST_BYTES,
    RAINED,
    clean_sheet,
    draw_page,
    draw_wires,
    encode_below,
    rain_sheet,
)

HEIGHT_PX, WIDTH_PX, GAP_PX, TEXT_PX = 192, 288, 4, 20


def copy(exported: ExportedModel, folder: Path) -> Path:
    shutil.copytree(exported.folder, folder)
    return folder


def cell(sheet: Image, row: int, column: int) -> Image:
    top, left = row * (HEIGHT_PX + TEXT_PX), column * (WIDTH_PX + GAP_PX)
    return sheet[top : top + HEIGHT_PX, left : left + WIDTH_PX]


def test_clean_things_are_shown_as_given_as_they_come_back_and_subtracted() -> None:
    """Of a network by which every value is off by one."""
    sheet = clean_sheet(lambda picture: picture ^ np.uint8(1))
    cat = read_image(HELD_OUT_PHOTOGRAPHS / "skimage_chelsea.png")[108:300, 20:308]
    for row, given in ((0, cat), (len(CUTS), draw_page()), (len(CUTS) + 1, draw_wires())):
        np.testing.assert_array_equal(cell(sheet, row, 0), given)
        np.testing.assert_array_equal(cell(sheet, row, 1), given ^ 1)
        np.testing.assert_array_equal(cell(sheet, row, 2), np.where(given % 2, 128 - 8, 128 + 8))
    assert sheet.shape == ((len(CUTS) + 2) * (HEIGHT_PX + TEXT_PX), 3 * WIDTH_PX + 2 * GAP_PX, 3)


def test_rain_is_shown_on_the_photograph_that_should_come_back() -> None:
    sheet = rain_sheet(lambda picture: 255 - picture)
    top = 0
    for rain, name in RAINED:
        clean = shrink(read_image(HELD_OUT_PHOTOGRAPHS / name), 320)
        height, width = clean.shape[:2]
        rainy, derained, dry = (
            sheet[top : top + height, left : left + width].astype(int)
            for left in range(0, 3 * (width + GAP_PX), width + GAP_PX)
        )
        np.testing.assert_array_equal(dry, clean)
        np.testing.assert_array_equal(derained, 255 - rainy)
        assert np.abs(rainy - dry).max() > 50
        assert rain.held_out
        top += height + TEXT_PX
    assert sheet.shape[0] == top


def test_every_photograph_is_credited() -> None:
    table = (HELD_OUT_PHOTOGRAPHS.parent / "README.md").read_text()
    shown = {cut.photograph for cut in CUTS} | {photograph for _, photograph in RAINED}
    assert shown == CREDITS.keys()
    for name, credit in CREDITS.items():
        author = credit.split(",")[0].strip("[").split("]")[0]
        assert [line for line in table.splitlines() if f"`heldout/{name}`" in line and author in line], name


def test_the_page_is_dark_on_light_and_light_on_dark() -> None:
    page = draw_page().astype(int).mean(axis=-1)
    upper, lower = page[:96], page[97:]
    assert np.median(upper) > 230 > 60 > upper.min()
    assert np.median(lower) < 50 < 200 < lower.max()


def test_pictures_are_as_good_as_there_is_room_for() -> None:
    data = encode_below(noise(100, 100), 12_000)
    assert 6_000 < len(data) <= 12_000
    assert decode(data)[0].shape == (100, 100, 3)
    smooth = scene(100, 100)
    assert len(encode_below(smooth, 300_000)) > 0.5 * len(encode(smooth, JPEG))


def test_the_command_draws_the_pictures_and_writes_the_card(
    exported: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(exported, tmp_path / "model")
    manifest = (folder / "manifest.json").read_bytes()
    (folder / REMARKS).write_text("\nIt does nothing well.\n\n")
    assert main([str(folder)]) == 0
    assert "clean.jpg and rain.jpg" in capsys.readouterr().out
    assert (folder / "manifest.json").read_bytes() == manifest
    for name in ("clean.jpg", "rain.jpg"):
        assert 50_000 < (folder / name).stat().st_size <= LARGEST_BYTES
        assert read_image(folder / name).shape[0] > 800
    card = (folder / "README.md").read_text()
    assert "## Known failures\n\nIt does nothing well.\n\n## In pictures\n" in card
    assert all(credit in card for credit in CREDITS.values())
    assert card.endswith("\n") and not card.endswith("\n\n")

    # They stay when the card is written by something else, and go with their files.
    write_model_texts(folder, load_manifest(folder))
    assert (folder / "README.md").read_text() == card
    for name in ADDITIONS:
        (folder / name).unlink()
    write_model_texts(folder, load_manifest(folder))
    assert (folder / "README.md").read_text() == model_card(exported.manifest)


def test_a_recipe_of_an_earlier_version_has_no_card(exported: ExportedModel, tmp_path: Path) -> None:
    folder = copy(exported, tmp_path / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["recipe"]["model"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CardError, match="the recipe of tiny has no 'model': no card can be written of it"):
        write_model_texts(folder, load_manifest(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_no_model_no_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: no model at {tmp_path}: manifest.json is missing\n"
    assert not list(tmp_path.iterdir())


# Scores


OLD = Evaluation(
    name="old",
    role="validation",
    pictures=3,
    psnr=25.0,
    ssim=0.9,
    input_psnr=24.0,
    removal=0.5,
    rain_change=1.0,
    background_error=2.0,
    background_error_50=3.0,
    clean_psnr=86.0,
)


def scored(name: str, gain: float, harmed: int, **changes: object) -> Evaluation:
    both = {
        "gain": Gain(mean=gain, worst=Extreme(name="it", db=-1.5), harmed=harmed),
        "tone_fitted_gain": Gain(mean=gain + 2, worst=Extreme(name="its", db=-0.5), harmed=0),
        "clean": CleanBack(
            images=3,
            identical=1,
            below_40=1,
            below_30=0,
            worst=Extreme(name="bars", db=35.5),
            median_changed=41,
        ),
    }
    about = {"name": name, "kind": name, "rainy": 3, "untouched": 1, "clean_psnr": None}
    return OLD.model_copy(update=both | about | changes)


def test_the_scores_have_gains_the_worst_and_the_harmed_and_the_mean_over_kinds() -> None:
    table = evaluation_table(
        [
            scored("plain", 1.0, 2),
            scored("toned", -1.0, 3, tone_changed=True),
            scored("plain ×3", 9.0, 0, kind=None, gain_kept=0.5),
            scored("final", 9.0, 0, role="test"),
        ]
    )
    assert (
        "| plain | validation | 3 | 25.00 | 24.00 | +1.00 | +3.00 | -1.50 it | 2 | 1 | – | 0.900 |" in table
    )
    assert "| toned* | validation | 3 | 25.00 | 24.00 | -1.00 | +1.00 | -0.50 its | 0 | 1 | – |" in table
    assert "| +9.00 | +11.00 | -1.50 it | 0 | 1 | 0.50 |" in table
    # Of the two kinds that are for choosing, the second by its tone-fitted gain.
    assert "| **mean of 2 kinds** | validation | 6 |  |  | +1.00 |  | +1.00 plain | 2 | 2 |" in table
    assert "| plain | validation | 3 | 1 | 1 | 0 | 35.50 bars | 41.00 |" in table


def test_scores_of_earlier_versions_are_shown_without_what_they_lack() -> None:
    table = evaluation_table([OLD, OLD.model_copy(update={"name": "dry", "psnr": None})])
    assert "| old | validation | 3 | 25.00 | 24.00 | 1.00 | – | – | – | – | – | 0.900 |" in table
    assert "86" not in table, "a mean in which identical images count as 100 dB"
