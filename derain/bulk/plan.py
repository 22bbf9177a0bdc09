"""What is to be derained: of the images that there are, those that no earlier run has done."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from derain.bulk import storage
from derain.bulk.rows import Item, Row
from derain.bulk.sources import Manifest, find
from derain.command.names import name_key
from derain.errors import DerainError
from derain.images.formats import FORMAT_OF, JPEG, ImageFormat


class PlanError(DerainError):
    """A source and a target that cannot be what was meant."""


@dataclass(frozen=True)
class Make:
    """What made results, or is to make them: of two, one target should not have some of each."""

    model: str  # SHA-256
    options: str | None


@dataclass
class Plan:
    """Every image of the source, and which of them there is something to do for."""

    images: list[Item] = field(default_factory=list)
    to_do: list[Item] = field(default_factory=list)
    left_out: list[Row] = field(default_factory=list)  # files that are no images, and folders not read


def make_plan(source: str, target: str, manifest: Manifest, image_format: ImageFormat | None = None) -> Plan:
    """Every image with its target, for now all to do.

    Raises PlanError for no images, and for two that would be written to one place, or over an image of
    the source; SourceError or StorageError.
    """
    plan = Plan()
    for each in find(source, target, manifest):
        if isinstance(each, Row):
            plan.left_out.append(each)
        else:
            name = storage.join(target, result_place(each.place, image_format))
            plan.images.append(Item(each.source, name, each.bytes))
    if not plan.images:
        reasons = Counter(row.error for row in plan.left_out)
        omitted = "".join(f"; {count} left out: {reason}" for reason, count in reasons.items())
        raise PlanError(f"no images in {source}{omitted}")
    _check_targets(plan.images, is_disk=not storage.is_remote(target))
    plan.to_do = plan.images
    return plan


def result_place(place: str, image_format: ImageFormat | None) -> str:
    """Of a result, from that of its source alone: restarts and other machines find the same.

    A suffix is added where the format is another one than the name says: `a.heic` becomes `a.heic.jpg`.
    """
    suffix = PurePosixPath(place).suffix.lower()
    known = FORMAT_OF.get(suffix)
    wanted = image_format or (known.answer_format if known else JPEG)
    return place if suffix in wanted.suffixes else place + wanted.suffixes[0]


def leave_out_done(plan: Plan, target: str, rows: Mapping[str, Row], make: Make, overwrites: bool) -> None:
    """Of what there is to do: what is there and whole. `rows` are the last ones of earlier runs.

    Without a row, whatever is there and not empty is somebody's result, and stays unless `overwrites`.
    Raises PlanError where another model or other options made results that are there.
    """
    there = {storage.join(target, place): size for place, size in storage.files_below(target)}
    to_do = []
    for item in plan.images:
        size, row = there.get(item.target), rows.get(item.source)
        if size is not None and row is not None and row.is_done and row.target == item.target:
            is_same = (row.model, row.options) == (make.model, make.options)
            if is_same and size == row.bytes:
                continue
            if not is_same and not overwrites:
                raise PlanError(_of_another_make(item, row, make))
        elif size and not overwrites:
            continue
        to_do.append(Item(item.source, item.target, item.bytes, replaces=size is not None))
    plan.to_do = to_do


def _of_another_make(item: Item, row: Row, make: Make) -> str:
    if row.model != make.model:
        made, now = f"model {(row.model or 'unknown')[:12]}", f"model {make.model[:12]}"
    else:
        made, now = f"options {row.options or 'none'}", f"{make.options or 'none'} now"
    return f"{item.target} was made with {made}, not {now}: choose another target, or --overwrite"


def _check_targets(images: Iterable[Item], is_disk: bool) -> None:
    """Buckets tell capitals from small letters, and some disks do not."""
    taken: dict[str, str] = {}
    sources = {item.source for item in images}
    for item in images:
        key = name_key(Path(item.target)) if is_disk else item.target
        other = taken.setdefault(key, item.source)
        if other != item.source:
            raise PlanError(f"{other} and {item.source} would both be written to {item.target}")
        if item.target in sources:
            over = "itself" if item.target == item.source else item.target
            raise PlanError(f"{item.source} would be written over {over}: choose another target")
