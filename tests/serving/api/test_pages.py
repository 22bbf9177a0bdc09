"""What the page says of the limits."""

import pytest

from serving.api.pages import read_pages
from serving.settings import Settings


@pytest.mark.parametrize(
    ("max_bytes", "words"), [(20_000, "0.02 MB"), (104_857_600, "104.86 MB"), (1_000_000_000, "1000 MB")]
)
def test_sizes_are_written_out(max_bytes: int, words: str) -> None:
    settings = Settings(max_bytes=max_bytes, buffer_bytes=max_bytes)
    assert f"and {words} each" in bytes(read_pages(settings, {})["/"].body).decode()
