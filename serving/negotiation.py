"""Which format an answer is written in."""

from collections.abc import Sequence

from derain.images.formats import FORMATS, ImageFormat
from serving.problems import NotAcceptableError

ALIASES = {
    "image/jpg": "image/jpeg",
    "image/x-ms-bmp": "image/bmp",
    "application/octet-stream": "*/*",  # who asks for bytes gets them, in whatever format they are
}


def choose_format(accept: str | None, source: ImageFormat) -> ImageFormat:
    """The source's own format where it is written and the Accept header allows it, else the best allowed.

    Raises NotAcceptableError where it allows none.
    """
    own = source.answer_format
    by_name = {known.media_type: known for known in (own, *FORMATS) if known.writable}
    return by_name[choose_media_type(accept, tuple(by_name))]


def choose_media_type(accept: str | None, offered: Sequence[str]) -> str:
    """The best that the header allows, among equals the first that is offered.

    Raises NotAcceptableError where it allows none (RFC 9110, section 12.5.1).
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = _parse(accept)
    best = max(offered, key=lambda name: _quality(name, ranges))
    if _quality(best, ranges) <= 0:
        raise NotAcceptableError(f"cannot answer in {accept!r}; there is {', '.join(offered)}")
    return best


def _parse(accept: str) -> dict[str, float]:
    """Media ranges and their quality, 0 to 1."""
    ranges: dict[str, float] = {}
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            ranges[ALIASES.get(name, name)] = min(1.0, max(0.0, float(quality)))
        except ValueError:
            raise NotAcceptableError(f"the Accept header has a quality that is no number: {item!r}") from None
    return ranges


def _quality(media_type: str, ranges: dict[str, float]) -> float:
    """The most specific range that fits decides."""
    for name in (media_type, media_type.split("/")[0] + "/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return 0.0
