"""What a trial's directory is made of, and by what it is told from another one."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tune.workloads.script import files as files_module
from tune.workloads.script.files import data_manifest, find_files, keep_copy, place

ROOT = Path(__file__).resolve().parents[4]


def write(folder: Path, *names: str) -> None:
    """Writes files that hold their names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a script."""
    made = tmp_path / "work"
    write(made, "train.py")
    return made


def test_what_is_copied_linked_and_left_out(folder: Path) -> None:
    """Fault: data is copied for every trial, code is not; a run finds the weights or the log of another one."""
    copied = ["train.py", "model.py", "tokens.json", "pkg/a.py", "pkg/deep/b.py", "pkg/table.csv", "data/prepare.py"]
    write(folder, *copied, "shards/train.bin", "data/tokens/val.bin", "models/x/y/vocab.txt")
    write(folder, "final.pt", "final.int6.ptz", "run.log", "pkg/old.pt", "logs/a.txt", "wandb/x.py", ".git/config.py")
    write(folder, "__pycache__/a.py", "pkg/__pycache__/a.py", "venv/pyvenv.cfg", "venv/lib/x.py", ".hidden")
    (folder / "empty").mkdir()
    found = find_files(folder / "train.py")
    assert found.files == {name: hashlib.sha256(name.encode()).hexdigest() for name in copied}
    linked = ("shards", "data/tokens", "models", "empty")
    assert found.links == {name: str(folder / name) for name in linked}
    assert found.modules == ("data", "model", "pkg", "train")
    place(found, folder.parent / "trial")
    for name in (*copied, "shards/train.bin", "data/tokens/val.bin", "models/x/y/vocab.txt"):
        assert (folder.parent / "trial" / name).read_text() == name
    assert not (folder.parent / "trial" / "final.pt").exists()
    assert not (folder.parent / "trial" / "data").is_symlink()


def test_a_large_file_is_linked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a large file beside the script is missing in the trial, or copied for every one."""
    monkeypatch.setattr(files_module, "_LARGEST_FILE", 10)
    write(folder, "pkg/a.py", "pkg/long_name.bin", "long_name.bin")
    found = find_files(folder / "train.py")
    assert sorted(found.links) == ["long_name.bin", "pkg/long_name.bin"]
    place(found, folder.parent / "trial")
    assert (folder.parent / "trial/pkg/long_name.bin").read_text() == "pkg/long_name.bin"


def test_links_in_the_folder(folder: Path) -> None:
    """Fault: a link without end, to nowhere, or to a folder above is walked for ever, or ends the command."""
    write(folder.parent, "lib/code.py", "lib/sub/more.py", "tokens/a.bin", "one/x.py", "two/y.py", "beside/z.py")
    write(folder, "pkg/a.py")
    for name, target in (
        *(("nowhere", "gone"), ("up", ".."), ("self", "."), ("root", "/"), ("pkg/loop", ".."), ("pkg/own", ".")),
        *(("lib", "../lib"), ("data", "../tokens"), ("named.py", "../lib/code.py"), ("dead.py", "gone.py")),
        *(("one", "../one"), ("../one/two", "../two"), ("../two/one", "../one"), ("../lib/self", "../lib")),
    ):
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pkg" / "pipe.py")
    began = time.monotonic()
    found = find_files(folder / "train.py")
    assert time.monotonic() - began < 5
    copied = ["lib/code.py", "lib/sub/more.py", "named.py", "one/two/y.py", "one/x.py", "pkg/a.py", "train.py"]
    assert list(found.files) == copied
    assert found.links == {"data": str(folder.parent / "tokens")}
    place(found, folder.parent / "trial")
    assert not (folder.parent / "trial" / "lib").is_symlink()


def test_a_script_that_is_a_link(folder: Path) -> None:
    """Fault: a script behind a link is not found, or runs without what is beside it."""
    write(folder, "beside.py")
    link = folder.parent / "link.py"
    link.symlink_to(folder / "train.py")
    found = find_files(link)
    assert (found.script, sorted(found.files)) == ("train.py", ["beside.py", "train.py"])
    with pytest.raises(ValueError, match="no script"):
        find_files(folder)


def test_too_much_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: every trial copies gigabytes, or the refusal does not say which folder is too large."""
    write(folder, "small/a.py", *(f"large/{number}.py" for number in range(30)))
    monkeypatch.setattr(files_module, "_MOST_FILES", 20)
    with pytest.raises(ValueError, match=r"most of them in large; move the script"):
        find_files(folder / "train.py")
    monkeypatch.undo()
    (folder / "small" / "big.txt").write_bytes(b"x" * 5000)
    monkeypatch.setattr(files_module, "_MOST_BYTES", 4000)
    with pytest.raises(ValueError, match="most of them in small"):
        find_files(folder / "train.py")


def test_a_name_that_is_no_text_is_refused(folder: Path) -> None:
    """Fault: a name in another encoding ends the sweep where its settings are saved."""
    (folder / os.fsdecode(b"caf\xe9.txt")).touch()
    with pytest.raises(ValueError, match="no UTF-8; rename it"):
        find_files(folder / "train.py")


@pytest.mark.skipif(os.geteuid() == 0, reason="everything can be read")
def test_an_unreadable_file_is_named(folder: Path) -> None:
    """Fault: a file that cannot be read is left out of the trials."""
    write(folder, "secret.py")
    (folder / "secret.py").chmod(0)
    with pytest.raises(PermissionError, match=r"secret\.py"):
        find_files(folder / "train.py")


def test_the_digest_tells_every_change(folder: Path) -> None:
    """Fault: results of another script, or with another file beside it, pass for this one's."""
    write(folder, "pkg/a.py", "data/x.bin")
    seen = {find_files(folder / "train.py").digest}
    assert find_files(folder / "train.py").digest in seen
    for name in ("train.py", "pkg/a.py"):
        (folder / name).write_text("changed")
        seen.add(find_files(folder / "train.py").digest)
    (folder / "pkg/a.py").rename(folder / "pkg/b.py")
    seen.add(find_files(folder / "train.py").digest)
    write(folder, "new.txt")
    seen.add(find_files(folder / "train.py").digest)
    assert len(seen) == 5
    write(folder, "logs/x.txt", "final.pt", "data/y.bin")
    os.utime(folder / "train.py", (0, 0))
    assert find_files(folder / "train.py").digest in seen, "what runs write is no other script"


def test_a_copy_is_kept_once(folder: Path) -> None:
    """Fault: trials run a script that was edited after the sweep began, or a copy that somebody changed."""
    write(folder, "pkg/a.py")
    (folder / "train.py").chmod(0o444)
    found, kept = find_files(folder / "train.py"), folder.parent / "kept"
    first = keep_copy(found, kept)
    assert (first.folder, first.digest) == (str(kept), found.digest)
    os.utime(kept / "train.py", (1, 1))
    assert keep_copy(found, kept) == first
    assert (kept / "train.py").stat().st_mtime == 1, "it was copied again"
    place(first, folder.parent / "trial", b"changed")
    assert (folder.parent / "trial" / "train.py").read_bytes() == b"changed"
    assert (kept / "train.py").read_text() == "train.py"
    (kept / "train.py").write_text("edited")
    with pytest.raises(ValueError, match=f"remove {kept}"):
        keep_copy(found, kept)
    (folder / "pkg/a.py").write_text("edited")
    with pytest.raises(ValueError, match="start again"):
        keep_copy(found, folder.parent / "other")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["kept", "trial", "work"], "something was left"


def test_processes_keep_one_copy(folder: Path) -> None:
    """Fault: two commands that start at once copy into one folder, or the second fails."""
    write(folder, *(f"pkg/{number}.py" for number in range(300)))
    kept, go = folder.parent / "kept", folder.parent / "go"
    code = (
        "import sys, time; from pathlib import Path; from tune.workloads.script.files import find_files, keep_copy;"
        "script, kept, go = map(Path, sys.argv[1:]); found = find_files(script); print('ready', flush=True)\n"
        "while not go.exists(): time.sleep(0.001)\n"
        "print(keep_copy(found, kept).digest)"
    )
    words = [sys.executable, "-W", "ignore", "-c", code, str(folder / "train.py"), str(kept), str(go)]
    both = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    go.touch()
    said = [process.communicate(timeout=30)[0] for process in both]
    assert said == [f"{find_files(folder / 'train.py').digest}\n"] * 2
    assert [process.returncode for process in both] == [0, 0]
    assert find_files(kept / "train.py").files == find_files(folder / "train.py").files
    assert sorted(path.name for path in folder.parent.iterdir()) == ["go", "kept", "work"], "something was left"


def test_the_manifest_of_data(tmp_path: Path) -> None:
    """Fault: other data under the same path passes for the same; shards of gigabytes are read; a pipe is waited for."""
    write(tmp_path, "one/data/a.bin", "two/data/a.bin", "far/b.bin")
    one, two = tmp_path / "one/data", tmp_path / "two/data"
    (one / "linked").symlink_to(tmp_path / "far")
    (one / "round").symlink_to(one)
    (one / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(one / "pipe")
    with (one / "shard.bin").open("wb") as file:
        file.write(b"head")
        file.truncate(40 << 30)
    began = time.monotonic()
    seen = [data_manifest([one, two, one / "pipe", Path("/dev/zero")])]
    assert time.monotonic() - began < 5
    assert data_manifest([two, one]) == seen[0], "the order is the command line's"

    def changed() -> None:
        seen.append(data_manifest([one, two]))

    for path in (one / "a.bin", two / "a.bin", tmp_path / "far/b.bin"):  # of equal names, and behind a link
        path.write_text(path.read_text().upper())
        changed()
    with (one / "shard.bin").open("r+b") as shard:
        shard.truncate((40 << 30) + 1)
    changed()
    with (one / "shard.bin").open("r+b") as shard:
        shard.write(b"HEAD")
    changed()
    (two / "a.bin").rename(two / "b.bin")
    changed()
    assert len(set(seen)) == len(seen)
    with (one / "shard.bin").open("r+b") as shard:
        shard.seek(20 << 30)
        shard.write(b"far behind")
    assert data_manifest([one, two]) == seen[-1], "sizes and heads only"


def test_what_this_process_writes_is_no_part_of_the_script(tmp_path: Path) -> None:
    """Fault: the output of the sweep or its results, beside the script, make another script of it every time."""
    (tmp_path / "train.py").write_text("print(1)\n")
    (tmp_path / "results" / "scripts").mkdir(parents=True)
    (tmp_path / "results" / "scripts" / "train.py").write_text("print(2)\n")
    code = (
        "import sys; from pathlib import Path; from tune.workloads.script.files import find_files; "
        "print(find_files(Path(sys.argv[1]), Path(sys.argv[2])).digest, flush=True)"
    )
    digests = []
    for _ in range(2):
        with (tmp_path / "told.txt").open("a") as told:
            command = [sys.executable, "-c", code, str(tmp_path / "train.py"), str(tmp_path / "results")]
            subprocess.run(command, stdout=told, check=True, timeout=60, cwd=ROOT)
        digests = (tmp_path / "told.txt").read_text().split()
    (tmp_path / "told.txt").unlink()
    assert digests == [find_files(tmp_path / "train.py", tmp_path / "results").digest] * 2
