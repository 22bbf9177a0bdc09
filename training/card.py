"""What a model folder says of itself: the manifest for programs, the model card for people.

    python -m training.card models/base

draws the pictures of the card, and writes it anew. Remarks of one's own on what the model fails at go into
`remarks.md` in its folder: whatever writes the card takes them over.
"""

import argparse
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from derain.cli import run_command
from derain.engine import Engine
from derain.image import write_atomically
from derain.manifest import MANIFEST_NAME, Evaluation, InputContract, Manifest, Overview
from training.kinds import KindSummary, summarise_kinds
from training.measurement import HARMED_DB, rounded
from training.score_tables import TONE_MARK, clean_cells, gain_cells, summary_cells
from training.showcase import CREDITS, ERROR_GAIN, LARGEST_BYTES, clean_sheet, encode_below, rain_sheet

REMARKS = "remarks.md"
CLEAN_PICTURE = "clean.jpg"
RAIN_PICTURE = "rain.jpg"

# What a model folder may have besides. True of these weights alone, as the scores are: not to be taken
# over by another model.
ADDITIONS = (REMARKS, CLEAN_PICTURE, RAIN_PICTURE)

_PICTURE_TEXTS = {
    CLEAN_PICTURE: f"""![As given, as it comes back, and the difference]({CLEAN_PICTURE})

*Clean things that go through: as given, as they come back, and what has changed, {ERROR_GAIN} times
enlarged around grey. Of the photographs a part is shown; the page and the wires are drawn.*""",
    RAIN_PICTURE: f"""![In the rain, derained, and without rain]({RAIN_PICTURE})

*Drawn rain of four families that were not trained on: in the rain, derained, and the photograph without
rain, by which PSNR is measured.*""",
}
_CREDITS_TEXT = """The photographs, cut or reduced and run through the model, are never trained on; see
[training/photographs](../../training/photographs/README.md):

"""

_RAIN_HEAD = (
    "| set | role | images | PSNR | of the input | gain | tone-fitted | worst | harmed | untouched | kept "
    "| SSIM | removal η | E_R | E_B | E_B50 |"
)
_GAIN_COLUMNS = ("gain", "tone-fitted", "worst", "harmed", "untouched", "kept")
_CLEAN_HEAD = "| set | role | images | identical | below 40 dB | below 30 dB | worst, dB | median, dB |"


def write_model_texts(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` and `README.md` beside the ONNX file."""
    write_atomically(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2).encode() + b"\n")
    remarks_file = folder / REMARKS
    remarks = remarks_file.read_text(encoding="utf-8") if remarks_file.exists() else ""
    pictures = {name for name in (CLEAN_PICTURE, RAIN_PICTURE) if (folder / name).exists()}
    write_atomically(folder / "README.md", model_card(manifest, remarks, pictures).encode())


def model_card(manifest: Manifest, remarks: str = "", pictures: Collection[str] = ()) -> str:
    """With the remarks, and the pictures that are there."""
    recipe = manifest.recipe
    photographs = "no photographs"
    if recipe["photographs"] is not None:
        photographs = f"{recipe['photograph_count'] or 'all'} photographs of `{recipe['photographs']}`"
    return f"""# {manifest.name}

Takes rain out of photographs. `{manifest.file.name}`, {manifest.file.bytes / 1e6:.2f} MB,
SHA-256 `{manifest.file.sha256}`.

- **Network**: {manifest.parameters:,} parameters, {manifest.kmac_per_pixel:.1f} thousand multiply-adds
  a pixel, ONNX opset {manifest.file.opset}.
- **Input and output**: {manifest.input.dtype} {manifest.input.layout}, {manifest.input.channels},
  {manifest.input.lowest} to {manifest.input.highest}; height and width multiples of
  {manifest.input.alignment_px}. Tiles must overlap by {manifest.overlap_px} pixels, the receptive radius.
{_overview(manifest)}- **Agreement with {_original(manifest)}**: {manifest.parity.max_difference:.1e} at most,
  on a scale of 0 to 1, over {len(manifest.parity.sizes)} sizes.
- **Trained** by the recipe `{recipe["name"]}` of commit `{manifest.commit}`: {_course(recipe)}; rain of the
  range `{recipe["rain"]["name"]}`{_early(recipe)}; backgrounds from {photographs} and
  {recipe["leaves_count"]} dead-leaves pictures.{_started(recipe)}{_taught(recipe)}{_surveyed(recipe)}
{_mirrored(manifest)}{_quantised(manifest)}
## Scores

Measured on this file through the engine that serves it. No rain family below was trained on.
PSNR in dB; PSNR and SSIM of RGB and, after a slash, of the luma, which is what papers report. The gain
is over the input in dB, "tone-fitted" the same after a gain and an offset of each channel were fitted to
the truth, for input and output. "Worst" is the gain of the image that gained least, "harmed" are images
worse than the input by more than {HARMED_DB} dB, "untouched" rainy ones that came back identical.
Of sets marked {TONE_MARK}, whose tone was changed together with the rain, these go by the tone-fitted gain.
Of images that were enlarged before, "kept" is the share of the gain in dB that they have as they are. The
mean over kinds counts each kind of rain once.

η is the share of the rain removed (0 none, 1 all). E_R is the change on the rain (higher: more removed),
E_B the error off the rain (lower: less damage), both on 0 to 255; rain is where the rainy image
differs from the clean one by more than 10 in some channel, for E_B50 by more than 50. Clean images, those
without rain and the clean side of the others, go through as well: the second table has how many came back
identical, and the PSNR of the worst and the median of those that did not. Sets marked "validation" may
have guided choices; those marked "test" have not.

{evaluation_table(manifest.evaluations)}
{_section("Known failures", remarks)}{_section("In pictures", _in_pictures(pictures))}"""


def _overview(manifest: Manifest) -> str:
    overview = manifest.input.overview
    if overview is None:
        return ""
    return f"""\
- **Second input**: {_windows(overview)}, beside each of its tiles,
  {overview.longest_px} pixels a side at most, multiples of {overview.alignment_px}. From it the networks are
  told what rain it is, and whether there is any.
{_place(manifest.input)}"""


def _windows(overview: Overview) -> str:
    if overview.windows == 1:
        return "the middle of the picture"
    if overview.is_placed:
        return "a window in the middle of each quarter of the picture"
    return f"{overview.windows} windows of the picture, spread along its longer side"


def _place(contract: InputContract) -> str:
    if not contract.is_placed:
        return ""
    return f"""\
- **Third input**: where in the picture each cell of {contract.alignment_px} pixels of the tile lies, down and
  across, from -1 to 1. So the networks are told of each place how much brighter the rain makes it there.
"""


def _course(recipe: dict[str, Any]) -> str:
    if not recipe["steps"]:
        survey = recipe.get("survey") or {}
        alone = "its survey\n  alone, and its" if survey.get("goes_on") else "nothing; its survey\n  and"
        return f"{alone} networks are those that it began from"
    return f"{recipe['steps']:,}\n  steps of {_batch(recipe)} of {recipe['patch_px']} px, {_seeds(recipe)}"


def _seeds(recipe: dict[str, Any]) -> str:
    """Recipes of earlier versions have one network each."""
    first, members = recipe["seed"], recipe.get("members", 1)
    if members == 1:
        return f"seed {first}"
    return (
        f"once for each of {members} networks, whose mean it returns, seeds {first} to {first + members - 1}"
    )


def _batch(recipe: dict[str, Any]) -> str:
    """Recipes of earlier versions have no survey."""
    survey = recipe.get("survey")
    if survey is None:
        return f"{recipe['batch']} patches"
    return f"{recipe['batch'] * survey['patches']} patches"


def _early(recipe: dict[str, Any]) -> str:
    """Recipes of earlier versions have a number of steps, however many there are in all, or none."""
    if "early_share" in recipe:
        steps = round(recipe["steps"] * recipe["early_share"])
    else:
        steps = min(recipe.get("early_steps", 0), recipe["steps"])
    if not steps:
        return ""
    return f", in the first {steps:,} steps of `{recipe['early_rain']['name']}`"


def _started(recipe: dict[str, Any]) -> str:
    if not (start := recipe.get("start")):
        return ""
    weights = "those weights that fit" if start.get("in_part") else "the weights"
    begun = f"\n  Began from {weights} of `{start['folder']}`, SHA-256 `{start['sha256']}`"
    for other in start.get("also", ()):
        begun += f",\n  averaged with those of `{other['folder']}`, SHA-256 `{other['sha256']}`"
    kept = start.get("kept")  # not in recipes of earlier versions
    return f"{begun}, of which {kept:.0%} are kept." if kept else f"{begun}."


def _taught(recipe: dict[str, Any]) -> str:
    if not (teacher := recipe.get("teacher")):
        return ""
    return (
        f"\n  It learnt what the model in `{teacher['folder']}`, SHA-256 `{teacher['sha256']}`,"
        "\n  returns, in the place of the clean pictures."
    )


def _surveyed(recipe: dict[str, Any]) -> str:
    """Recipes of earlier versions have no survey."""
    if (survey := recipe.get("survey")) is None:
        return ""
    return _survey_trained(recipe, survey) + _noticing(survey)


def _survey_trained(recipe: dict[str, Any], survey: dict[str, Any]) -> str:
    trained = f"{survey['steps']:,} steps of {survey['batch']} windows of {survey['window_px']} px"
    if survey.get("goes_on"):
        return f"\n  The survey went on from that model's where it had one, for {trained}."
    if recipe.get("start"):
        whose = "the first model's" if recipe["start"].get("also") else "that model's"
        return f"\n  The survey is {whose} where it had one; else it was trained before, in {trained}."
    return f"\n  The survey was trained before, in {trained}."


def _noticing(survey: dict[str, Any]) -> str:
    """Surveys of earlier versions learnt it with all else."""
    if not (steps := survey.get("noticing_steps")):
        return ""
    windows = f"{steps * survey['batch']:,} windows"
    return f"\n  Whether there is rain at all it learnt last, of {windows}, half of them dry."


def _original(manifest: Manifest) -> str:
    if manifest.quantised_from is not None:
        return f"`{manifest.quantised_from.name}` on noise"
    if manifest.mirrored_from is None:
        return "PyTorch"
    name = manifest.mirrored_from.name
    around = ", enlarged around it by PyTorch" if manifest.mirrored_from.enlarged > 1 else ""
    return f"`{name}`, run and averaged view by view{around}"


def _mirrored(manifest: Manifest) -> str:
    if (mirrored := manifest.mirrored_from) is None:
        return ""
    views = {
        1: "on the picture.",
        2: "on the picture and on its mirror image, left to right, and returns the mean.",
        4: "on the picture and on its mirror images, left to right, upside down, and both, and returns "
        "the mean.",
    }[mirrored.views]
    if mirrored.enlarged > 1:
        views += (
            f"\n  Pictures are enlarged before it, {mirrored.enlarged:g} times each side, and what it takes "
            "off is made smaller again."
        )
    return f"""- **{mirrored.how.capitalize()}, not trained anew**: runs `{mirrored.name}`, SHA-256
  `{mirrored.sha256}`,
  {views}
"""


def _quantised(manifest: Manifest) -> str:
    if (quantised := manifest.quantised_from) is None:
        return ""
    return f"""- **Quantised, not trained anew**: computes `{quantised.name}`, SHA-256
  `{quantised.sha256}`,
  in 8-bit integers, but for the survey and each network's first and last layer. The ranges are those
  of {quantised.windows} windows in procedural rain.
"""


def _section(title: str, text: str) -> str:
    return f"\n## {title}\n\n{text.strip()}\n" if text.strip() else ""


def _in_pictures(pictures: Collection[str]) -> str:
    shown = [text for name, text in _PICTURE_TEXTS.items() if name in pictures]
    credits = "\n".join(f"- `{name}`: {credit}" for name, credit in CREDITS.items())
    return "\n\n".join([*shown, _CREDITS_TEXT + credits]) if shown else ""


def evaluation_table(evaluations: Iterable[Evaluation]) -> str:
    """The scores as Markdown tables: of rain, and of clean images."""
    known = list(evaluations)
    rainy = [_rain_row(e) for e in known if e.psnr is not None]
    # By sets that are for choosing: a test set is no kind to choose by.
    summary = summarise_kinds(e for e in known if e.role == "validation")
    if len(summary.kinds) > 1:
        rainy.append(_kinds_row(summary))
    clean = [_clean_row(e) for e in known if e.clean is not None]
    tables = [
        "\n".join([head, "|---" * head.count(" | ") + "|---|", *rows])
        for head, rows in ((_RAIN_HEAD, rainy), (_CLEAN_HEAD, clean))
        if rows
    ]
    return "\n\n".join(tables)


def _rain_row(e: Evaluation) -> str:
    """Evaluations of earlier versions have means alone."""
    more = rounded(None if e.input_psnr is None or e.psnr is None else e.psnr - e.input_psnr, 2)
    gains = {"gain": more} if e.gain is None else gain_cells(e)
    cells = [
        e.name + TONE_MARK * e.tone_changed,
        e.role,
        str(e.pictures if e.rainy is None else e.rainy),
        _both(e.psnr, e.psnr_y, 2),
        _both(e.input_psnr, e.input_psnr_y, 2),
        *(gains.get(column) or "–" for column in _GAIN_COLUMNS),
        _both(e.ssim, e.ssim_y, 3),
        rounded(e.removal, 2),
        *(rounded(value, 1) for value in (e.rain_change, e.background_error, e.background_error_50)),
    ]
    return _line(cells)


def _kinds_row(summary: KindSummary) -> str:
    cells = summary_cells(summary)
    gains = [cells.get(column, "") for column in _GAIN_COLUMNS]
    name = f"**mean of {len(summary.kinds)} kinds**"
    return _line([name, "validation", cells["images"], "", "", *gains, *[""] * 5])


def _clean_row(e: Evaluation) -> str:
    assert e.clean is not None
    return _line([e.name, e.role, *clean_cells(e.clean).values()])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _both(rgb: float | None, luma: float | None, digits: int) -> str:
    """Of RGB and, where it was measured, of Y."""
    return rounded(rgb, digits) + (f" / {rounded(luma, digits)}" if luma is not None else "")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.card", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", type=Path, help="a model folder, such as models/base")
    folder: Path = parser.parse_args(arguments).model
    return run_command(lambda: _run(folder))


def _run(folder: Path) -> int:
    engine = Engine(folder)
    for name, draw in ((CLEAN_PICTURE, clean_sheet), (RAIN_PICTURE, rain_sheet)):
        write_atomically(folder / name, encode_below(draw(engine.derain), LARGEST_BYTES))
    engine.close()
    write_model_texts(folder, engine.manifest)
    print(f"{folder / 'README.md'} is written, with {CLEAN_PICTURE} and {RAIN_PICTURE} beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
