"""Record folders that somebody made for harm, or that were damaged: they end in findings."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf.compliance.points import failures, table_lines
from golf.submission.record_folder import contents
from tests.golf.submission.record_folder.made import Change, a_folder_for, check, edit, fields, linked, whole

DEEP = "[" * 100_000
HOSTILE: dict[str, Change] = {
    "deep JSON": lambda f: (f / "submission.json").write_text('{"seeds": ' + DEEP),
    "deep JSON that ends": lambda f: (f / "submission.json").write_text('{"name": ' + "[" * 900 + "]" * 900 + "}"),
    "NaN": lambda f: (f / "submission.json").write_text('{"val_bpb": NaN}'),
    "a number beyond floats": lambda f: (f / "submission.json").write_text(
        '{"val_bpb": 1e99999, "bytes_total": 1e400}'
    ),
    "a number of 10,000 digits": lambda f: (f / "submission.json").write_text('{"bytes_total": ' + "9" * 10_000 + "}"),
    "a long whole number": fields(val_bpb=int("9" * 4000), seeds=[int("9" * 4000)]),
    "fields twice": lambda f: (f / "submission.json").write_text('{"val_bpb": 1.1, "val_bpb": 1.2}'),
    "a list": lambda f: (f / "submission.json").write_text("[1, 2]"),
    "no UTF-8": lambda f: (f / "submission.json").write_bytes(b'{"name": "\xff\xfe"}'),
    "half a surrogate": lambda f: (f / "submission.json").write_text('{"hardware": "\\ud800", "track": "\\u001b[2J"}'),
    "zeros": fields(val_bpb=0.0, val_loss=0.0, seed_results={"42": {"val_bpb": 0.0, "val_loss": 0.0}}),
    "negative bytes": fields(bytes_total=-5, bytes_code=-1, bytes_model=True),
    "empty values": fields(seeds=[], seed_results={}, author="", hardware=[], track={"a": 1}),
    "a huge JSON": lambda f: os.truncate(f / "submission.json", 1 << 40),
    "a huge log": lambda f: os.truncate(f / "train_seed42.log", 1 << 40),
    "huge code": lambda f: os.truncate(f / "train_gpt.py", 1 << 40),
    "binary logs": lambda f: (f / "train_seed42.log").write_bytes(bytes(range(256)) * 1000),
    "a log of one line": lambda f: (f / "train_seed42.log").write_text("val_bpb:1.1 " * 300_000),
    "nested code": lambda f: (f / "train_gpt.py").write_text("x = " + "(" * 50_000 + ")" * 50_000),
    "deep code": lambda f: (f / "train_gpt.py").write_text("x = " + "-" * 200_000 + "1"),
    "long code": lambda f: (f / "train_gpt.py").write_text("x = 1" + "+1" * 100_000),
    "chained code": lambda f: (f / "train_gpt.py").write_text("x" + ".a" * 100_000),
    "code with zeros": lambda f: (f / "train_gpt.py").write_bytes(b"import os\0\n"),
    "code of an unknown encoding": lambda f: (f / "train_gpt.py").write_text("# -*- coding: no-such -*-\n"),
    "a link out": linked("train_seed42.log", "/etc/passwd"),
    "a link to nothing": linked("a.log", "/no/such/file"),
    "a link to itself": linked("a.log", "a.log"),
    "a linked folder out": linked("logs", "/"),
    "a link around": linked("logs", "."),
    "a pipe": lambda f: os.mkfifo(f / "pipe.log"),
    "a folder for a file": a_folder_for("README.md"),
    "names for a terminal": lambda f: (f / "a\x1b[31m\n.log").write_text("val_bpb:1.5\nval_loss:2\n"),
    "a name of no encoding": lambda f: Path(os.fsdecode(bytes(f) + b"/\xff.log")).write_text("val_bpb:1.5\n"),
    "numbers beyond reason": edit("train_seed42.log", "bytes (payload", "9" * 29 + " bytes (payload"),
    "infinite scores": edit("train_seed42.log", "val_bpb:", "val_bpb:9e999"),
    "an artifact of garbage": lambda f: (f / "a.golf").write_bytes(b"GOLF" + bytes(100)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_folders_end_in_findings(tmp_path: Path, kind: str) -> None:
    """Fault: a crash, a hang, or a text that a terminal acts on, from a folder that somebody made for it."""
    folder = whole(tmp_path)
    HOSTILE[kind](folder)
    started = time.monotonic()
    rows = check(folder, previous_nats=[1.9, 1.91])
    assert time.monotonic() - started < 10
    text = "\n".join(table_lines(list(rows.values())))
    assert "\x1b" not in text
    assert failures(rows.values()), "no fault was seen"


def test_very_much_is_not_all_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a folder of a million files is walked to its end, one of many logs read for hours."""
    monkeypatch.setattr(contents, "LARGEST_TOGETHER", 50_000)
    monkeypatch.setattr(contents, "_MOST_ENTRIES", 20)
    folder = whole(tmp_path)
    (folder / "z.log").write_bytes(b"\n" * 60_000)
    rows = check(folder)
    assert "60,000" in rows[2].why
    assert failures(rows.values()) == [2]
    for number in range(30):
        (folder / f"z{number}.log").write_text("")
    rows = check(folder)
    assert rows[2].evidence["files"] == 20
    assert failures(rows.values()) == [2]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["submission.json", "train_seed42.log", "train_gpt.py", "requirements.txt"]),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    put=st.binary(max_size=30),
)
def test_damage_never_raises(tmp_path: Path, name: str, cut: tuple[float, float], put: bytes) -> None:
    """Fault: an exception from a file that was cut, joined or changed anywhere."""
    folder_path = tmp_path / "2026-01-02_damaged"
    source = whole(tmp_path) if not folder_path.exists() else folder_path
    if source is not folder_path:
        source.rename(folder_path)
        (folder_path / "requirements.txt").write_text("torch\n")
    original = (folder_path / name).read_bytes()
    begin, end = sorted(int(part * len(original)) for part in cut)
    (folder_path / name).write_bytes(original[:begin] + put + original[end:])
    try:
        check(folder_path)
    finally:
        (folder_path / name).write_bytes(original)
