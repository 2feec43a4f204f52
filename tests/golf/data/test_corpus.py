"""The built-in corpus against the real standard library."""

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from golf.data.corpus import documents

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[3]

CODE = """
import hashlib, sys
from golf.data.corpus import documents
print(hashlib.sha256(repr(documents()).encode()).hexdigest(), *sys.modules)
"""


@pytest.fixture(scope="module")
def found() -> list[tuple[str, str]]:
    """The corpus of this Python."""
    return documents()


def test_no_paragraph_is_in_two_documents(found: list[tuple[str, str]]) -> None:
    """Catches a docstring that training and validation share, which flatters every score."""
    paragraphs = Counter(" ".join(part.split()) for _, text in found for part in text.split("\n\n"))
    assert [part for part, number in paragraphs.items() if number > 1] == []


def test_size_and_content(found: list[tuple[str, str]]) -> None:
    """Catches a walk that misses the library or pydoc's topics, or takes other people's packages in."""
    names = dict(found)
    assert len(names) == len(found)
    assert sum(len(text.encode()) for text in names.values()) > 1_500_000
    assert "topic with" in names
    assert not any("numpy" in name or name.startswith(("site-packages", "test.")) for name in names)


def test_texts_are_docstrings(found: list[tuple[str, str]]) -> None:
    """Catches code or comments taken for English: a whole docstring of this library must be there, cleaned."""
    text = dict(found)["textwrap"]
    assert "Text wrapping and filling." in text
    assert "import re" not in text
    assert text.endswith("\n")
    assert text.encode().decode() == text


def test_another_process_gives_the_same_text_and_imports_nothing(found: list[tuple[str, str]]) -> None:
    """Catches an order taken from a set, and modules run for their docstrings: `antigravity` opens a browser."""
    run = [sys.executable, "-c", CODE]
    answer = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"})
    digest, imported = answer.stdout.split(maxsplit=1)
    assert digest == hashlib.sha256(repr(found).encode()).hexdigest()
    assert not {"this", "antigravity", "pydoc_data.topics", "idlelib.run", "turtle"} & set(imported.split())
