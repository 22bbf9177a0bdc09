"""Which packages are installed; all else about them is in pyproject.toml."""

from setuptools import find_packages, setup

# Folders of the top level that an installed package needs: see derain/files.py.
SHIPPED = {"derain.shipped.models": "models", "derain.shipped.examples": "examples"}

setup(
    packages=[*find_packages(include=["derain*", "serving*", "training*"]), *SHIPPED],
    package_dir=SHIPPED,
)
