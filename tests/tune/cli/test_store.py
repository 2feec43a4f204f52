"""The command that looks after a store: `python -m tune store`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.commands import tool
from tests.tune.made_ledger import made_trial
from tests.tune.toy_stages import KEY, record_of
from tune.cache.entry import FILES, marker_path
from tune.cache.fingerprint import stage_key
from tune.cache.gc import LEFT_SECONDS
from tune.cache.stage_graph import StageName
from tune.cache.store import Store
from tune.records.ledger import Ledger

main = tool("store")

ROOT = Path(__file__).parents[3]
Tree = tuple[Store, list[str]]


def run(*arguments: str) -> tuple[int, str, str]:
    """Returns exit status, output and errors of `python -m tune store`."""
    command = [sys.executable, "-m", "tune", "store", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def append_trial(ledger: Path, *keys: str) -> None:
    """Appends the entry of a trial with outputs of these keys."""
    entry, series = made_trial("sweep", 1, "done", {})
    Ledger(ledger).append(msgspec.structs.replace(entry, keys=keys), series)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A store of four stages, each made from the one before, the last from two; a ledger that needs the first two."""
    storage, keys = tmp_path / "storage", list[str]()
    store = Store(storage / "store")
    for stage, numbers in ((StageName("prefix", 4), []), ("train", [0]), ("pack", [1]), ("score", [1, 2])):
        parents = tuple(keys[number] for number in numbers)
        keys.append(stage_key(str(stage), {"lr": 0.1}, parents, "source"))
        (tmp_path / "result").write_text("text")
        store.publish(keys[-1], tmp_path, ["result"], record_of(stage, parents=parents, seconds=2.5, trial="abc"))
    append_trial(storage / "ledger.jsonl", *keys[:2])
    append_trial(storage / "ledger.jsonl")
    return store, keys


def test_list_and_show(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: an entry is left out of the list, or an ancestor, also a second-hand one, out of the lineage."""
    store, keys = tree
    storage = str(Path(store.storage.name).parent)
    assert main(["ls", "--storage", storage]) == 0
    listed = capsys.readouterr().out
    assert all(listed.count(key[:12]) == 1 for key in keys)
    assert [line.split()[:6] for line in listed.splitlines() if "prefix" in line] == [
        [keys[0][:12], "prefix-4", "interior", "4", "B", "2.5"]
    ]
    assert listed.endswith("4 entries, 16 B, 10.0 seconds of computing\n")
    assert main(["show", keys[3][:8], "--storage", storage]) == 0
    shown, _, record = capsys.readouterr().out.partition("\n\n")
    lines = shown.splitlines()
    assert [next(number for number, key in enumerate(keys) if key[:12] in text) for text in lines] == [3, 1, 0, 2, 1]
    assert keys[3] in record
    assert '"score"' in record
    assert '"trial": "abc"' in record
    store.drop(keys[0])
    assert main(["show", keys[3], "--storage", storage]) == 0
    assert f"{keys[0][:12]}  not stored" in capsys.readouterr().out


def test_entries_of_another_version_are_told(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: what an earlier program left fills the disk without a word."""
    store, _ = tree
    storage = str(Path(store.storage.name).parent)
    store.storage.create(marker_path(KEY), b'{"version": 1}\n')
    assert main(["ls", "--storage", storage]) == 0
    assert "1 entries are damaged or in the form of another version" in capsys.readouterr().out
    assert main(["verify", "--storage", storage]) == 1
    assert f"{KEY}: its marker has the form 1, and this program reads form 2 only" in capsys.readouterr().out
    assert main(["gc", "--yes", "--storage", storage]) == 0
    assert store.storage.read(marker_path(KEY)) is None


def test_verify_names_what_has_changed(tree: Tree) -> None:
    """Fault: silent damage passes, or sound entries are blamed."""
    store, keys = tree
    storage = str(Path(store.storage.name).parent)
    assert run("verify", "--storage", storage)[0] == 0
    entry = store.find(keys[1])
    assert entry is not None
    Path(store.storage.name, entry.path, "result").write_text("next")
    status, output, _ = run("verify", "--storage", storage)
    assert status == 1
    assert f"{keys[1]}: the bytes of its file result have changed" in output
    assert not any(key in output for key in keys if key != keys[1])
    assert store.find(keys[1]) == entry, "verify changes nothing"


def test_collect_what_no_ledger_needs(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a dry run removes, a needed or pinned entry goes, or a second ledger's needs are forgotten."""
    store, keys = tree
    storage = Path(store.storage.name).parent
    assert main(["gc", "--storage", str(storage)]) == 0
    dry = capsys.readouterr().out
    assert [key[:12] in dry for key in keys] == [False, False, True, True]
    assert all(store.find(key) is not None for key in keys)
    append_trial(storage / "other.jsonl", keys[3])
    ledgers = ["--ledger", str(storage / "ledger.jsonl"), "--ledger", str(storage / "other.jsonl")]
    store.pin([keys[2]], "trial")
    assert main(["gc", "--yes", "--storage", str(storage), *ledgers]) == 0
    assert all(store.find(key) is not None for key in keys)
    store.unpin("trial")
    assert main(["gc", "--yes", "--storage", str(storage), *ledgers]) == 0
    assert [store.find(key) is not None for key in keys] == [True, True, False, True]
    assert len(list((storage / "store" / FILES).iterdir())) == 3


def test_collect_what_the_dead_left(tree: Tree) -> None:
    """Fault: a killed process's files stay for ever, or those of one that is at work are taken away."""
    store, _ = tree
    root = Path(store.storage.name)
    dead = ("files/dead.1/a/x", "work/dead.1", "leases/dead.000001", "pins/dead.1")
    young = ("files/young.1/x", "work/young.1", "leases/busy.000001")
    long_ago = time.time() - LEFT_SECONDS - 60
    for name in (*dead, *young):
        store.storage.save(name, [b"x"])
        if name in dead:
            os.utime(root / name, (long_ago, long_ago))
    assert main(["gc", "--yes", "--storage", str(root.parent)]) == 0
    left = set(store.storage.files(""))
    assert not left & set(dead)
    assert left >= set(young)


@pytest.mark.parametrize(
    "case", ["no store", "no ledger", "torn ledger", "no such key", "two such keys", "bad address"]
)
def test_errors_are_one_line(tree: Tree, case: str) -> None:
    """Fault: a wrong path collects everything, or a person reads a traceback."""
    store, keys = tree
    storage = Path(store.storage.name).parent
    if case == "torn ledger":
        with (storage / "ledger.jsonl").open("ab") as file:
            file.write(b"{torn\n")
    arguments = {
        "no store": ("ls", "--storage", str(storage / "elsewhere")),
        "no ledger": ("gc", "--yes", "--storage", str(storage), "--ledger", str(storage / "missing")),
        "torn ledger": ("gc", "--yes", "--storage", str(storage)),
        "no such key": ("show", "xyz", "--storage", str(storage)),
        "two such keys": ("show", "", "--storage", str(storage)),
        "bad address": ("ls", "--storage", "s3x://bucket"),
    }[case]
    status, output, errors = run(*arguments)
    assert (status, output) == (2, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert all(store.find(key) is not None for key in keys)
    assert not (storage / "elsewhere").exists()
