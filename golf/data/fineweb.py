"""The competition's FineWeb shards and a tokenizer, downloaded from their public repository and checked.

huggingface_hub downloads and resumes. It compares only sizes, so each file's hash and content are checked here before
the file gets its name, and a whole file is never downloaded twice. The validation split must hold the published number
of tokens. All files come from one revision; `dataset.json` says that the folder is complete only when it is.
"""

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from golf.data.dataset import DATASET_MANIFEST, Manifest, hash_file, read_manifest
from golf.data.shards import check_ids, read_shard
from golf.data.token_bytes import ByteTable
from golf.data.variants import VARIANTS, Variant
from golf.runtime.files import read_json, write_json

try:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, HTTPError  # type: ignore[attr-defined]
except ModuleNotFoundError:
    huggingface_hub = None  # type: ignore[assignment]

_MOST_VALIDATION_SHARDS = 1000
"""More are no split of this size."""
_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
"""A Git hash or a SHA-256."""
_ROOT = "datasets"
_PARTS = ".download"


Files = dict[str, dict[str, int | str]]
"""Size and SHA-256 by file name, as in a manifest."""


class DownloadError(OSError):
    """A file could not be downloaded, or is not what it must be."""


@dataclass(frozen=True)
class Remote:
    """Server and revision of the files."""

    endpoint: str | None
    """Address of the server; None: the library's own."""
    revision: str
    """Commit that all files are taken from."""
    variant: Variant
    """What is downloaded, from which repository."""


def download_fineweb(
    folder: Path,
    train_shards: int = 80,
    variant: Variant = VARIANTS["sp1024"],
    endpoint: str | None = None,
    log: Callable[[str], object] = print,
    jobs: int = 4,
) -> Manifest:
    """Makes `folder` the competition's dataset with its first `train_shards` training shards (0: evaluation only).

    Args: variant: tokenisation and repository; endpoint: another server that speaks the same protocol; log: receives
        lines of progress; jobs: training shards that are downloaded at a time.
    Returns: the folder's manifest.
    Raises: ModuleNotFoundError without huggingface_hub; ValueError on a folder that holds something else or a wrong
        number of shards; DownloadError naming the file and the remedy. Whole files stay.
    """
    if huggingface_hub is None:
        raise ModuleNotFoundError("downloading FineWeb needs huggingface_hub: pip install huggingface_hub")
    manifest = _claim_folder(folder, train_shards, variant)
    if manifest["complete"] and _same_files(folder, manifest, train_shards):
        log(f"{folder} already holds {train_shards} training shards and the validation split; nothing to do")
        return manifest
    remote = Remote(endpoint, "main", variant)
    with _clear_errors(f"{_ROOT}/manifest.json", remote):
        revision = manifest["revision"] or _metadata(f"{_ROOT}/manifest.json", remote).commit_hash
    remote = replace(remote, revision=str(revision))
    tokenizers, validation, train = _wanted(folder, remote, train_shards)
    manifest |= {"complete": False, "revision": revision, "files": {}}
    write_json(folder / DATASET_MANIFEST, manifest)
    files, vocab_size = _fetch_tokenizer(folder, remote, tokenizers, log)
    for path in validation:
        files |= _fetch(folder, remote, path, vocab_size, log)
    _check_validation(folder, variant)
    labels = [f"[{number}/{len(train)}] " for number in range(1, len(train) + 1)]
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            for fetched in pool.map(lambda p, label: _fetch(folder, remote, p, vocab_size, log, label), train, labels):
                files |= fetched
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what is under way ends, and is kept
            raise
    manifest |= {"complete": True, "files": files}
    shutil.rmtree(folder / _PARTS, ignore_errors=True)
    write_json(folder / DATASET_MANIFEST, manifest)
    return manifest


def _claim_folder(folder: Path, train_shards: int, variant: Variant) -> Manifest:
    """Returns the folder's manifest or a new one; ValueError on another dataset's folder or one with more shards."""
    if train_shards < 0:
        raise ValueError(f"train_shards must be at least 0, got {train_shards}")
    old = read_manifest(folder)
    foreign = [path.name for path in sorted(folder.glob("*.bin")) if not path.name.startswith("fineweb_")]
    if old.get("name", variant.name) != variant.name or foreign:
        raise ValueError(
            f"{folder} already holds {old.get('name') or foreign[0]}; download {variant.name} into a new folder"
        )
    if old.get("source", variant.repository) != variant.repository:
        raise ValueError(
            f"{folder} holds files of {old['source']}; download those of {variant.repository} into a new folder"
        )
    present = len(list(folder.glob("fineweb_train_*.bin")))
    if present > train_shards:
        raise ValueError(f"{folder} already holds {present} training shards; ask for at least so many, or a new folder")
    return old or {
        "name": variant.name,
        "source": variant.repository,
        "revision": None,
        "complete": False,
        "files": {},
    }


def _same_files(folder: Path, manifest: Manifest, train_shards: int) -> bool:
    """Returns whether the manifest lists so many training shards and each of its files is there with its size."""
    files = manifest["files"]
    paths = {name: folder / name for name in files}
    in_place = all(path.is_file() and path.stat().st_size == files[name]["bytes"] for name, path in paths.items())
    return in_place and sum("_train_" in name for name in files) == train_shards


def _wanted(folder: Path, remote: Remote, train_shards: int) -> tuple[list[str], list[str], list[str]]:
    """Returns paths in the repository: where the tokenizer may be, the validation shards, the training shards."""
    path, name = f"{_ROOT}/manifest.json", remote.variant.name
    published = read_json(_download(folder, remote, path, force=True))
    try:
        entry = next((item for item in published["datasets"] if item["name"] == name), None)
        model, limit, validation = remote.variant.tokenizer, train_shards, 1
        if entry is not None:
            tokenizer = next(item for item in published["tokenizers"] if item["name"] == entry["tokenizer_name"])
            model = str(tokenizer.get("model_path") or tokenizer["path"])
            limit, validation = int(entry["stats"]["files_train"]), int(entry["stats"]["files_val"])
        if {"", ".", ".."} & set(model.split("/")) or not 0 < validation <= _MOST_VALIDATION_SHARDS:
            raise ValueError(f"tokenizer {model[:80]!r} or {validation} validation shards")
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError, StopIteration) as error:
        raise DownloadError(f"{path} of {remote.variant.repository} does not describe {name} ({error!r})") from error
    if train_shards > limit:
        raise ValueError(f"{name} has {limit} training shards, {train_shards} were asked for")
    front = f"{_ROOT}/datasets/{name}/fineweb"
    train = [f"{front}_train_{number:06d}.bin" for number in range(train_shards)]
    return [f"{_ROOT}/{model}", model], [f"{front}_val_{number:06d}.bin" for number in range(validation)], train


def _fetch_tokenizer(folder: Path, remote: Remote, paths: list[str], log: Callable[[str], object]) -> tuple[Files, int]:
    """Fetches the tokenizer from the first path that the repository has.

    Returns: its entry of the manifest and its number of pieces.
    """
    for path in paths:
        try:
            files = _fetch(folder, remote, path, None, log)
        except DownloadError as error:
            if not isinstance(error.__cause__, EntryNotFoundError):
                raise
            continue
        return files, ByteTable.of_tokenizer(folder / Path(path).name).base.size
    raise DownloadError(f"{remote.variant.repository} has neither {' nor '.join(paths)}; its layout has changed")


def _fetch(
    folder: Path, remote: Remote, path: str, vocab_size: int | None, log: Callable[[str], object], label: str = ""
) -> Files:
    """Downloads one file into `folder` and checks it; a damaged one is downloaded once more.

    Args: vocab_size: ids of a shard are below it; None: the file is the tokenizer.
    Returns: its entry of the manifest.
    Raises: DownloadError.
    """
    target = folder / Path(path).name
    with _clear_errors(path, remote):
        metadata = _metadata(path, remote)
    if target.exists() and _fault(target, metadata, vocab_size) is None:
        log(f"{label}{target.name}: already here, {target.stat().st_size:,} bytes")
        return _describe_file(target)
    for attempt in (1, 2):
        started = time.monotonic()
        part = _download(folder, remote, path, force=attempt == 2)
        seconds = time.monotonic() - started
        fault = _fault(part, metadata, vocab_size)
        if fault is None:
            os.replace(part, target)
            size = target.stat().st_size
            tokens = "" if vocab_size is None else f", {read_shard(target).size:,} tokens"
            known = (
                ""
                if _HASH.fullmatch(metadata.etag or "")
                else "; the server states no hash, its content alone is right"
            )
            log(f"{label}{target.name}: {size:,} bytes{tokens}, {size / seconds / 1e6:.1f} MB/s{known}")
            return _describe_file(target)
        part.unlink()
        log(f"{label}{target.name} is damaged: {fault}{'; downloading it again' if attempt == 1 else ''}")
    raise DownloadError(f"{path} arrived damaged twice: {fault}; try again later, or from another network")


def _describe_file(path: Path) -> Files:
    """Returns name, size and SHA-256 for the manifest."""
    return {path.name: {"bytes": path.stat().st_size, "sha256": hash_file(path)}}


def _fault(path: Path, metadata: Any, vocab_size: int | None) -> str | None:
    """Returns what is wrong with a file: its size, its hash where the server states one, or its content."""
    size = path.stat().st_size
    if metadata.size is not None and size != metadata.size:
        return f"it has {size} bytes, the server states {metadata.size}"
    stated = metadata.etag or ""
    if re.fullmatch(r"[0-9a-f]{64}", stated) and hash_file(path) != stated:
        return "its SHA-256 is not the one that the server states"
    if re.fullmatch(r"[0-9a-f]{40}", stated) and _git_hash(path) != stated:
        return "its Git hash is not the one that the server states"
    try:
        if vocab_size is None:
            ByteTable.of_tokenizer(path)
        else:
            check_ids(path, read_shard(path), vocab_size)
    except ValueError as error:
        return str(error)
    return None


def _git_hash(path: Path) -> str:
    """Returns the file's hash in Git, which the Hub states for files that are too small for its large-file storage."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()


def _check_validation(folder: Path, variant: Variant) -> None:
    """Raises DownloadError unless the validation shards hold the published number of tokens."""
    num_tokens = sum(read_shard(path).size for path in folder.glob("fineweb_val_*.bin"))
    fewest, most = variant.validation_tokens
    if not fewest <= num_tokens <= most:
        published = f"{fewest:,}" if fewest == most else f"from {fewest:,} to {most:,}"
        raise DownloadError(
            f"the validation shards in {folder} hold {num_tokens:,} tokens, the published split has "
            f"{published}: scores on them could not be compared; delete fineweb_val_*.bin there and download "
            "again"
        )


def _metadata(path: str, remote: Remote) -> Any:
    """Returns commit, size and hash of a file, as the server states them."""
    url = huggingface_hub.hf_hub_url(
        remote.variant.repository, path, repo_type="dataset", revision=remote.revision, endpoint=remote.endpoint
    )
    return huggingface_hub.get_hf_file_metadata(url, endpoint=remote.endpoint)


def _download(folder: Path, remote: Remote, path: str, force: bool) -> Path:
    """Downloads a file of the repository and returns its path, in a folder of its own below the dataset's."""
    with _clear_errors(path, remote):
        return Path(
            huggingface_hub.hf_hub_download(
                remote.variant.repository,
                path,
                repo_type="dataset",
                revision=remote.revision,
                local_dir=folder / _PARTS,
                force_download=force,
                endpoint=remote.endpoint,
            )
        )


@contextlib.contextmanager
def _clear_errors(path: str, remote: Remote) -> Iterator[None]:
    """Turns network errors into DownloadError with the remedy."""
    try:
        yield
    except (HTTPError, ConnectionError, FileNotFoundError) as error:
        server = remote.endpoint or "the Hugging Face Hub"
        raise DownloadError(
            f"cannot download {path} of {remote.variant.repository} from {server}: {error}; check the network and run "
            "the same command again, it keeps what is complete"
        ) from error
