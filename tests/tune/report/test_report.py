"""The report as a whole: its files, its words, what it survives, and that nothing in it is from elsewhere."""

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.tune.made_ledger import made_study, made_sweep, made_trial, write_ledger
from tune.cli.report import main
from tune.records.layout import Storage
from tune.report.data import Book
from tune.report.document import write_report
from tune.tracking.tracker import default_uri, sync

ROOT = Path(__file__).resolve().parents[3]
MIXED = ("done", "done", "screened", "infeasible", "done", "screened", "failed")
HOSTILE = (
    "<script>alert(1)</script>",
    "$x^2$ \\frac{",
    "a" * 300,
    "\u6f22\u5b57 \u05e2\u05d1 \U0001f389",
    "",
    "x\x00y\x1b[31m\ud800",
    '</svg></p><img src=x onerror="alert(1)">',
    "| pipe ` tick\n# head",
    "&lt; \"double\" 'single'",
    "[link](javascript:alert(1)) ![i](http://e.com/a.png)",
)
VOID = {"meta", "br", "img", "link", "path", "use"}


class Page(HTMLParser):
    """A page's tags with their attributes, its text, and whether its tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.cells: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data


def report(tmp_path: Path, entries: list[dict[str, Any]], name: str, baseline: str | None = None) -> tuple[Page, str]:
    """The HTML, parsed, and the Markdown of a made-up ledger."""
    write_ledger(tmp_path / "ledger.jsonl", entries)
    files = {path.name: path for path in write_report(Storage(tmp_path), name, baseline)}
    return Page(files["report.html"].read_text()), files["report.md"].read_text()


def assert_harmless(page: Page) -> None:
    """Nothing to load or to run; every tag closed, every id once and every reference to one that is there."""
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "link", "img", "base", "form", "image", "foreignobject"}
    ids, references = Counter[str](), set()
    for tag, attributes in page.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            assert key in ("xmlns", "xmlns:xlink") or "//" not in (value or ""), (tag, key, value)
            if key in ("src", "href", "xlink:href"):
                assert (value or "").startswith("#"), (tag, key, value)
                references.add((value or "")[1:])
            references |= set(re.findall(r"url\(#([^)]*)\)", value or ""))
            ids.update([value or ""] if key == "id" else [])
    assert max(ids.values(), default=1) == 1, ids.most_common(3)
    assert references <= set(ids)


def test_the_page_needs_nothing_and_hostile_names_do_nothing(tmp_path: Path) -> None:
    """Fault: a name that becomes markup, a control character, a reference to another place, ids that clash."""
    name = HOSTILE[6]
    entries = made_sweep(name, 30, ("done", "done", "screened", "infeasible", "failed"))
    for number, entry in enumerate(entries):
        bad = HOSTILE[number % len(HOSTILE)]
        entry |= {"name": bad, "preset": bad, "tags": {"device": bad}, "cause": entry["cause"] and bad}
        entry["parameters"] = {bad: bad, "$y$": number % 4, "<b>": HOSTILE[number % 7]}
        entry["environment"] = {bad: bad}
        if "ledger" in entry:
            entry["ledger"][bad] = {"entropy_bytes": 9000.0, "packed_bytes": 9500.0}
    page, markdown = report(tmp_path, entries, name)
    assert_harmless(page)
    assert HOSTILE[0] in "".join(page.text)
    assert "\x00" not in "".join(page.text)
    outside = re.sub(r"(?s)```.*?```", "", markdown)
    assert not re.search(r"<(?!/?svg)", outside.replace("&lt;", ""))
    assert not re.search(r"(?<!\\)\[link", outside)
    assert set(re.findall(r"(?<!\\)!\[[^\]]*\]\(([^)]*)\)", outside)) <= {
        f"{part}.svg" for part in ("bytes", "seeds", "ladder", "ttt", "training", "search", "importance", "artifact")
    }
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    heads = [number for number, row in enumerate(rows) if "---" in row and set(row) <= set("|-: ")]
    for head, following in zip(heads, [*heads[1:], len(rows) + 1], strict=True):
        assert len(set(widths[head - 1 : following - 1])) == 1


def test_every_trial_is_listed_with_its_own_figures(tmp_path: Path) -> None:
    """Fault: a trial left out, figures in another's row, an earlier attempt shown instead of the last."""
    entries = made_sweep("s", 40, MIXED)
    earlier = {**made_trial("s", 3, "failed", {}), "cause": "an earlier attempt"}
    page, markdown = report(tmp_path, [earlier, *entries], "s")
    text = " ".join(page.text)
    rows = {row[0]: row for row in page.cells if len(row) == 14}
    assert set(rows) - {"trial"} == {entry["trial"] for entry in entries}
    head = rows["trial"]
    for entry in entries:
        row, metrics = dict(zip(head, rows[entry["trial"]], strict=True)), entry["metrics"]
        done = entry["status"] == "done"
        assert row["BPB"] == (f"{metrics['bpb']:.4f}" if done else "\u2013")
        assert row["quantised"] == (f"{metrics['bpb_quantised']:.4f}" if done else "\u2013")
        assert row["bytes"] == (f"{metrics['artifact_bytes']:,}" if metrics else "\u2013")
        assert row["cause"] == (entry["cause"] or "")
        assert markdown.count(entry["trial"]) >= 1
    best = [row[0] for row in page.cells if len(row) == 14][1]
    done = [entry for entry in entries if entry["status"] == "done"]
    assert best == min(done, key=lambda entry: entry["metrics"]["bpb"])["trial"]
    assert "41 entries of 41" in text
    assert "an earlier attempt" not in text


def verdict(study: str) -> dict[str, Any]:
    """A verdict with nested fields, lists of texts and lists of objects."""
    return {
        "kind": "seeds",
        "study": study,
        "holds": False,
        "baseline": {"name": "published", "bpb": [2.43], "published": True},
        "gain_bpb": {"gain": 0.02, "margin": 0.0031, "interval": [0.01, 0.03], "p": 0.0421},
        "faults": ["seed 7 is over the cap", "too <few> seeds"],
        "rows": [{"seed": 1, "bpb": 2.4}, {"seed": 2, "cause": "killed"}],
        "others": [],
        "sequential": None,
        "text": "seed  BPB\n  42  2.4 <b>```\x00",
    }


def test_a_study_and_its_verdict(tmp_path: Path) -> None:
    """Fault: a field of the verdict lost, its baseline or margin off the figure, seeds ranked against each other."""
    entries = [*made_study("st", [42, 1337, 2025], 1), {**verdict("st"), "holds": True}, verdict("st")]
    page, markdown = report(tmp_path, entries, "st")
    assert_harmless(page)
    text = "".join(page.text)
    assert "seed  BPB\n  42  2.4 <b>```\ufffd" in text
    assert "````\nseed  BPB\n  42  2.4 <b>```\ufffd\n````" in markdown
    assert ["holds", "false"] in page.cells
    assert ["gain_bpb.p", "0.0421"] in page.cells
    assert ["faults", "seed 7 is over the cap; too <few> seeds"] in page.cells
    assert ["\u2013", "2", "killed"] in page.cells
    assert "baseline published 2.4300" in text
    assert "less the margin 2.4269" in text
    assert "runner-up" not in text.lower()
    assert "Pareto" not in text
    values = [entry["metrics"]["bpb"] for entry in entries[:3]]
    row = next(cells for cells in page.cells if cells[:2] == ["st", "42, 1337, 2025"])
    assert row[3] == f"{sum(values) / 3:.5f}"
    assert "gain\\_bpb.p" in markdown


def test_seeds_without_a_result_are_not_forgotten(tmp_path: Path) -> None:
    """Fault: a mean of the seeds that fit, and the cap's risk from them alone; a verdict that is out of date."""
    entries = made_study("st", [1, 2, 3, 4])
    over = made_trial("st", 3, "infeasible", {"seed": 4}, seed=4)
    entries[3] = over | {"config": entries[3]["config"], "trial": entries[3]["trial"]}
    judged = verdict("st") | {"bpb": {"mean": 2.5}}
    page, _ = report(tmp_path, [*entries, judged], "st")
    row = next(cells for cells in page.cells if cells[:2] == ["st", "1, 2, 3"])
    assert row[2] == "4 (over the cap)"
    size = over["metrics"]["artifact_bytes"]
    assert row[7] == f"{size:,}"
    assert row[8] == f"\u2212{size - 430_000:,}"
    text = "".join(page.text)
    assert "3 seeds, 1 without a result" in text
    assert "other runs than those shown" in text


def test_a_study_has_the_baseline_of_its_verdict(tmp_path: Path) -> None:
    """Fault: the verdict names a study of the ledger and the figures ignore it; a baseline on other data is drawn."""
    judged = verdict("st") | {"baseline": {"name": "base", "bpb": [2.43, 2.44], "published": False}}
    entries = [*made_study("st", [1, 2]), *made_study("base", [2, 3], split="int5-mlp"), judged]
    page, _ = report(tmp_path, entries, "st")
    assert "baseline, 2 seeds" in "".join(page.text).lower()
    other = [{**entry, "data": "e" * 64} for entry in made_sweep("far", 2)]
    write_ledger(tmp_path / "ledger.jsonl", [*entries, *other])
    with pytest.raises(ValueError, match="other data"):
        write_report(Storage(tmp_path), "st", "far")


@pytest.mark.parametrize("status", ["infeasible", "failed", "screened"])
@pytest.mark.parametrize("num", [1, 5])
def test_sweeps_without_a_result(status: str, num: int, tmp_path: Path) -> None:
    """Fault: a report that needs a finished trial; a figure made of nothing."""
    page, _ = report(tmp_path, made_sweep("s", num, (status,)), "s")
    assert_harmless(page)
    text = "".join(page.text)
    figures = [attributes["id"] for tag, attributes in page.tags if tag == "figure"]
    assert ("bytes" in figures) == (status != "failed")
    assert not {"ladder", "ttt", "seeds", "importance"} & set(figures)
    assert text.count("Not drawn: ") == 8 - len(figures)


def test_ledgers_of_nothing_and_of_long_ago(tmp_path: Path) -> None:
    """Fault: a verdict without trials, or an entry that lacks what later ones have, ends in a traceback."""
    page, _ = report(tmp_path, [verdict("st")], "st")
    assert_harmless(page)
    assert ["trials", "none"] in page.cells
    bare = {"kind": "trial", "sweep": "old", "trial": "0" * 12, "status": "done", "metrics": {"bpb": 1.5}}
    odd = {"kind": "trial", "sweep": "old", "trial": "1" * 12, "metrics": {"bpb": None}, "curves": None, "tags": None}
    known = made_trial("old", 1, "done", {"ttt.lr": 0.1})
    for field in ("data", "code", "environment", "tags", "curves", "files", "config", "started"):
        known.pop(field)
    page, _ = report(tmp_path, [bare, odd, known], "old")
    assert_harmless(page)
    assert "1.5000" in "".join(page.text)


def test_the_same_ledger_gives_the_same_bytes_without_ray_or_mlflow(tmp_path: Path) -> None:
    """Fault: an order of a set, a date, a random id in a file; a report that starts Ray or needs MLflow."""
    write_ledger(tmp_path / "ledger.jsonl", [*made_sweep("s", 12, MIXED), *made_study("st", [1, 2, 3])])
    first = {path: path.read_bytes() for name in ("s", "st") for path in write_report(Storage(tmp_path), name)}
    program = (
        "import sys; from pathlib import Path\n"
        "from tune.records.layout import Storage; from tune.report.document import write_report\n"
        "for name in ('s', 'st'): print(*write_report(Storage(Path(sys.argv[1])), name))\n"
        "sys.exit(bool({'ray', 'mlflow'} & set(sys.modules)))"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONHASHSEED": "7"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(path) for path in first]
    assert {path: path.read_bytes() for path in first} == first


def test_the_report_is_in_mlflow_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a report that MLflow's users never see, or a trial too many in their table."""
    entries = made_sweep("s", 3)
    write_ledger(tmp_path / "ledger.jsonl", entries)
    where, uri = ["--storage", str(tmp_path)], default_uri(tmp_path)
    assert main(["s", *where]) == 0
    assert not (tmp_path / "mlflow.db").exists(), "there was no MLflow to take it"
    assert sync(entries, uri, entries[0]["preset"]).problem is None
    assert main(["s", *where]) == main(["s", *where]) == 0
    client = MlflowClient(tracking_uri=uri)
    found = client.search_runs([client.get_experiment_by_name(entries[0]["preset"]).experiment_id])
    (run,) = (run for run in found if run.data.tags["kind"] == "report")
    kept = {Path(item.path).name for item in client.list_artifacts(run.info.run_id, "report")}
    assert {"report.html", "report.md", "bytes.svg"} <= kept
    assert len(found) == 4
    capsys.readouterr()
    assert main(["s", *where, "--tracking-uri", "http://127.0.0.1:9"]) == 0
    assert "127.0.0.1:9" in capsys.readouterr().err


def test_what_goes_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a traceback, a status that says success, a message that does not help on."""
    where = ["--storage", str(tmp_path)]
    assert main(["demo", *where]) == 2
    assert "ledger.jsonl" in capsys.readouterr().err
    write_ledger(tmp_path / "ledger.jsonl", [*made_sweep("demo", 3), *made_sweep("none", 2, ("failed",))])
    for arguments, word in (
        (["dmeo"], 'did you mean "demo"?'),
        (["demo", "--baseline", "nnoe"], "no trial, sweep or study"),
        (["demo", "--baseline", "none"], "no finished trial"),
        (["demo", "--baseline", ""], "no trial, sweep or study"),
    ):
        assert main([*arguments, *where]) == 2
        error = capsys.readouterr().err
        assert word in error
        assert error.count("\n") == 1
    assert not (tmp_path / "reports").exists()


def test_damage_and_mixtures_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: numbers of a ledger of which a part is lost, or of two datasets, shown as if all were well."""
    entries = made_sweep("s", 4)
    entries[2]["data"] = "e" * 64
    path = write_ledger(tmp_path / "ledger.jsonl", entries)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:-40] + b"<b>\n" + b"".join(lines[2:]))
    assert main(["s", "--storage", str(tmp_path), "--format", "html"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "reports" / "s" / "report.html")
    page = Page((tmp_path / "reports" / "s" / "report.html").read_text())
    assert_harmless(page)
    text = "".join(page.text)
    assert "damaged and not in this report: 2." in text
    assert "2 different datasets" in text
    assert any(row[0] == "2" and "whole JSON" in row[1] for row in page.cells)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/etc/x", "", "x" * 999, "\u6f22" * 200, "a\x00b", "-x", "_", "a "])
def test_any_name_has_a_folder_of_its_own(name: str, tmp_path: Path) -> None:
    """Fault: a report outside its folder, in another's, or in a folder that the file system refuses."""
    folder = Storage(tmp_path).report(name)
    assert folder.parent == tmp_path / "reports"
    folder.mkdir(parents=True)
    assert folder.name != Storage(tmp_path).report(name + "x").name
    write_ledger(tmp_path / "ledger.jsonl", made_sweep(name, 1, ("failed",)))
    assert write_report(Storage(tmp_path), name)[0].is_file()


def test_the_last_entry_and_the_right_subjects(tmp_path: Path) -> None:
    """Fault: a baseline trial by the beginning of its id not found; several that begin so taken for one."""
    entries = made_sweep("s", 20)
    book = Book(write_ledger(tmp_path / "ledger.jsonl", entries))
    for entry in entries:
        assert book.find(entry["trial"]).trials[0]["trial"] == entry["trial"]
    twice = Counter(entry["trial"][0] for entry in entries).most_common(1)[0][0]
    with pytest.raises(ValueError, match="beginning of"):
        book.find(twice)
