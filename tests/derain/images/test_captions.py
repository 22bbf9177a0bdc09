"""What is kept of XMP and IPTC stays in every format that has a place for it; what is not is named."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage
from PIL import ImageCms, IptcImagePlugin, PngImagePlugin

from derain.errors import UnsupportedFormatError
from derain.images.encoding import dropped, encode_photo
from derain.images.formats import AVIF, BMP, FORMATS, JPEG, PNG, TIFF, WEBP, ImageFormat
from derain.images.header import read_header
from derain.images.metadata.captions import in_photoshop, iptc_in_photoshop, read_iptc, read_xmp
from derain.images.photo import Photo, decode_photo
from tests.conftest import scene
from tests.derain.images.test_photo import profile, rich_exif
from tests.derain.images.test_plain import by_pillow, png_chunk

SCENE = scene(40, 60)
IMAGE = PilImage.fromarray(SCENE)
WITH_XMP = [JPEG, PNG, WEBP, TIFF, AVIF]

named = pytest.mark.parametrize("target", WITH_XMP, ids=lambda known: known.name)

PANORAMA = 'xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:ProjectionType="equirectangular" '
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:City="Bergen" photoshop:Credit="Agency" '
    f'xmlns:dc="http://purl.org/dc/elements/1.1/" {PANORAMA}>'
    '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">A wet d\u00f8g &amp; a cat</rdf:li></rdf:Alt>'
    "</dc:description>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="w"?>'
).encode()


def photo_of(data: bytes) -> Photo:
    return decode_photo(data, read_header(data))


def xmp_of(data: bytes) -> str:
    with PilImage.open(io.BytesIO(data)) as image:
        found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
        if not found and image.format == "TIFF":
            found = image.tag_v2.get(700, b"")  # type: ignore[attr-defined]
    return found if isinstance(found, str) else found.decode()


def with_xmp(source: ImageFormat, xmp: bytes, **options: Any) -> bytes:
    if source == PNG:
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
        return by_pillow(IMAGE, "PNG", pnginfo=text, **options)
    if source == TIFF:
        file = io.BytesIO()
        tifffile.imwrite(file, SCENE, photometric="rgb", extratags=[(700, "B", len(xmp), xmp, True)])
        return file.getvalue()
    return by_pillow(IMAGE, source.name, xmp=xmp, **options)


@named
@pytest.mark.parametrize("source", WITH_XMP, ids=lambda known: known.name)
def test_captions_and_panoramas_stay(source: ImageFormat, target: ImageFormat) -> None:
    photo = photo_of(with_xmp(source, XMP))
    xmp = xmp_of(encode_photo(photo, target))
    assert 'GPano:ProjectionType="equirectangular"' in xmp
    assert "A wet d\u00f8g &amp; a cat</rdf:li>" in xmp
    assert 'photoshop:Credit="Agency"' in xmp
    assert "Bergen" not in xmp
    assert dropped(photo, target) == ("xmp",)


@named
def test_metadata_that_is_not_wanted_goes(target: ImageFormat) -> None:
    photo = photo_of(with_xmp(JPEG, XMP))
    assert xmp_of(encode_photo(photo, target, keep_metadata=False)) == ""
    assert "xmp" in dropped(photo, target, keep_metadata=False)


def test_lossless_avif_has_captions_too() -> None:
    assert "equirectangular" in xmp_of(encode_photo(photo_of(with_xmp(WEBP, XMP)), AVIF, lossless=True))


def test_a_panorama_that_is_turned_has_other_measures() -> None:
    exif = PilImage.Exif()
    exif[0x0112] = 6
    photo = photo_of(with_xmp(JPEG, XMP, exif=exif))
    xmp = xmp_of(encode_photo(photo, JPEG))
    assert "GPano" not in xmp
    assert "wet" in xmp
    assert "xmp" in dropped(photo, JPEG)


@pytest.mark.parametrize(
    "packet",
    [
        b"<x",
        b"\xff\xfe\0\0",
        XMP.replace(b"<x:xmpmeta", b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x:xmpmeta'),
        XMP.replace(b"UTF-8", b"").replace(b"Agency", b"A" * 70_000),
        b'<?xml version="1.0" encoding="no such"?><a/>',
        XMP.replace(b"Agency", b">" * 60_000),  # as `&gt;` it is longer
    ],
)
def test_a_packet_that_is_odd_is_dropped(packet: bytes) -> None:
    assert read_xmp(packet) == (None, True)


def test_of_many_packets_one_is_unpacked() -> None:
    """Each may be large, and packed to nothing."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", " " * 60_000, zip=True)
    single = by_pillow(IMAGE, "PNG", pnginfo=text)
    at = single.index(b"iTXt") - 4
    end = at + 12 + int.from_bytes(single[at : at + 4], "big")
    data = single[:at] + single[at:end] * 10_000 + single[end:]
    assert decode_photo(data, read_header(data)).image.shape[1] == IMAGE.width


def test_resources_of_nothing_have_an_end() -> None:
    assert iptc_in_photoshop(b"8BIM\4\5\0\0\0\0\0\0" * 2_000_000) is None


def test_a_packet_that_is_deep_takes_no_depth() -> None:
    deep = b"<rdf:li>" * 3000 + b"</rdf:li>" * 3000
    packet = XMP.replace(b"A wet", deep + b"A wet")
    kept, has_more = read_xmp(packet)
    assert has_more
    assert kept is not None
    assert b"equirectangular" in kept
    assert b"wet" not in kept


IPTC = b"".join(
    struct.pack(">BBBH", 0x1C, record, number, len(text.encode())) + text.encode()
    for record, number, text in [
        (1, 90, "\x1b%G"),
        (2, 5, "Rain"),
        (2, 25, "wet"),
        (2, 25, "cold"),
        (2, 80, "Somebody"),
        (2, 90, "Bergen"),
        (2, 105, "It pours"),
        (2, 116, "Agency"),
        (2, 120, "Caption \u00f8"),
    ]
)


def jpeg_with_iptc() -> bytes:
    resources = b"8BIM\x03\xed\0\0\0\0\0\x05\1\2\3\4\5\0" + in_photoshop(IPTC)
    content = b"Photoshop 3.0\0" + resources
    segment = b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    return by_pillow(IMAGE, "JPEG", extra=segment)


def tiff_with_iptc(order: str, kind: str) -> bytes:
    file = io.BytesIO()
    padded = IPTC + b"\0" * (-len(IPTC) % 4)
    # As numbers, they are bytes in their own order all the same.
    value: Any = np.frombuffer(padded, f"{order}u4").tolist() if kind == "I" else padded
    count = len(padded) // 4 if kind == "I" else len(padded)
    tags = [(33723, kind, count, value, True)]
    tifffile.imwrite(file, SCENE, photometric="rgb", byteorder=order, extratags=tags)  # type: ignore[arg-type]
    return file.getvalue()


SOURCES: dict[str, Callable[[], bytes]] = {
    "JPEG": jpeg_with_iptc,
    "TIFF": lambda: tiff_with_iptc("<", "B"),
    "TIFF of numbers": lambda: tiff_with_iptc("<", "I"),
    "TIFF of numbers, the other way round": lambda: tiff_with_iptc(">", "I"),
}


@pytest.mark.parametrize("target", [JPEG, TIFF], ids=lambda known: known.name)
@pytest.mark.parametrize("source", SOURCES)
def test_iptc_stays_but_for_places(source: str, target: ImageFormat) -> None:
    photo = photo_of(SOURCES[source]())
    with PilImage.open(io.BytesIO(encode_photo(photo, target))) as answer:
        found = IptcImagePlugin.getiptcinfo(answer)
    assert found is not None
    assert found[(2, 120)] == "Caption \u00f8".encode()
    assert found[(2, 25)] == [b"wet", b"cold"]
    assert found[(1, 90)] == b"\x1b%G"
    assert (2, 90) not in found
    assert dropped(photo, target) == ("iptc",)


@pytest.mark.parametrize("target", [PNG, WEBP, AVIF], ids=lambda known: known.name)
def test_where_there_is_no_iptc_xmp_says_it(target: ImageFormat) -> None:
    xmp = xmp_of(encode_photo(photo_of(jpeg_with_iptc()), target))
    for said in ("Caption \u00f8", "wet", "cold", "Somebody", "It pours", "Rain", "Agency"):
        assert said in xmp
    assert "Bergen" not in xmp


def test_xmp_and_iptc_are_one_where_both_speak() -> None:
    data = jpeg_with_iptc()
    segment = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    both = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    xmp = xmp_of(encode_photo(photo_of(both), PNG))
    assert "wet d\u00f8g" in xmp
    assert "Caption" not in xmp  # XMP's own goes first
    assert "It pours" in xmp
    assert "equirectangular" in xmp


@pytest.mark.parametrize("data", [IPTC[:-3], b"\x1c\x02", b"junk", IPTC + b"\x1c\x02\x05\xff\xff"])
def test_iptc_that_is_damaged_is_dropped(data: bytes) -> None:
    assert read_iptc(data) == (None, True)


def behind(data: bytes) -> bytes:
    return by_pillow(IMAGE, "JPEG") + data


GAIN_MAP = XMP.replace(
    PANORAMA.encode(), b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
)
OTHERS: dict[str, tuple[Callable[[], bytes], tuple[str, ...]]] = {
    "nothing": (lambda: by_pillow(IMAGE, "JPEG"), ()),
    "Ultra HDR": (
        lambda: by_pillow(IMAGE, "JPEG", xmp=GAIN_MAP.replace(b'photoshop:City="Bergen"', b"")) + behind(b""),
        ("gain-map",),
    ),
    "a second image": (lambda: behind(by_pillow(IMAGE, "JPEG")), ("other-images",)),
    "a video": (lambda: behind(b"\0\0\0\x18ftypmp42" + bytes(100)), ("video",)),
    "something": (lambda: behind(b"SEFT" * 100), ("appended-data",)),
    "padding": (lambda: behind(bytes(16)), ()),
    "a comment": (lambda: by_pillow(IMAGE, "JPEG", comment=b"hello"), ("comment",)),
    "credentials": (
        lambda: by_pillow(IMAGE, "JPEG", extra=b"\xff\xeb\0\x0eJP\0\1\0\0\0\1jumb"),
        ("content-credentials",),
    ),
    "a camera's": (
        lambda: by_pillow(IMAGE, "JPEG", exif=b"Exif\0\0" + rich_exif("<")),
        ("gps", "maker-notes", "thumbnail"),
    ),
    "text in PNG": (lambda: png_with(tEXt=b"Title\0x"), ("comment",)),
    "credentials in PNG": (lambda: png_with(caBX=b"x"), ("content-credentials",)),
    "IPTC as ImageMagick has it": (lambda: png_with(zTXt=b"Raw profile type iptc\0\0x"), ("iptc",)),
    "a profile of CMYK": (
        lambda: by_pillow(IMAGE, "JPEG", icc_profile=profile(b"CMYK")),
        ("profile",),
    ),
    "more samples": (
        lambda: _tiff_of(np.dstack([SCENE, SCENE[..., :2]]), extrasamples=["unassalpha", "unspecified"]),
        ("extra-samples",),
    ),
}


def png_with(**chunks: bytes) -> bytes:
    png = by_pillow(IMAGE, "PNG")
    return (
        png[:33] + b"".join(png_chunk(name.encode(), content) for name, content in chunks.items()) + png[33:]
    )


def _tiff_of(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, photometric="rgb", **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_dropped_is_named(kind: str) -> None:
    make, names = OTHERS[kind]
    photo = photo_of(make())
    found = set(dropped(photo, photo.format)) - {"xmp"}
    assert found == set(names)


@pytest.mark.parametrize(
    ("chunks", "names"),
    [
        ({"gAMA": struct.pack(">I", 45_455)}, ()),
        ({"gAMA": struct.pack(">I", 45_454), "sRGB": b"\0"}, ()),
        ({"gAMA": struct.pack(">I", 100_000)}, ("gamma",)),
        ({"cHRM": struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)}, ()),
        (
            {"cHRM": struct.pack(">8I", 31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)},
            ("gamma",),
        ),
        ({"gAMA": b""}, ()),
    ],
)
def test_what_a_png_tells_of_its_colours(chunks: dict[str, bytes], names: tuple[str, ...]) -> None:
    photo = photo_of(png_with(**chunks))
    assert dropped(photo, PNG) == ()
    assert dropped(photo, JPEG) == names


def test_what_bmp_has_no_place_for_is_named() -> None:
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = PilImage.Exif()
    exif[0x010F] = "Rain"
    photo = photo_of(by_pillow(IMAGE, "JPEG", icc_profile=wide, exif=exif, xmp=XMP))
    assert dropped(photo, BMP) == ("exif", "profile", "xmp")
    assert dropped(photo, JPEG, keep_metadata=False) == ("exif", "xmp")


def gray_profile(gamma: float) -> bytes:
    """ICC version 2, of a curve that is a power."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, start = [(b"wtpt", white), (b"kTRC", curve)], 128 + 4 + 24
    table = b"".join(
        name + struct.pack(">II", start + sum(len(each) for _, each in tags[:number]), len(content))
        for number, (name, content) in enumerate(tags)
    )
    body = struct.pack(">I", len(tags)) + table + b"".join(content for _, content in tags)
    head = (
        struct.pack(">I", 128 + len(body)) + b"lcms" + b"\x02\x10\0\0" + b"mntrGRAYXYZ " + bytes(12) + b"acsp"
    )
    return head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061) + bytes(48) + body


@pytest.mark.parametrize(("target", "has_alpha"), [(WEBP, False), (WEBP, True), (AVIF, True)])
def test_gray_of_a_profile_looks_the_same_without_gray(target: ImageFormat, has_alpha: bool) -> None:
    levels = np.broadcast_to(np.linspace(0, 255, 60).astype(np.uint8), (40, 60))
    image = (
        PilImage.merge("LA", [PilImage.fromarray(levels)] * 2) if has_alpha else PilImage.fromarray(levels)
    )
    photo = photo_of(by_pillow(image, "PNG", icc_profile=gray_profile(1.0)))
    assert photo.profile is not None
    with PilImage.open(io.BytesIO(encode_photo(photo, target, lossless=True))) as answer:
        assert "icc_profile" not in answer.info
        got = np.asarray(answer.convert("RGB")).astype(float)
    linear = levels / 255
    wanted = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(got - wanted[..., None]).max() <= 2
    assert dropped(photo, target) == ()


def test_a_gray_profile_that_is_damaged_is_named() -> None:
    damaged = bytearray(gray_profile(1.0))
    damaged[128:] = b"\xff" * (len(damaged) - 128)
    photo = photo_of(by_pillow(PilImage.fromarray(SCENE[..., 0]), "PNG", icc_profile=bytes(damaged)))
    assert dropped(photo, PNG) == ()
    assert dropped(photo, WEBP) == ("profile",)
    assert encode_photo(photo, WEBP)


@pytest.mark.parametrize(("primaries", "transfer"), [(9, 16), (9, 18), (12, 13), (1, 16)])
def test_code_points_that_only_png_can_tell(primaries: int, transfer: int) -> None:
    data = png_with(cICP=bytes([primaries, transfer, 0, 1]))
    photo = photo_of(data)
    assert bytes([primaries, transfer, 0, 1]) in encode_photo(photo, PNG)
    for target in FORMATS:
        if target.writable and target != PNG:
            with pytest.raises(
                UnsupportedFormatError, match=f"code points {primaries}/{transfer}: HDR or wide"
            ):
                encode_photo(photo, target)


def test_code_points_beside_a_profile_or_of_srgb_are_no_hindrance() -> None:
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = by_pillow(IMAGE, "PNG", icc_profile=wide)
    with_both = plain[:33] + png_chunk(b"cICP", bytes([9, 16, 0, 1])) + plain[33:]
    for data in (with_both, png_with(cICP=bytes([1, 13, 0, 1]))):
        assert encode_photo(photo_of(data), JPEG)
