"""For mkdocs: pages and images of the repository that are not in docs/, and links that lead out of it.

A link to what is on the site leads there. A link to anything else, such as code, leads to the repository
where its address is known (REPOSITORY_URL, the address of a folder of files), and is plain text elsewhere.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parent.parent
_PAGES = (
    "CHANGELOG.md",
    "examples/*",
    "models/*/README.md",
    "models/*/*.jpg",
    "training/photographs/README.md",
)
_LINK = re.compile(r"\[(?P<text>[^\]]+)\]\((?!https?:|mailto:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what the pages outside of docs/ are, under the paths that they have in the repository."""
    for pattern in _PAGES:
        for path in sorted(_ROOT.glob(pattern)):
            name = path.relative_to(_ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they lead on the site."""
    here = page.file.src_uri
    is_of_docs = (_ROOT / "docs" / here).exists()
    folder = posixpath.dirname(f"docs/{here}" if is_of_docs else here)  # in the repository

    def lead(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link["path"]))
        on_site = path.removeprefix("docs/")
        if files.get_file_from_path(on_site) is not None:
            target = posixpath.relpath(on_site, posixpath.dirname(here) or ".")
            return f"[{link['text']}]({target}{link['anchor'] or ''})"
        repository = os.environ.get("REPOSITORY_URL")
        return f"[{link['text']}]({repository}/{path})" if repository else str(link["text"])

    return _LINK.sub(lead, markdown)
