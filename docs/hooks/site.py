"""What mkdocs asks while it builds the site: pages that are not in docs/, and links to them."""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
for _folder in (ROOT, Path(__file__).parent):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

from reference import pages  # noqa: E402  (mkdocs loads hooks by their paths)

OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
} | {f"benchmarks/results/{path.name}": f"results/{path.name}" for path in sorted(ROOT.glob("benchmarks/results/*.md"))}
"""Files of the repository that are on the site: where they lie, and where they are on the site."""
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)]*)?(\))")
"""A link or picture of Markdown to a relative path."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the reference, and the pages that lie elsewhere in the repository."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Returns a page whose links, which are right in the repository, are right on the site."""
    site_path = page.file.src_uri
    repository_path = next((path for path, own in OUTSIDE.items() if own == site_path), f"docs/{site_path}")

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(repository_path), link[2]))
        on_site = OUTSIDE.get(target, target.removeprefix("docs/"))
        relative = posixpath.relpath(on_site, posixpath.dirname(site_path) or ".")
        return f"{link[1]}{relative}{link[3] or ''}{link[4]}"

    return LINK.sub(moved, markdown)
