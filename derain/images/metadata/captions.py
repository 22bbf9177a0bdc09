"""What editors and panorama programs say of an image in XMP and IPTC, as far as it stays true.

Kept are titles, captions, authors, rights, ratings, and how a panorama is to be unrolled. Left out are
places, as they are of EXIF, the histories of programs, and all that describes bytes which are not there
any more.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as Xml

from derain.errors import CorruptImageError

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_PANORAMA = "http://ns.google.com/photos/1.0/panorama/"
_DC, _PHOTOSHOP = "http://purl.org/dc/elements/1.1/", "http://ns.adobe.com/photoshop/1.0/"

_PREFIXES = {
    "x": _META,
    "rdf": _RDF,
    "GPano": _PANORAMA,
    "dc": _DC,
    "photoshop": _PHOTOSHOP,
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
}
_KEPT = {
    "dc": {"title", "description", "creator", "rights", "subject"},
    "photoshop": {
        *("Headline", "Credit", "Source", "Instructions", "CaptionWriter", "AuthorsPosition", "DateCreated"),
    },
    "xmp": {"Rating", "Label"},
    "xmpRights": {"Marked", "Owner", "UsageTerms", "WebStatement"},
    "Iptc4xmpCore": {"AltTextAccessibility", "ExtDescrAccessibility"},
}
# Of gain maps and videos, which are counted where they are found.
_OF_PARTS = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/camera/",
)

MAX_XMP_BYTES = 65_000  # as many as one segment of a JPEG holds
_MAX_DEPTH = 12  # of elements in a property; a translated caption has three

# Datasets of IPTC's record 2, and what they are called in XMP; None: there is no such thing.
_IPTC_KEPT: dict[int, tuple[str, str] | None] = {
    5: (_DC, "title"),
    10: None,  # urgency
    15: None,  # category
    20: None,
    25: (_DC, "subject"),
    40: (_PHOTOSHOP, "Instructions"),
    55: None,  # date and time of creation
    60: None,
    80: (_DC, "creator"),
    85: (_PHOTOSHOP, "AuthorsPosition"),
    105: (_PHOTOSHOP, "Headline"),
    110: (_PHOTOSHOP, "Credit"),
    115: (_PHOTOSHOP, "Source"),
    116: (_DC, "rights"),
    120: (_DC, "description"),
    122: (_PHOTOSHOP, "CaptionWriter"),
}
_LISTS = {"title": "Alt", "description": "Alt", "rights": "Alt", "creator": "Seq", "subject": "Bag"}
_IPTC_ENVELOPE, _IPTC_CHARACTERS, _IN_UTF8 = 1, 90, b"\x1b%G"
_IPTC_DATA = 2
_MAX_DATASETS = 1000
_MAX_RESOURCES = 1000

_IPTC_RESOURCE = 0x0404
PHOTOSHOP_PREFIX = b"Photoshop 3.0\0"


@dataclass(frozen=True)
class Captions:
    """Both cleaned: `read_xmp` and `read_iptc` make them."""

    xmp: bytes | None = None  # a whole packet
    iptc: bytes | None = None  # datasets, without what Photoshop puts around them

    def as_xmp(self) -> bytes | None:
        """With what only IPTC says, for formats that have no place for it."""
        if self.iptc is None:
            return self.xmp
        said = Xml.fromstring(self.xmp) if self.xmp else None
        description = said.find(f".//{{{_RDF}}}Description") if said is not None else None
        properties = list(description) if description is not None else []
        names = {each.tag for each in properties} | set(description.attrib if description is not None else ())
        properties += [each for each in _properties_of(self.iptc) if each.tag not in names]
        return _packet(dict(description.attrib) if description is not None else {}, properties)


def read_xmp(packet: bytes | None, is_upright: bool = True) -> tuple[bytes | None, bool]:
    """What is kept of a packet, and whether something else was in it.

    A panorama's measures are kept only of an image that was upright: others change with turning it.
    """
    if not packet or not packet.strip(b"\0 \r\n\t"):
        return None, False
    # Entities could make much of little; XMP has none.
    if len(packet) > MAX_XMP_BYTES or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return None, True
    try:
        root = Xml.fromstring(packet.strip(b"\0 \r\n\t"))
    except (Xml.ParseError, ValueError, LookupError):
        return None, True
    attributes: dict[str, str] = {}
    properties: list[Xml.Element] = []
    has_more = False
    for description in root.iter(f"{{{_RDF}}}Description"):
        for name, value in description.attrib.items():
            if _is_kept(name, is_upright):
                attributes[name] = value
            else:
                has_more |= _counts(name)
        for each in description:
            if _is_kept(each.tag, is_upright) and _depth(each) <= _MAX_DEPTH:
                properties.append(each)
            else:
                has_more |= _counts(each.tag)
    kept = _packet(attributes, properties) if attributes or properties else None
    if kept is not None and len(kept) > MAX_XMP_BYTES:  # written anew it may be longer
        return None, True
    return kept, has_more


def _is_kept(name: str, is_upright: bool) -> bool:
    uri, _, local = name.removeprefix("{").partition("}")
    if uri == _PANORAMA:
        return is_upright
    return any(uri == _PREFIXES[prefix] and local in names for prefix, names in _KEPT.items())


def _counts(name: str) -> bool:
    """Whether it is worth a word that it is left out."""
    uri = name.removeprefix("{").partition("}")[0]
    return uri not in (_RDF, _META, *_OF_PARTS)


def _depth(element: Xml.Element) -> int:
    depth, level = 0, [element]
    while level and depth <= _MAX_DEPTH:
        depth, level = depth + 1, [child for parent in level for child in parent]
    return depth


def _packet(attributes: dict[str, str], properties: list[Xml.Element]) -> bytes:
    for prefix, uri in _PREFIXES.items():
        Xml.register_namespace(prefix, uri)
    root = Xml.Element(f"{{{_META}}}xmpmeta")
    rdf = Xml.SubElement(root, f"{{{_RDF}}}RDF")
    description = Xml.SubElement(rdf, f"{{{_RDF}}}Description", {f"{{{_RDF}}}about": "", **attributes})
    description.extend(properties)
    body: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=False)
    start = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'.encode()
    return start + body + b'<?xpacket end="w"?>'


def read_iptc(datasets: bytes | None) -> tuple[bytes | None, bool]:
    """What is kept of IPTC's datasets, and whether something else was in them."""
    if not datasets:
        return None, False
    kept, has_text, has_more = b"", False, False
    try:
        for record, number, content in _datasets(datasets):
            is_charset = (record, number) == (_IPTC_ENVELOPE, _IPTC_CHARACTERS)
            if is_charset or (record == _IPTC_DATA and number in (0, *_IPTC_KEPT)):
                kept += struct.pack(">BBBH", 0x1C, record, number, len(content)) + content
                has_text |= record == _IPTC_DATA and number != 0
            else:
                has_more |= record == _IPTC_DATA
    except CorruptImageError:
        return None, True
    return kept if has_text and len(kept) < MAX_XMP_BYTES else None, has_more


def _datasets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Record, number and content of each; raises CorruptImageError."""
    position = 0
    for _ in range(_MAX_DATASETS):
        if position + 5 > len(data) or data[position] != 0x1C:
            if data[position:].strip(b"\0"):
                raise CorruptImageError("the image's IPTC is damaged")
            return
        record, number, length = struct.unpack_from(">BBH", data, position + 1)
        position += 5
        if length > 0x7FFF or position + length > len(data):
            raise CorruptImageError("the image's IPTC is damaged")
        yield record, number, data[position : position + length]
        position += length


def _properties_of(iptc: bytes) -> list[Xml.Element]:
    """As XMP has them."""
    found = list(_datasets(iptc))
    is_utf8 = (_IPTC_ENVELOPE, _IPTC_CHARACTERS, _IN_UTF8) in found
    properties: dict[tuple[str, str], Xml.Element] = {}
    for record, number, content in found:
        name = _IPTC_KEPT.get(number) if record == _IPTC_DATA else None
        if name is None:
            continue
        text = _text(content, is_utf8)
        uri, local = name
        if local not in _LISTS:
            properties[name] = Xml.Element(f"{{{uri}}}{local}")
            properties[name].text = text
            continue
        if name not in properties:
            properties[name] = Xml.Element(f"{{{uri}}}{local}")
            Xml.SubElement(properties[name], f"{{{_RDF}}}{_LISTS[local]}")
        language = {_LANGUAGE: "x-default"} if _LISTS[local] == "Alt" else {}
        Xml.SubElement(properties[name][0], f"{{{_RDF}}}li", language).text = text
    return list(properties.values())


def _text(content: bytes, is_utf8: bool) -> str:
    """Without what XML cannot hold. Most writers use UTF-8 and forget to say so."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("utf-8" if is_utf8 else "latin-1", "replace")
    return "".join(letter for letter in text if letter in "\t\n\r" or letter >= " ")


def iptc_in_photoshop(resources: bytes) -> bytes | None:
    """The datasets among the blocks of resources that Photoshop writes."""
    position = 0
    for _ in range(_MAX_RESOURCES):
        if resources[position : position + 4] != b"8BIM" or position + 12 > len(resources):
            return None
        (number,) = struct.unpack_from(">H", resources, position + 4)
        name_bytes = resources[position + 6] + 1
        position += 6 + name_bytes + name_bytes % 2
        if position + 4 > len(resources):
            return None
        (size,) = struct.unpack_from(">I", resources, position)
        position += 4
        if number == _IPTC_RESOURCE:
            return resources[position : position + size]
        position += size + size % 2
    return None


def in_photoshop(iptc: bytes) -> bytes:
    """The datasets as the resource that readers of JPEG look for."""
    return b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
