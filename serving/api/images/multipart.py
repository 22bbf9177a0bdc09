"""Answers in multipart/mixed; each part states its length."""

from collections.abc import Mapping

MULTIPART = "multipart/mixed"


def part_of(boundary: str, headers: Mapping[str, str], data: bytes) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"--{boundary}\r\n{head}content-length: {len(data)}\r\n\r\n".encode() + data + b"\r\n"


def end_of(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()
