"""Writes the tree into docs/architecture.md: each folder and module with the first sentence of its docstring.

    python scripts/tree.py

Run it after a file was added, moved or removed: a test compares the page with the disk.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- tree: python scripts/tree.py -->\n```text\n", "```\n<!-- end of the tree -->"

# The tree names their modules; of all other folders at the root it has one line.
PACKAGES = ("derain", "serving", "training", "benchmarks", "scripts")

# Folders and files without a docstring.
PHRASES = {
    ".github/": "tests and releases, for GitHub Actions",
    "benchmarks/": "speed of the engine and of the service; never torch",
    "deploy/": "Kubernetes manifests, Prometheus rules, the Grafana dashboard",
    "docs/": "the pages of this site; lab/ is the journal",
    "examples/": "rainy images to try",
    "models/": "one folder a model: ONNX files, manifest, model card; serving.json names the served one",
    "requirements/": "pinned packages with hashes",
    "scripts/": "programs of the Makefile and the Dockerfile",
    "serving/page/": "the page in the browser: HTML, CSS and JavaScript as they are sent",
    "tests/": "mirrors the packages; tests of the whole at its top",
    "training/photographs/": "free photographs to train on and to hold out, with authors and licences",
    "CHANGELOG.md": "changes by version",
    "CITATION.cff": "how to cite the software and the paper",
    "CONTRIBUTING.md": "how to change it",
    "Dockerfile": "the container, for CPUs or GPUs",
    "LICENSE": "Apache 2.0",
    "Makefile": "one word for each task",
    "README.md": "the first page",
    "SECURITY.md": "how to report a weakness",
    "bentofile.yaml": "the contents of a bento",
    "docker-compose.yaml": "the service with its monitoring on one machine",
    "mkdocs.yml": "these pages as a site",
    "pyproject.toml": "package, tools, import contracts",
}
_UNNAMED = ("__init__.py", "__main__.py")


class PhraseError(Exception):
    """A file or folder that nothing describes."""


def entries() -> Iterator[tuple[str, str]]:
    """Path and phrase of each line; the path of a folder ends in a slash, and its files follow it."""
    names = [name for name in _files() if not _is_hidden(name)]
    folders = {f"{part}/" for name in names for part in _folders(name)}
    modules = {name for name in names if _is_module(name)}
    at_the_root = {name for name in names if "/" not in name}
    for path in sorted(folders | modules | at_the_root, key=_place):
        yield path, _phrase(path)


def render(lines: Iterable[tuple[str, str]]) -> str:
    """One line each, the phrases of a folder's files below one another."""
    shown = [(_indent(path) + _name(path), phrase) for path, phrase in lines]
    return "".join(f"{name:<28} {phrase}\n" for name, phrase in shown)


def _files() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if (ROOT / name).exists()]


def _is_hidden(name: str) -> bool:
    """Dot files and folders, but for the workflows, are of tools."""
    return name.startswith(".") and not name.startswith(".github/")


def _folders(name: str) -> list[str]:
    """The folders above a file that have a line; in packages, those with modules or a phrase."""
    above = [str(folder) for folder in PurePosixPath(name).parents if str(folder) != "."]
    if not name.startswith(tuple(f"{package}/" for package in PACKAGES)):
        return above[-1:]
    return above if _is_module(name) else [folder for folder in above if f"{folder}/" in PHRASES]


def _is_module(name: str) -> bool:
    path = PurePosixPath(name)
    is_code = path.suffix in (".py", ".sh") and path.name not in _UNNAMED
    return is_code and path.parts[0] in PACKAGES


def _place(path: str) -> tuple[bool, bool, list[tuple[bool, str]]]:
    """Packages first, in their order, then other folders, then files; in a folder files come first."""
    parts = path.rstrip("/").split("/")
    is_file = not path.endswith("/")
    ranks = [(True, part) for part in parts[:-1]] + [(not is_file, parts[-1])]
    root = f"{PACKAGES.index(parts[0])}" if parts[0] in PACKAGES else parts[0]
    return parts[0] not in PACKAGES, is_file and len(parts) == 1, [(True, root), *ranks[1:]]


def _phrase(path: str) -> str:
    if path in PHRASES:
        return PHRASES[path]
    source = ROOT / path / "__init__.py" if path.endswith("/") else ROOT / path
    if not source.exists():
        raise PhraseError(f"{path} has no phrase: give it one in {Path(__file__).name}")
    text = source.read_text()
    described = _comment(text) if path.endswith(".sh") else ast.get_docstring(ast.parse(text))
    if not described:
        raise PhraseError(f"{path} has no docstring")
    return _sentence(described)


def _comment(text: str) -> str:
    """The first comment of a shell script."""
    lines = [line for line in text.splitlines() if not line.startswith("#!")]
    return "\n".join(line[2:] for line in takewhile(lambda line: line.startswith("#"), lines))


def _sentence(text: str) -> str:
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".:")


def _indent(path: str) -> str:
    return "  " * path.rstrip("/").count("/")


def _name(path: str) -> str:
    return path if path == ".github/" else path.rstrip("/").split("/")[-1] + "/" * path.endswith("/")


def main() -> int:
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + render(entries()) + END + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
