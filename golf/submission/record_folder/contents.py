"""The contents of a record folder: its claims, logs and code, read under limits.

Files are read up to a size, logs by their head and tail; links that lead out of the folder, pipes and devices are
reported, not followed. Nothing is imported or executed.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from golf.compliance.points import REMARK, Cause
from golf.submission.record_folder.claims import FILE as CLAIMS
from golf.submission.record_folder.claims import Claims, read_claims
from golf.submission.record_folder.logs import RunLog, read_log
from golf.submission.record_folder.sources import CODE_ENDINGS, Source, reachable, read_source
from golf.submission.record_folder.text import DAMAGED, HEAD_BYTES, TAIL_BYTES, Text, decoded, read_text

README, CODE, REQUIREMENTS = "README.md", "train_gpt.py", "requirements.txt"
LARGEST = {".json": 4 << 20, ".py": 2 << 20, ".md": 4 << 20, ".sh": 1 << 20}
"""Most bytes of a file that is read, by its ending."""
LOG_ENDINGS = (".log", ".txt", ".out", ".stdout", ".err")
LARGEST_TOGETHER = 48 << 20
_MOST_ENTRIES, _DEEPEST, _MOST_SCRIPTS = 5000, 4, 200
_NO_LOG = ("requirements", "readme", "license", "licence", "notes", "todo", "merges", "vocab")


class LogFile(NamedTuple):
    """A log and the runs in it."""

    name: str
    text: Text
    runs: list[RunLog]


@dataclass(frozen=True)
class RecordFolder:
    """The contents of a record folder."""

    path: Path
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of every file, by its path in the folder."""
    claims: Claims = field(default_factory=Claims)
    """The claims of submission.json, or of the file that looks like it."""
    logs: tuple[LogFile, ...] = ()
    """Files that hold a run."""
    script: str | None = None
    """Name of the training script: train_gpt.py, or the file that is in its place; None without one."""
    code: bytes | None = None
    """The bytes of the script."""
    source: Source = field(default_factory=Source)
    """The script, parsed."""
    texts: Mapping[str, bytes] = field(default_factory=dict)
    """The bytes of the Python files at the top, by their names."""
    local: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the other files of the folder that are code when the script runs, by their paths."""
    requirements: str = ""
    """The text of requirements.txt."""
    readme: str = ""
    """The text of README.md."""
    setup: str = ""
    """The text of the shell scripts, which may install packages."""
    causes: tuple[Cause, ...] = ()
    """What could not be read, and why."""

    @property
    def runs(self) -> tuple[RunLog, ...]:
        """Every run of every log."""
        return tuple(run for log in self.logs for run in log.runs)

    @property
    def code_bytes(self) -> int | None:
        """Bytes of the shipped code: the script, and the files of the folder that run with it."""
        return None if self.code is None else len(self.code) + sum(self.local.values())

    def total_of(self, run: RunLog) -> float | None:
        """Returns the total in a log, or what its model makes with its code."""
        if run.total_bytes is not None:
            return run.total_bytes.value
        code = run.packed_code_bytes or (run.code_bytes[-1] if run.code_bytes else self.code_bytes)
        return None if run.model_bytes is None or code is None else run.model_bytes.value + code

    def text_of(self, run: RunLog) -> str:
        """Returns the text of the log that holds a run."""
        return next(log.text.text for log in self.logs if log.name == run.file)


def read_folder(path: Path) -> RecordFolder:
    """Returns the folder's contents.

    Raises: NotADirectoryError when it is no folder.
    """
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a folder; give that of a record, with its submission.json")
    sizes, causes = _files(path)
    files = _Files(path, sizes, causes)
    logs = files.logs()
    texts = {name: files.bytes_of(name) for name in sizes if name.endswith(".py") and "/" not in name}
    claims_file = CLAIMS if CLAIMS in sizes else _looks_like_claims(files)
    script = _script(texts, [run for log in logs for run in log.runs])
    sources = {name.removesuffix(".py"): read_source(data) for name, data in list(texts.items())[:_MOST_SCRIPTS]}
    source = sources[script.removesuffix(".py")] if script else Source(error="it is not there")
    return RecordFolder(
        path=path,
        sizes=sizes,
        claims=read_claims(files.bytes_of(claims_file), claims_file) if claims_file else Claims(),
        logs=tuple(logs),
        script=script,
        code=texts[script] if script else None,
        source=source,
        texts=texts,
        local=_local(script, sources, sizes) if script else {},
        requirements=files.text_of(REQUIREMENTS),
        readme=files.text_of(README),
        setup="\n".join(files.text_of(name) for name in sizes if name.endswith((".sh", "Dockerfile"))),
        causes=tuple(causes),
    )


class _Files:
    """Files of a folder, read under a limit for all together; what cannot be read becomes a cause."""

    def __init__(self, path: Path, sizes: Mapping[str, int], causes: list[Cause]) -> None:
        self.path, self.sizes, self.causes, self.left = path, sizes, causes, LARGEST_TOGETHER

    def bytes_of(self, name: str) -> bytes:
        """Returns a file's bytes; empty where it is too large or cannot be read."""
        limit = min(LARGEST.get(PurePosixPath(name).suffix.lower(), 4 << 20), self.left)
        if self.sizes[name] > limit:
            self._report(name, f"has {self.sizes[name]:,} bytes, more than the {limit:,} that are read")
            return b""
        try:
            data = (self.path / name).read_bytes()[:limit]
        except OSError as error:
            self._report(name, f"cannot be read: {error.strerror}")
            return b""
        self.left -= len(data)
        return data

    def text_of(self, name: str) -> str:
        """Returns a file's text; empty where it is missing or cannot be read."""
        return decoded(self.bytes_of(name)).text if name in self.sizes else ""

    def logs(self) -> list[LogFile]:
        """Returns the files that hold runs; the ones at the top first."""
        logs = []
        for name in sorted(filter(_may_be_log, self.sizes), key=lambda name: (name.count("/"), name)):
            size = min(self.sizes[name], HEAD_BYTES + TAIL_BYTES)
            if size > self.left:
                what = f"has {self.sizes[name]:,} bytes and was not read: all together have more than"
                self._report(name, f"{what} {LARGEST_TOGETHER:,}")
                continue
            try:
                text = read_text(self.path / name)
            except DAMAGED as error:
                self._report(name, f"cannot be read: {getattr(error, 'strerror', None) or error}")
                continue
            self.left -= size
            if runs := read_log(name, text):
                logs.append(LogFile(name, text, runs))
        self.causes += _forms(logs)
        return logs

    def _report(self, name: str, what: str) -> None:
        cause = Cause(f"{name} {what}", "make it readable, or smaller")
        if cause not in self.causes:
            self.causes.append(cause)


def _forms(logs: Iterable[LogFile]) -> Iterator[Cause]:
    """Yields what keeps others from reading logs."""
    for name, text, _ in logs:
        if text.encoding != "utf-8":
            yield Cause(f"{name} is {text.encoding.upper()} text", "save it as UTF-8", REMARK)
        if text.skipped_bytes:
            what = f"{name} has {text.size:,} bytes; {text.skipped_bytes:,} in its middle were not read"
            yield Cause(what, "its head and its end were, which have settings and results", REMARK)
    compressed = [name for name, text, _ in logs if text.compressed]
    if compressed:
        what = f"{', '.join(compressed[:10])} {'is' if len(compressed) == 1 else 'are'} compressed"
        yield Cause(what, "ship the logs as text")


def _may_be_log(name: str) -> bool:
    last = PurePosixPath(name).name.lower()
    plain = last.removesuffix(".gz")
    named = plain.endswith(LOG_ENDINGS) or ("." not in plain and re.search(r"log|train|seed|stdout", plain) is not None)
    return named and not plain.startswith(_NO_LOG)


def _looks_like_claims(files: _Files) -> str | None:
    """Returns the name of the file that is in the place of submission.json; None without one."""
    names = [name for name in files.sizes if name.lower().endswith(".json") and name.count("/") <= 1]
    names.sort(key=lambda name: ("submission" not in name.lower(), name.count("/"), name))
    alike = (name for name in names[:20] if "submission" in name.lower() or b"val_bpb" in files.bytes_of(name))
    return next(alike, None)


def _script(texts: Mapping[str, bytes], runs: Sequence[RunLog]) -> str | None:
    """Returns the training script: train_gpt.py, else the one whose code or size logs have, else the one so named."""
    if CODE in texts:
        return CODE
    sources = {run.source.strip() for run in runs if run.source is not None}
    sizes = {size for run in runs for size in run.code_bytes}
    exact = [name for name, data in texts.items() if data.strip() in sources]
    sized = [name for name, data in texts.items() if len(data) in sizes]
    named = sorted(name for name in texts if re.match(r"train", name))
    return next(iter([*exact, *sized, *(named if len(named) == 1 else [])]), None)


def _local(script: str, sources: Mapping[str, Source], sizes: Mapping[str, int]) -> dict[str, int]:
    """Returns bytes of the files that run with `script`: modules it imports, code it executes, compiles or loads."""
    modules = reachable(script.removesuffix(".py"), sources)
    imported = {name for module in modules for name in (*sources[module].imports, *sources[module].optional)}
    named = {name for module in modules for name in sources[module].named}

    def runs(name: str) -> bool:
        is_module = name.endswith(".py") and name.removesuffix(".py").split("/")[0] in imported
        return is_module or (name.rsplit("/", 1)[-1] in named and name.endswith(CODE_ENDINGS))

    return {name: size for name, size in sizes.items() if name != script and runs(name)}


def _files(path: Path) -> tuple[dict[str, int], list[Cause]]:
    """Returns sizes of the regular files by their path in the folder, and what else is there."""
    sizes: dict[str, int] = {}
    causes: list[Cause] = []
    for entry, name in _entries(path, "", _DEEPEST):
        if len(sizes) + len(causes) >= _MOST_ENTRIES:
            causes.append(Cause(f"more than {_MOST_ENTRIES:,} files: the rest was not looked at", "ship fewer files"))
            break
        outside = entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(path.resolve())
        try:
            status = entry.stat()
        except OSError as error:
            causes.append(Cause(f"{name} cannot be read: {error.strerror}", "ship the file itself"))
            continue
        if outside:
            causes.append(Cause(f"{name} is a link that leads out of the folder", "ship the file itself"))
        elif stat.S_ISREG(status.st_mode):
            sizes[name] = status.st_size
        elif not stat.S_ISDIR(status.st_mode):
            causes.append(Cause(f"{name} is no regular file", "leave it out"))
    return sizes, causes


def _entries(path: Path, prefix: str, depth: int) -> Iterator["tuple[os.DirEntry[str], str]"]:
    """Yields entries by name with their paths in the folder, without hidden ones; linked folders are not entered."""
    try:
        with os.scandir(path) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith("."):
            yield entry, prefix + entry.name
            if depth > 1 and entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path), f"{prefix}{entry.name}/", depth - 1)
