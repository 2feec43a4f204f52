"""What lies in a record folder: its claims, logs and code, read under limits and nothing else.

A path enters, a `RecordFolder` leaves. Files are read as bytes up to a size; links that lead out of the folder, pipes
and devices are not followed, and said so. Several logs of one seed are joined: what the fullest does not tell, the
others may. Nothing is imported, unpickled or executed.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from golf.check.record.claims import Claims, read_claims
from golf.check.record.logs import RunLog, read_log
from golf.check.record.sources import Source, reachable, read_source

README, CLAIMS, CODE, REQUIREMENTS = "README.md", "submission.json", "train_gpt.py", "requirements.txt"
LARGEST = {".json": 4 << 20, ".py": 1 << 20, ".log": 4 << 20, ".txt": 4 << 20, ".out": 4 << 20, ".md": 4 << 20}
"""Bytes of a file that is read, by its ending."""
LOG_ENDINGS = (".log", ".txt", ".out")
LARGEST_TOGETHER = 16 << 20
_MOST_ENTRIES, _DEEPEST = 5000, 3


@dataclass(frozen=True)
class RecordFolder:
    """The contents of a record folder."""

    path: Path
    sizes: Mapping[str, int]
    """Bytes of every file, by its path in the folder."""
    claims: Claims
    runs: tuple[RunLog, ...]
    """A log for each seed, joined where several tell of it; those without a seed by themselves."""
    logs: tuple[RunLog, ...]
    """Every log, as it stands."""
    source: Source
    code: bytes | None
    """Of train_gpt.py."""
    local: Mapping[str, int]
    """Bytes of the other modules in the folder that train_gpt.py imports, by their paths."""
    requirements: str
    problems: tuple[str, ...]
    """What could not be read, and why."""

    @property
    def code_bytes(self) -> int | None:
        """Shipped code: train_gpt.py, and the modules of the folder that it imports."""
        size = self.sizes.get(CODE)
        return None if size is None else size + sum(self.local.values())


def read_folder(path: Path) -> RecordFolder:
    """The folder's contents.

    Raises: NotADirectoryError when it is no folder.
    """
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a folder; give that of a record, with its submission.json")
    sizes, problems = _files(path)
    texts = _texts(path, sizes, problems)
    logs = [read_log(name, texts[name]) for name in texts if name.lower().endswith(LOG_ENDINGS) and _may_be_log(name)]
    logs = [log for log in logs if log.is_run]
    sources = {Path(name).stem: read_source(texts[name]) for name in texts if name.endswith(".py") and "/" not in name}
    main = Path(CODE).stem
    return RecordFolder(
        path,
        sizes,
        read_claims(texts[CLAIMS]) if CLAIMS in texts else Claims(),
        joined(logs),
        tuple(logs),
        sources.get(main, Source(error="it is not there")),
        texts.get(CODE),
        _local(main, sources, sizes),
        texts.get(REQUIREMENTS, b"").decode("utf-8", "replace"),
        tuple(problems),
    )


def _local(main: str, sources: Mapping[str, Source], sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes of the modules and packages of the folder that `main` imports, directly or by others."""
    modules = reachable(main, sources) if main in sources else []
    imported = {name for module in modules for name in (*sources[module].imports, *sources[module].optional)}
    return {
        name: size
        for name, size in sizes.items()
        if name.endswith(".py") and name != CODE and name.removesuffix(".py").split("/")[0] in imported
    }


def joined(logs: Sequence[RunLog]) -> tuple[RunLog, ...]:
    """One log for each seed, in the order of the seeds; then those that tell none."""
    by_seed: dict[int, list[RunLog]] = {}
    for log in logs:
        seed = log.seed if log.seed is not None else log.seed_of_name
        if seed is not None:
            by_seed.setdefault(seed, []).append(replace(log, seed=seed))
    alone = [log for log in logs if log.seed is None and log.seed_of_name is None]
    return (*(_joined(by_seed[seed]) for seed in sorted(by_seed)), *alone)


def _joined(logs: Sequence[RunLog]) -> RunLog:
    """The fullest log, with what it does not tell from the others."""
    names = [field.name for field in fields(RunLog)]
    whole, *others = sorted(logs, key=lambda log: (-sum(bool(getattr(log, name)) for name in names), log.name))
    for other in others:
        missing = {name: getattr(other, name) for name in names if not getattr(whole, name)}
        scores = tuple(score for score in other.scores if whole.score(score.name) is None)
        whole = replace(whole, **missing | {"scores": whole.scores + scores})
    return whole


def _may_be_log(name: str) -> bool:
    return not Path(name).name.lower().startswith(("requirements", "readme", "license"))


def _files(path: Path) -> tuple[dict[str, int], list[str]]:
    """Sizes of the regular files by their path in the folder, and what else lies there."""
    sizes: dict[str, int] = {}
    problems: list[str] = []
    for entry, name in _entries(path, "", _DEEPEST):
        if len(sizes) + len(problems) >= _MOST_ENTRIES:
            problems.append(f"more than {_MOST_ENTRIES:,} files: the rest was not looked at")
            break
        outside = entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(path.resolve())
        try:
            found = entry.stat()
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror}")
            continue
        if outside:
            problems.append(f"{name} is a link that leads out of the folder")
        elif stat.S_ISREG(found.st_mode):
            sizes[name] = found.st_size
        elif not stat.S_ISDIR(found.st_mode):
            problems.append(f"{name} is no regular file")
    return sizes, problems


def _entries(path: Path, prefix: str, depth: int) -> Iterator["tuple[os.DirEntry[str], str]"]:
    """Entries by name with their paths in the folder, hidden ones left out; linked folders are not entered."""
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


def _texts(path: Path, sizes: Mapping[str, int], problems: list[str]) -> dict[str, bytes]:
    """The bytes of the files that may tell something; a reason is added to `problems` where one should and cannot."""
    found: dict[str, bytes] = {}
    left = LARGEST_TOGETHER
    for name in sorted(sizes, key=lambda name: (name.count("/"), name)):
        limit = LARGEST.get(Path(name).suffix.lower())
        top = name in (CLAIMS, CODE, README, REQUIREMENTS) or (name.endswith(".py") and "/" not in name)
        if limit is None or not (top or name.lower().endswith(LOG_ENDINGS)):
            continue
        if sizes[name] > min(limit, left):
            problems.append(f"{name} has {sizes[name]:,} bytes, more than the {min(limit, left):,} that are read")
            continue
        try:
            with (path / name).open("rb") as file:
                found[name] = file.read(limit)
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror}")
            continue
        left -= len(found[name])
    return found
