"""The built-in corpus `cpython-docs`: English text in every installation of Python, for runs without a download.

A document is made of the docstrings of one module of the standard library, which is parsed and never imported, or is
one topic of pydoc's help. No paragraph occurs twice in the corpus, so that no text is in both the training and the
validation split. The text differs between versions of Python, but not from run to run.
"""

import ast
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

CORPUS_NAME = "cpython-docs"
"""Name of the corpus, and of its shards."""
CORPUS_DATA = Path("data") / CORPUS_NAME
"""Where its shards are kept; they are made where they are missing."""

SKIPPED_FOLDERS = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
    "lib2to3",
    "turtledemo",
    "pydoc_data",
}
"""Folders of other people's packages, of tests and of generated or repeated text."""


def documents() -> list[tuple[str, str]]:
    """Returns names and texts of the corpus, in the order of the names; each text ends with a newline.

    Raises: FileNotFoundError when the standard library has no sources on this machine.
    """
    library = Path(sysconfig.get_path("stdlib"))
    texts = [(name, text) for name, text in _module_texts(library)] + list(_topic_texts(library))
    if not texts:
        raise FileNotFoundError(f"{library} holds no Python sources; give text of your own with --text PATH")
    return _without_repetitions(texts)


def _module_texts(library: Path) -> Iterator[tuple[str, str]]:
    """Yields the name and the docstrings of each module, joined by blank lines."""
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        if SKIPPED_FOLDERS.isdisjoint(parts):
            yield ".".join(parts), "\n\n".join(_docstrings(_parse(path)))


def _parse(path: Path) -> ast.Module:
    """Returns the syntax tree of a source file, without warnings about its escapes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(path.read_bytes(), str(path))


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """Yields cleaned docstrings of the module, its classes and its functions, outer ones first."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            text := ast.get_docstring(node, clean=False)
        ):
            yield inspect.cleandoc(text)


def _topic_texts(library: Path) -> Iterator[tuple[str, str]]:
    """Yields the texts of pydoc's help topics: the literal dictionary `topics`, read without running its module."""
    path = library / "pydoc_data" / "topics.py"
    for node in _parse(path).body if path.exists() else []:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            yield from ((f"topic {name}", topics[name]) for name in sorted(topics))


def _without_repetitions(texts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns the documents with every paragraph left out that an earlier one had; empty ones are dropped."""
    seen: set[str] = set()
    documents = []
    for name, text in texts:
        paragraphs = []
        # A lone surrogate has no UTF-8 form.
        for paragraph in re.split(r"\n\s*\n", text.encode("utf-8", "ignore").decode()):
            key = " ".join(paragraph.split())
            if key and key not in seen:
                seen.add(key)
                paragraphs.append(paragraph.strip("\n").rstrip())
        if paragraphs:
            documents.append((name, "\n\n".join(paragraphs) + "\n"))
    return documents
