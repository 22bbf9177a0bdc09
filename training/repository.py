"""This repository: where its photographs lie, and which commit of it runs."""

import subprocess
from pathlib import Path

HELD_OUT_PHOTOGRAPHS = Path(__file__).parent / "photographs" / "heldout"  # no recipe trains on them

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = ROOT / "training" / "photographs" / "train"


def current_commit() -> str:
    """The commit of the code that runs, marked where it has been changed since; or "unknown"."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
