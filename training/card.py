"""What a model folder says of itself: the manifest for programs, the model card for people."""

from collections.abc import Iterable
from pathlib import Path

from derain.image import write_atomically
from derain.manifest import MANIFEST_NAME, Evaluation, Manifest
from training.measurement import rounded

_HEAD = "| set | role | pictures | PSNR | of the input | SSIM | removal η | E_R | E_B | E_B50 | clean back |"


def write_model_texts(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` and `README.md` beside the ONNX file."""
    write_atomically(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2).encode() + b"\n")
    write_atomically(folder / "README.md", model_card(manifest).encode())


def model_card(manifest: Manifest) -> str:
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
- **Agreement with PyTorch**: {manifest.parity.max_difference:.1e} at most, on a scale of 0 to 1, over
  {len(manifest.parity.sizes)} sizes.
- **Trained** by the recipe `{recipe["name"]}` of commit `{manifest.commit}`: {recipe["steps"]:,}
  steps of {recipe["batch"]} patches of {recipe["patch_px"]} px, seed {recipe["seed"]}; rain of the
  range `{recipe["rain"]["name"]}`; backgrounds from {photographs} and
  {recipe["leaves_count"]} dead-leaves pictures.

## Scores

Measured on this file through the engine that serves it. No rain family below was trained on.
PSNR in dB; PSNR and SSIM of RGB and, after a slash, of the luma, which is what papers report. η is
the share of the rain removed (0 none, 1 all). E_R is the change on the rain (higher: more removed),
E_B the error off the rain (lower: less damage), both on 0 to 255; rain is where the rainy picture
differs from the clean one by more than 10 in some channel, for E_B50 by more than 50. "Clean back"
is the PSNR of clean pictures that go through the model. Sets marked "validation" may have guided
choices; those marked "test" have not.

{evaluation_table(manifest.evaluations)}
"""


def evaluation_table(evaluations: Iterable[Evaluation]) -> str:
    """The scores as a Markdown table."""
    rows = [_HEAD, "|---" * _HEAD.count(" | ") + "|---|"]
    for e in evaluations:
        measured = (
            (e.removal, 2),
            (e.rain_change, 1),
            (e.background_error, 1),
            (e.background_error_50, 1),
            (e.clean_psnr, 2),
        )
        cells = [
            _both(e.psnr, e.psnr_y, 2),
            _both(e.input_psnr, e.input_psnr_y, 2),
            _both(e.ssim, e.ssim_y, 3),
            *(rounded(value, digits) for value, digits in measured),
        ]
        rows.append(f"| {e.name} | {e.role} | {e.pictures} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _both(rgb: float | None, luma: float | None, digits: int) -> str:
    """Of RGB and, where it was measured, of Y."""
    return rounded(rgb, digits) + (f" / {rounded(luma, digits)}" if luma is not None else "")
