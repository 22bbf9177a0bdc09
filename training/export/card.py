"""What a model folder says of itself: the manifest for programs, the model card for people.

Remarks of one's own on what the model fails at go into `remarks.md` in its folder: whatever writes the card
takes them over.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from derain.errors import DerainError, ModelError
from derain.files import write_atomically
from derain.manifest import MANIFEST_NAME, Evaluation, Manifest, load_manifest
from training.evaluation.report.summary import KindSummary, summarise_kinds
from training.evaluation.report.tables import TONE_MARK, clean_cells, gain_cells, summary_cells
from training.evaluation.scoring import HARMED_DB, rounded
from training.evaluation.unseen import trained_on
from training.export.showcase import CREDITS, ERROR_GAIN
from training.rain.families import Family, is_of_another_make, is_of_recipe


def check_unseen(model: Path, rains: Sequence[Family], files: Iterable[Path]) -> None:
    """Raises ModelError for rain of the make that models are trained on, and for images that this one was
    trained on: of such the card has no scores.
    """
    manifest = load_manifest(model)
    if (found := trained_on(manifest, files)) is not None:
        path, folder = found
        raise ModelError(
            f"{path} is among the images of {folder}, which {model} was trained on, and its card is for "
            "images that it never saw; without --record it can be scored on them, and --json keeps the scores"
        )
    for rain in rains:
        if is_of_recipe(rain, manifest.recipe["rain"]) or not is_of_another_make(rain):
            raise ModelError(
                f"{rain.name} is rain to train on, and the card of {model} is for rain that it never saw; "
                "without --record it can be scored on it, and --json keeps the scores"
            )


def record_scores(folder: Path, evaluations: list[Evaluation]) -> None:
    manifest = load_manifest(folder)
    kept = [e for e in manifest.evaluations if e.name not in {new.name for new in evaluations}]
    write_model_texts(folder, manifest.model_copy(update={"evaluations": [*kept, *evaluations]}))


REMARKS = "remarks.md"
CLEAN_IMAGE = "clean.jpg"
RAIN_IMAGE = "rain.jpg"

# What a model folder may have besides. True of these weights alone, as the scores are: not to be taken
# over by another model.
ADDITIONS = (REMARKS, CLEAN_IMAGE, RAIN_IMAGE)

_IMAGE_TEXTS = {
    CLEAN_IMAGE: f"""![As given, as it comes back, and the difference]({CLEAN_IMAGE})

*Clean things that go through: as given, as they come back, and what has changed, {ERROR_GAIN} times
enlarged around grey. Of the photographs a part is shown; the page and the wires are drawn.*""",
    RAIN_IMAGE: f"""![In the rain, derained, and without rain]({RAIN_IMAGE})

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


class CardError(DerainError):
    """A manifest that no card can be written of."""


def write_model_texts(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` and `README.md` beside the ONNX file.

    Raises CardError, and writes nothing, where the recipe lacks what the card says of it, as those of earlier
    versions do.
    """
    remarks_file = folder / REMARKS
    remarks = remarks_file.read_text(encoding="utf-8") if remarks_file.exists() else ""
    images = {name for name in (CLEAN_IMAGE, RAIN_IMAGE) if (folder / name).exists()}
    try:
        card = model_card(manifest, remarks, images)
    except KeyError as missing:
        raise CardError(
            f"the recipe of {manifest.name} has no {missing}: no card can be written of it"
        ) from missing
    write_atomically(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2).encode() + b"\n")
    write_atomically(folder / "README.md", card.encode())


def model_card(manifest: Manifest, remarks: str = "", images: Collection[str] = ()) -> str:
    """With the remarks, and the images that are there."""
    recipe = manifest.recipe
    backgrounds, photographs = recipe["backgrounds"], "no photographs"
    if backgrounds["photographs"] is not None:
        photographs = (
            f"{backgrounds['photograph_count'] or 'all'} photographs of `{backgrounds['photographs']}`"
        )
    return f"""# {manifest.name}

Takes rain out of photographs. `{manifest.file.name}`, {manifest.file.bytes / 1e6:.2f} MB,
SHA-256 `{manifest.file.sha256}`.

- **Network**: {manifest.parameters:,} parameters, {manifest.kmac_per_pixel:.1f} thousand multiply-adds
  a pixel, ONNX opset {manifest.file.opset}.
- **Input and output**: {manifest.input.dtype} {manifest.input.layout}, {manifest.input.channels},
  {manifest.input.lowest} to {manifest.input.highest}; height and width multiples of
  {manifest.input.alignment_px}. Tiles must overlap by {manifest.overlap_px} pixels, the receptive radius.
{_estimator(manifest)}- **Agreement with PyTorch**: {manifest.parity.max_difference:.1e} at most,
  on a scale of 0 to 1, over {len(manifest.parity.sizes)} sizes.
- **Trained** by the recipe `{recipe["name"]}` of commit `{manifest.commit}`: {_course(recipe)}; rain of the
  range `{recipe["rain"]["name"]}`; backgrounds from {photographs} and
  {backgrounds["leaves_count"]} dead-leaves images.

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
{_section("Known failures", remarks)}{_section("In pictures", _in_images(images))}"""


def _estimator(manifest: Manifest) -> str:
    estimator = manifest.estimator
    if estimator is None:
        return ""
    return f"""\
- **Estimator**: `{estimator.file.name}`, {estimator.file.bytes / 1e6:.2f} MB, SHA-256
  `{estimator.file.sha256}`. From windows of {estimator.context_px} px it estimates the rain on an image:
  {estimator.numbers} numbers that the network is conditioned on, and the log-odds that there is any. Below
  {estimator.dry_below:g} the image comes back as it was.
"""


def _course(recipe: dict[str, Any]) -> str:
    derainers = recipe["model"]["derainers"]
    networks = f" of {derainers} networks side by side, whose mean it returns" if derainers > 1 else ""
    course = recipe["course"]
    return (
        f"{course['steps']:,}\n  steps{networks}, of {course['batch']} patches of {course['patch_px']} px, "
        f"seed {recipe['seed']}"
    )


def _section(title: str, text: str) -> str:
    return f"\n## {title}\n\n{text.strip()}\n" if text.strip() else ""


def _in_images(images: Collection[str]) -> str:
    shown = [text for name, text in _IMAGE_TEXTS.items() if name in images]
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
