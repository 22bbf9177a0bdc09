"""A program run in a terminal, which is shown more than a file or a pipe."""

import contextlib
import fcntl
import os
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path


def shown_in_terminal(
    command: Sequence[str], columns: int, folder: Path, environment: Mapping[str, str] | None = None
) -> bytes:
    """What the command wrote to standard error, a terminal of 24 rows; it ends well."""
    terminal, other = os.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=other)
    os.close(other)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while part := os.read(terminal, 65536):
            shown += part
    assert process.wait() == 0
    os.close(terminal)
    return shown
