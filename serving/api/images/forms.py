"""Multipart forms taken apart: files, and fields that say what is to be done with them (RFC 7578)."""

import email.message
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers

from serving.errors import ParameterError, UploadError
from serving.pipeline.options import Options

_MAX_FIELDS = 16
_MAX_FIELD_BYTES = 1000

# What a part is said to be in, where it is a file although it has no name of one.
_BINARY = ("image/", "application/octet-stream")


@dataclass(frozen=True)
class File:
    """One of a form."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Form:
    files: list[File]
    fields: list[tuple[str, str]]


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: list[bytes] = field(default_factory=list)
    is_whole: bool = False


class _Parts:
    """Collects what python-multipart finds in a body that is there as a whole."""

    def __init__(self, most: int) -> None:
        self.found: list[_Part] = []
        self._most = most
        self._name = self._value = b""

    def on_part_begin(self) -> None:
        if len(self.found) == self._most:
            raise UploadError(f"the multipart form has too many parts: at most {self._most} are allowed")
        self.found.append(_Part())

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self.found[-1].headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.found[-1].data.append(data[start:end])

    def on_part_end(self) -> None:
        self.found[-1].is_whole = True


def is_form(headers: Headers) -> bool:
    return headers.get("content-type", "").lower().startswith("multipart/form-data")


def read_form(headers: Headers, body: bytes, max_files: int) -> Form:
    """The files of a form, at least one, and its fields, each named like a parameter.

    A part is a file if it has the name of one. Without, it is one if it is said to be, or evidently is, no
    text: many clients leave the name out. Raises UploadError, and ParameterError for a field that is neither.
    """
    form = Form([], [])
    for part in _split(headers, body, max_files + _MAX_FIELDS):
        data = b"".join(part.data)
        name, file_name = _names(part)
        _check_encoding(part, name)
        if file_name is not None or (name not in Options.model_fields and _is_binary(part, data)):
            form.files.append(File(file_name or "", data))
        else:
            form.fields.append((name, _text(name, data)))
    if not 1 <= len(form.files) <= max_files:
        allowed = "one image" if max_files == 1 else f"1 to {max_files} images"
        raise UploadError(f"the multipart form has {len(form.files)} files: send {allowed}")
    return form


def _split(headers: Headers, body: bytes, most: int) -> list[_Part]:
    _, parameters = parse_options_header(headers["content-type"])
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise UploadError("the multipart form cannot be read: its Content-Type names no boundary")
    parts = _Parts(most)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.on_part_begin,
                "on_header_field": parts.on_header_field,
                "on_header_value": parts.on_header_value,
                "on_header_end": parts.on_header_end,
                "on_part_data": parts.on_part_data,
                "on_part_end": parts.on_part_end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise UploadError(f"the multipart form cannot be read: {error}") from error
    if parts.found and not parts.found[-1].is_whole:
        raise UploadError("the multipart form is cut short: it has no boundary at its end")
    return parts.found


def _names(part: _Part) -> tuple[str, str | None]:
    """Of the field, and of the file if it has one; raises UploadError where there is none of a field."""
    disposition = part.headers.get(b"content-disposition", b"")
    _, parameters = parse_options_header(disposition)
    if b"name" not in parameters:
        raise UploadError("the multipart form cannot be read: a part has no name in its Content-Disposition")
    plain = parameters.get(b"filename")
    # RFC 7578 forbids `filename*`, and some clients send nothing else.
    file_name = _extended_name(disposition) if plain is None else _decoded(plain)
    return _decoded(parameters[b"name"]), file_name


def _extended_name(disposition: bytes) -> str | None:
    if b"filename*" not in disposition.lower():
        return None
    message = email.message.Message()
    message["content-disposition"] = disposition.decode("latin-1")
    try:
        name = message.get_filename()
    except ValueError as error:  # of the characters that the caller names
        raise UploadError(
            "the multipart form cannot be read: a file's name is in no known characters"
        ) from error
    return name and name.encode("utf-8", "replace").decode()  # half a surrogate is in no answer


def _check_encoding(part: _Part, name: str) -> None:
    encoding = part.headers.get(b"content-transfer-encoding", b"").decode("latin-1").strip()
    if encoding.lower() not in ("", "binary", "8bit", "7bit"):
        raise UploadError(
            f"the part {name!r} of the multipart form has the Content-Transfer-Encoding {encoding!r}: "
            "send its bytes as they are"
        )


def _is_binary(part: _Part, data: bytes) -> bool:
    if part.headers.get(b"content-type", b"").decode("latin-1").strip().lower().startswith(_BINARY):
        return True
    try:
        return "\0" in data.decode()
    except UnicodeDecodeError:
        return True


def _text(name: str, data: bytes) -> str:
    if name not in Options.model_fields:
        raise ParameterError(
            f"the field {name!r} of the multipart form is neither a file (in curl: -F {name}=@FILE) nor "
            f"a parameter: there is {', '.join(Options.model_fields)}"
        )
    if len(data) > _MAX_FIELD_BYTES:
        raise UploadError(
            f"the field {name!r} of the multipart form has {len(data):,} bytes: "
            f"at most {_MAX_FIELD_BYTES:,} are allowed"
        )
    return _decoded(data)


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
