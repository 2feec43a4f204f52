"""The FineWeb download against a real server on the loopback that cuts, damages and forgets."""

import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golf.cli.main import main
from golf.data.dataset import open_dataset
from golf.data.fineweb import DownloadError, download_fineweb
from golf.data.variants import VARIANTS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PREFIX = "/datasets/willdepueoai/parameter-golf/resolve/"
SHARDS = "datasets/datasets/fineweb10B_sp1024/"
TOKENIZER = "datasets/tokenizers/fineweb_1024_bpe.model"
VAL = "fineweb_val_000000.bin"
SMALL = replace(VARIANTS["sp1024"], validation_tokens=(5000, 5000))


class Hub(ThreadingHTTPServer):
    """Files by repository path, what goes wrong with the next answers, and what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.stated_hashes: bool | str = True
        self.together: threading.Barrier | None = None
        """Where it is set, answers of training shards wait until so many are asked for."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def downloads(self) -> list[str]:
        """Names of the files sent, once per answer."""
        return [path.rsplit("/", 1)[1] for path, _ in self.asked]


STATED: dict[object, Any] = {
    True: hashlib.sha256,
    False: hashlib.md5,
    "git": lambda content: hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content),
}
"""What a server states as a file's hash: of a large file, none that says anything, of a small file."""


class Handler(BaseHTTPRequestHandler):
    """Speaks the part of the hub's protocol that downloads need."""

    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        """State size, commit and hash."""
        self.answer(body=False)

    def do_GET(self) -> None:
        """Send the file or the range of it that was asked for."""
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        """One answer, spoiled where a fault is due."""
        revision, _, path = self.path.removeprefix(PREFIX).partition("/")
        if revision not in ("main", COMMIT) or path not in self.server.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content, asked = self.server.files[path], self.headers["Range"]
        digest = STATED[self.server.stated_hashes](content).hexdigest()
        faults = self.server.faults.get(path, [])
        fault = faults.pop(0) if body and faults else ""
        if body:
            self.server.asked.append((path, asked))
            if self.server.together is not None and "_train_" in path:
                self.server.together.wait(20)
        if fault == "flip":
            content = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
        if fault == "header":
            content = b"\0" * 4 + content[4:]
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if body:
            part = content[start:]
            self.wfile.write(part[: len(part) // 2] if fault == "cut" else part)
        if fault == "cut":
            self.close_connection = True


def shard(tokens: np.ndarray) -> bytes:
    """A shard's bytes, made without the project's code."""
    return struct.pack("<256i", 20240520, 1, tokens.size, *[0] * 253) + tokens.astype("<u2").tobytes()


@pytest.fixture
def hub(plain_tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A repository with one validation shard of 5,000 tokens and three training shards."""
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    server, chance = Hub(), np.random.default_rng(0)
    manifest = {
        "datasets": [
            {"name": "fineweb10B_byte260", "tokenizer_name": "bytes", "stats": {"files_train": 9, "files_val": 9}},
            {"name": "fineweb10B_sp1024", "tokenizer_name": "sp", "stats": {"files_train": 3, "files_val": 1}},
        ],
        "tokenizers": [{"name": "bytes"}, {"name": "sp", "model_path": "tokenizers/fineweb_1024_bpe.model"}],
    }
    server.files = {"datasets/manifest.json": json.dumps(manifest).encode(), TOKENIZER: plain_tokenizer.read_bytes()}
    server.files[SHARDS + VAL] = shard(chance.integers(0, 400, 5000))
    for number in range(3):
        server.files[f"{SHARDS}fineweb_train_{number:06d}.bin"] = shard(chance.integers(0, 400, 100_000))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_files_arrive_and_open(hub: Hub, tmp_path: Path) -> None:
    """Catches files under wrong names, parts left behind, and a manifest that does not describe the files."""
    lines: list[str] = []
    manifest = download_fineweb(tmp_path, 2, SMALL, hub.endpoint, lines.append)
    names = {"fineweb_1024_bpe.model", VAL, "fineweb_train_000000.bin", "fineweb_train_000001.bin"}
    assert {path.name for path in tmp_path.iterdir()} == names | {"dataset.json"}
    for path, content in hub.files.items():
        if path.rsplit("/", 1)[1] in names:
            assert (tmp_path / path.rsplit("/", 1)[1]).read_bytes() == content
    assert {name: value["sha256"] for name, value in manifest["files"].items()} == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in names
    }
    dataset = open_dataset(tmp_path, 400)
    assert dataset.train is not None
    assert dataset.train.num_tokens == 200_000
    assert any("100,000 tokens" in line for line in lines)


def test_second_run_downloads_only_what_is_new(hub: Hub, tmp_path: Path) -> None:
    """Catches 16 GB downloaded again because one shard more was asked for, or none."""
    download_fineweb(tmp_path, 1, SMALL, hub.endpoint, str)
    hub.asked.clear()
    download_fineweb(tmp_path, 1, SMALL, hub.endpoint, str)
    assert hub.downloads() == []
    (tmp_path / "dataset.json").unlink()
    manifest = download_fineweb(tmp_path, 2, SMALL, hub.endpoint, str)
    assert hub.downloads() == ["manifest.json", "fineweb_train_000001.bin"]
    assert len(manifest["files"]) == 4
    with pytest.raises(ValueError, match="already holds 2 training shards"):
        download_fineweb(tmp_path, 1, SMALL, hub.endpoint, str)


def test_a_cut_transfer_is_resumed(hub: Hub, tmp_path: Path) -> None:
    """Catches a transfer begun anew, or its half taken for the whole, when the server hangs up."""
    name = "fineweb_train_000000.bin"
    # The library keeps what arrived in blocks of 10 MB.
    hub.files[SHARDS + name] = shard(np.arange(11_000_000) % 400)
    hub.faults[SHARDS + name] = ["cut"]
    download_fineweb(tmp_path, 1, SMALL, hub.endpoint, str)
    ranges = [asked for path, asked in hub.asked if path.endswith(name)]
    assert ranges == [None, "bytes=10485760-"]
    assert (tmp_path / name).read_bytes() == hub.files[SHARDS + name]


@pytest.mark.parametrize(
    ("fault", "stated_hashes"), [("flip", True), ("flip", "git"), ("header", True), ("header", False)]
)
def test_a_damaged_file_is_downloaded_once_more(
    hub: Hub, tmp_path: Path, fault: str, stated_hashes: bool | str
) -> None:
    """Catches flipped bits or a foreign header kept under a shard's name, with and without the server's hash."""
    name, lines = "fineweb_train_000000.bin", list[str]()
    hub.stated_hashes = stated_hashes
    hub.faults[SHARDS + name] = [fault]
    download_fineweb(tmp_path, 1, SMALL, hub.endpoint, lines.append)
    assert (tmp_path / name).read_bytes() == hub.files[SHARDS + name]
    assert hub.downloads().count(name) == 2
    assert any("damaged" in line for line in lines)


def test_a_file_damaged_twice_is_an_error(hub: Hub, tmp_path: Path) -> None:
    """Catches an endless loop over a broken mirror, and a folder that opens although a shard is missing."""
    hub.faults[f"{SHARDS}fineweb_train_000001.bin"] = ["flip", "flip"]
    with pytest.raises(DownloadError, match=r"fineweb_train_000001\.bin arrived damaged twice"):
        download_fineweb(tmp_path, 2, SMALL, hub.endpoint, str)
    assert list(tmp_path.rglob("fineweb_train_000001.bin")) == []
    with pytest.raises(ValueError, match="half written"):
        open_dataset(tmp_path)
    download_fineweb(tmp_path, 2, SMALL, hub.endpoint, str)
    open_dataset(tmp_path)


def test_another_validation_split_is_refused(hub: Hub, tmp_path: Path) -> None:
    """Catches scores on a split that is not the published one, and training shards downloaded in spite of it."""
    with pytest.raises(DownloadError, match=r"hold 5,000 tokens, the published split has 62,021,846"):
        download_fineweb(tmp_path, 1, endpoint=hub.endpoint, log=str)
    assert "fineweb_train_000000.bin" not in hub.downloads()


def test_ids_of_another_tokenizer_are_refused(hub: Hub, tmp_path: Path) -> None:
    """Catches shards of a larger vocabulary beside this tokenizer."""
    hub.files[SHARDS + VAL] = shard(np.array([1, 400, 2]))
    with pytest.raises(DownloadError, match="token id 400"):
        download_fineweb(tmp_path, 0, replace(SMALL, validation_tokens=(3, 3)), hub.endpoint, str)


def test_a_spoiled_file_in_the_folder_is_replaced(hub: Hub, tmp_path: Path) -> None:
    """Catches an old file of the right size but other content taken for good."""
    spoiled = bytearray(hub.files[SHARDS + VAL])
    spoiled[-1] ^= 1
    (tmp_path / VAL).write_bytes(spoiled)
    download_fineweb(tmp_path, 0, SMALL, hub.endpoint, str)
    assert (tmp_path / VAL).read_bytes() == hub.files[SHARDS + VAL]
    assert open_dataset(tmp_path).train is None


def test_tokenizer_at_its_other_place(hub: Hub, tmp_path: Path) -> None:
    """Catches a manifest whose tokenizer path counts from the repository's root."""
    hub.files["tokenizers/fineweb_1024_bpe.model"] = hub.files.pop(TOKENIZER)
    assert "fineweb_1024_bpe.model" in download_fineweb(tmp_path, 0, SMALL, hub.endpoint, str)["files"]


@pytest.mark.parametrize("missing", ["datasets/manifest.json", TOKENIZER, SHARDS + VAL])
def test_a_missing_file_is_named(hub: Hub, tmp_path: Path, missing: str) -> None:
    """Catches a library's own traceback where the repository's layout has changed."""
    del hub.files[missing]
    with pytest.raises(DownloadError, match=missing):
        download_fineweb(tmp_path, 0, SMALL, hub.endpoint, str)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("tokenizers", "model_path", "../../../home/tokenizer.model"),
        ("tokenizers", "model_path", "/etc/tokenizer.model"),
        ("datasets", "stats", {"files_train": 3, "files_val": 10**12}),
        ("datasets", "stats", {"files_train": float("inf"), "files_val": 1}),
        ("datasets", "stats", {"files_train": 3, "files_val": -1}),
    ],
)
def test_a_hostile_manifest(hub: Hub, tmp_path: Path, part: str, field: str, value: object) -> None:
    """Catches a repository that names files outside of it, or more of them than memory has room for."""
    manifest = json.loads(hub.files["datasets/manifest.json"])
    manifest[part][1][field] = value
    hub.files["datasets/manifest.json"] = json.dumps(manifest).encode()
    with pytest.raises(DownloadError, match="does not describe"):
        download_fineweb(tmp_path / "data", 1, SMALL, hub.endpoint, str)


def test_more_shards_than_there_are(hub: Hub, tmp_path: Path) -> None:
    """Catches a wrong number noticed only after hours of downloading."""
    with pytest.raises(ValueError, match="has 3 training shards, 4 were asked for"):
        download_fineweb(tmp_path, 4, SMALL, hub.endpoint, str)


def test_without_a_server(hub: Hub, tmp_path: Path) -> None:
    """Catches a bare socket error, and a complete folder that needs the network to be used."""
    download_fineweb(tmp_path / "whole", 0, SMALL, hub.endpoint, str)
    nowhere = "http://127.0.0.1:9"
    download_fineweb(tmp_path / "whole", 0, SMALL, nowhere, str)
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9.*run the same command again"):
        download_fineweb(tmp_path / "new", 0, SMALL, nowhere, str)


def test_another_dataset_is_left_alone(hub: Hub, tmp_path: Path) -> None:
    """Catches FineWeb shards mixed into a folder that another tokenizer made."""
    (tmp_path / "cpython-docs_val_000000.bin").write_bytes(hub.files[SHARDS + VAL])
    with pytest.raises(ValueError, match="already holds cpython-docs_val"):
        download_fineweb(tmp_path, 0, SMALL, hub.endpoint, str)


def test_another_vocabulary_comes_from_its_repository(hub: Hub, tmp_path: Path) -> None:
    """Fault: shards of one vocabulary under the name of another, or files of two repositories in one folder."""
    other = replace(VARIANTS["sp8192"], repository="willdepueoai/parameter-golf", validation_tokens=(4001, 4000 + 2048))
    for path in [path for path in hub.files if "1024" in path]:
        hub.files[path.replace("1024", "8192")] = hub.files.pop(path)
    manifest = download_fineweb(tmp_path, 2, other, hub.endpoint, str)  # the hub's manifest does not list it
    assert manifest["name"] == "fineweb10B_sp8192"
    assert set(manifest["files"]) == {"fineweb_8192_bpe.model", VAL, *(f"fineweb_train_{n:06d}.bin" for n in range(2))}
    with pytest.raises(ValueError, match=r"already holds fineweb10B_sp8192; download fineweb10B_sp1024 into a new"):
        download_fineweb(tmp_path, 2, SMALL, hub.endpoint, str)
    with pytest.raises(ValueError, match=r"holds files of willdepueoai/parameter-golf; download those of kevclark"):
        download_fineweb(tmp_path, 2, VARIANTS["sp8192"], hub.endpoint, str)
    with pytest.raises(DownloadError, match=r"fineweb_train_000003\.bin"):
        download_fineweb(tmp_path, 4, other, hub.endpoint, str)


@pytest.mark.parametrize("tokens", [4000, 4000 + 2049])
def test_a_split_of_another_length_than_the_logs_tell(hub: Hub, tmp_path: Path, tokens: int) -> None:
    """Fault: a part of the validation split, or another text, under a vocabulary whose exact number is unpublished."""
    hub.files[SHARDS + VAL] = shard(np.ones(tokens, np.uint16))
    with pytest.raises(DownloadError, match=f"hold {tokens:,} tokens, the published split has from 4,001 to 6,048"):
        download_fineweb(tmp_path, 0, replace(SMALL, validation_tokens=(4001, 4000 + 2048)), hub.endpoint, str)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variant", "sp2048"], "sp4096"),
        (["--repository", "no-owner"], "OWNER/NAME"),
        (["--repository", "a/../b"], "OWNER/NAME"),
    ],
)
def test_wrong_options(capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    """Fault: a download begins that cannot succeed."""
    with pytest.raises(SystemExit):
        main(["data", "fineweb", *options])
    assert message in capsys.readouterr().err


def test_training_shards_come_together(hub: Hub, tmp_path: Path) -> None:
    """Fault: one shard after the other, a manifest in the order of arrival, an error of one that loses the others."""
    hub.together = threading.Barrier(3)
    hub.faults[f"{SHARDS}fineweb_train_000001.bin"] = ["flip", "flip"]
    with pytest.raises(DownloadError, match=r"fineweb_train_000001\.bin arrived damaged twice"):
        # The second attempt at the damaged one waits for nobody.
        download_fineweb(tmp_path, 3, SMALL, hub.endpoint, log=lambda line: _open(hub, line), jobs=3)
    assert len(list(tmp_path.glob("fineweb_train_*.bin"))) == 2
    hub.asked.clear()
    manifest = download_fineweb(tmp_path, 3, SMALL, hub.endpoint, log=lambda line: None, jobs=3)
    assert hub.downloads() == ["manifest.json", "fineweb_train_000001.bin"]
    names = [name for name in manifest["files"] if "_train_" in name]
    assert names == [f"fineweb_train_{number:06d}.bin" for number in range(3)]


def _open(hub: Hub, line: str) -> None:
    """Lets answers go without waiting once all three were asked for together."""
    if "_train_" in line:
        hub.together = None
