"""Where the programs are that look at what is deployed."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT


def tool(name: str) -> Path:
    """Of requirements/deploy.txt; where it is not installed, the test is skipped."""
    path = ROOT / ".venv" / "deploy" / "bin" / name
    if not path.exists():
        pytest.skip(f"{name} is not installed: make check-deploy installs it")
    return path


def debian_program(name: str) -> str:
    """Of prometheus or prometheus-alertmanager; where it is not installed, the test is skipped."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus prometheus-alertmanager")
    return path
