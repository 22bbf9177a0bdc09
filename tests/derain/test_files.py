"""Files that are written whole or not at all."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from derain.files import write_atomically


def test_several_writers_of_one_file_each_write_it_whole(tmp_path: Path) -> None:
    """They may be of one process, or of two containers in which processes have one number."""
    path = tmp_path / "one.png"
    contents = [bytes([number]) * 200_000 for number in range(4)]

    def write(content: bytes) -> None:
        for _ in range(50):
            write_atomically(path, content)
            assert path.read_bytes() in contents

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, contents))
    assert list(tmp_path.iterdir()) == [path]
