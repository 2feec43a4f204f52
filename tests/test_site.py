"""The documentation as a site: it builds without a warning, links lead somewhere, nothing comes from the network."""

import dataclasses
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from benchmarks.browser import CHROMIUM, DRIVER, open_browser
from golf.config.config import RunConfig, ScheduleConfig
from tune.cli.parsers import TOOLS

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]
LOADING = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "object": "data",
    "video": "src",
}
"""Elements that a browser fetches by itself, and the attribute that says from where."""


class Links(HTMLParser):
    """What a page loads, where it leads, and the names of its places."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.followed: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        values = dict(attrs)
        self.ids |= {values["id"] or ""} if "id" in values else set()
        address = values.get(LOADING.get(tag, ""))
        if address and values.get("rel") != "canonical":
            self.loaded.append(address)
        if tag == "a" and values.get("href"):
            self.followed.append(values["href"] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    """Every page, read."""
    return {page: Links(page) for page in site.rglob("*.html")}


def test_nothing_is_loaded_from_the_network(site: Path, pages: dict[Path, Links]) -> None:
    """Fault: a font, a script or a picture that a reader without a network waits for, and that tells who reads."""
    assert len(pages) > 40
    for page, links in pages.items():
        assert not [address for address in links.loaded if re.match(r"(https?:)?//", address)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text()), style


def test_links_lead_to_pages_and_places(site: Path, pages: dict[Path, Links]) -> None:
    """Fault: a link that was right in the repository and is broken on the site; a file that the theme misses."""
    for page, links in pages.items():
        for link in [*links.followed, *links.loaded]:
            path, _, place = unquote(link).partition("#")
            if re.match(r"\w+:|//", link) or page.name == "404.html":
                continue
            target = (page.parent / path).resolve() if path else page
            assert target.is_file(), f"{page.relative_to(site)}: {link}"
            if place and target in pages and not place.startswith("__"):
                assert place in pages[target].ids, f"{page.relative_to(site)}: {link}"


def test_the_reference_is_complete(site: Path) -> None:
    """Fault: a field, command or option that the reference leaves out."""
    configuration = unescape((site / "reference/configuration.html").read_text())
    names = [field.name for field in dataclasses.fields(RunConfig)]
    names += [f"schedule.{field.name}" for field in dataclasses.fields(ScheduleConfig)]
    assert not [name for name in names if f"<code>{name}</code>" not in configuration]
    sweeps = unescape((site / "reference/golf-sweep.html").read_text())
    assert not [word for word in (*TOOLS, "--space", "--mirror", "--no-early-stopping") if word not in sweeps]


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver in the PATH")
def test_search_works_in_files_on_the_disk(site: Path, tmp_path: Path) -> None:
    """Fault: the search waits for a worker that the browser does not start for a file, or for a server's script."""
    with open_browser(tmp_path / "profile", 1200, 800) as browser:
        browser.open((site / "index.html").as_uri())
        browser.click("label[for=__search]")
        browser.until("return document.querySelector('input.md-search__input')").send_keys("preemption")
        browser.until("return document.querySelectorAll('.md-search-result__item').length")
