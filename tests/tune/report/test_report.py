"""The report as a whole: its files, its words, what it survives, and that nothing in it is from elsewhere."""

import base64
import hashlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from msgspec.structs import replace

from benchmarks.browser import CHROMIUM, DRIVER, open_browser
from golf.submission.study import Comparison, Gain, OtherRun, StudyVerdict, Summary
from tests.commands import tool
from tests.tune.made_ledger import made_study, made_sweep, made_trial, write_ledger
from tune.records.entries import Device, TrialEntry, TrialState, VerdictEntry
from tune.records.layout import Storage
from tune.report.data import STATE_NAMES, ReportData
from tune.report.document import write_report
from tune.report.headline import headline_of
from tune.tracking.addresses import default_uri
from tune.tracking.tracker import sync

main = tool("report")

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
VOID = {"meta", "br", "wbr", "img", "link", "path", "use"}


class Page(HTMLParser):
    """A page's tags with their attributes, its text, and whether its tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.cells: list[list[str]] = []
        self.scripts: list[str] = []
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
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
            return
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1][-1] += data


def report(tmp_path: Path, records: Sequence[Any], name: str, baseline: str | None = None) -> tuple[Page, str]:
    """Returns the HTML, parsed, and the Markdown of a made-up ledger."""
    write_ledger(tmp_path / "ledger.jsonl", records)
    files = {path.name: path for path in write_report(Storage(tmp_path), name, baseline)}
    return Page(files["report.html"].read_text()), files["report.md"].read_text()


def assert_harmless(page: Page) -> None:
    """Nothing to load or to run; every tag closed, every id once and every reference to one that is there."""
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"iframe", "object", "embed", "link", "img", "base", "form", "image", "foreignobject"}
    ids, references = Counter[str](), set()
    # The only script is ours, and the page's policy lets a browser run no other.
    assert len(page.scripts) == 1
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a] == [policy]
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
    name, records = HOSTILE[6], []
    for number, (entry, series) in enumerate(made_sweep(HOSTILE[6], 30, ("done", "done", *MIXED))):
        bad = HOSTILE[number % len(HOSTILE)]
        groups = entry.byte_groups and {**entry.byte_groups, bad: {"entropy_bytes": 9000.0, "packed_bytes": 9500.0}}
        changes: dict[str, Any] = {
            "name": bad,
            "preset": bad,
            "reason": entry.reason and bad,
            "environment": {bad: bad},
        }
        changes |= {"parameters": {bad: bad, "$y$": number % 4, "<b>": HOSTILE[number % 7]}, "byte_groups": groups}
        changes |= {"device": Device(count=1, name=bad, kind="cpu"), "tags": {"host": bad}, "environment": {bad: bad}}
        records.append((replace(entry, **changes), series))
    page, markdown = report(tmp_path, records, name)
    assert_harmless(page)
    assert HOSTILE[0] in "".join(page.text)
    assert "\x00" not in "".join(page.text)
    outside = re.sub(r"(?s)```.*?```", "", markdown)
    assert not re.search(r"<(?!/?svg)", outside.replace("&lt;", ""))
    assert not re.search(r"(?<!\\)\[link", outside)
    assert not re.findall(r"(?<!\\)!\[[^\]]*\]\(([^)]*)\)", outside)
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    heads = [number for number, row in enumerate(rows) if "---" in row and set(row) <= set("|-: ")]
    for head, following in zip(heads, [*heads[1:], len(rows) + 1], strict=True):
        assert len(set(widths[head - 1 : following - 1])) == 1


def test_every_trial_is_listed_with_its_own_numbers(tmp_path: Path) -> None:
    """Fault: a trial left out, numbers in another's row, an earlier attempt shown instead of the last."""
    records = made_sweep("s", 40, MIXED)
    earlier, _ = made_trial("s", 3, "failed", {})
    page, markdown = report(tmp_path, [replace(earlier, reason="an earlier attempt"), *records], "s")
    rows = {row[0]: row for row in page.cells if len(row) == 20}
    entries = [entry for entry, _ in records]
    assert set(rows) - {"trial"} == {entry.trial for entry in entries}
    for entry in entries:
        row = dict(zip(rows["trial"], rows[entry.trial], strict=True))
        rung = entry.rung("quantised")
        assert row["BPB"] == ("\u2013" if entry.bpb is None else f"{entry.bpb:.4f}")
        assert row["quantised"] == ("\u2013" if rung is None else f"{rung.bpb:.4f}")
        assert row["bytes"] == ("\u2013" if entry.artifact_bytes is None else f"{entry.artifact_bytes:,}")
        assert row["ended"] == STATE_NAMES[entry.state]
        assert row["why not, and notes"] == (entry.reason or "")
        assert {field: row[field] for field in entry.parameters} == {
            field: value if isinstance(value, str) else f"{value:.7g}" for field, value in entry.parameters.items()
        }
        assert row["first part"] == (f"{entry.screening[0].bpb:.4f}" if entry.screening else "\u2013")
    best = sorted((entry for entry in entries if entry.done), key=lambda entry: entry.bpb or 0.0)[:10]
    lines = [line.split(" | ")[0].strip("| ") for line in markdown.splitlines() if line.startswith("| ")]
    first = lines.index("trial")
    assert lines[first + 2 : first + 12] == [entry.trial for entry in best]
    assert "30 further trials" in markdown
    assert list(rows)[1] == min(entries, key=lambda entry: entry.bpb or 9.0).trial
    assert "41 of its 41 entries" in " ".join(page.text)
    assert "an earlier attempt" not in " ".join(page.text)


def verdict(study: str, **changes: Any) -> VerdictEntry:
    """Returns a verdict with nested fields, lists of texts and lists of objects."""
    gain = Gain(gain=0.02, margin=0.0031, interval=(0.01, 0.03), level=0.95, p=0.0421)
    fields: dict[str, Any] = {
        "comparison": Comparison(baseline="published", values=(2.43,), published=True, gain_nats=gain, gain_bpb=gain),
        "faults": ("seed 7 is over the cap", "too <few> seeds"),
        "others": (OtherRun(sweep="x", trial="t", seed=1, state="done", bpb=2.4, why="of <x>"),),
        "text": "seed  BPB\n  42  2.4 <b>```\x00",
    }
    values = StudyVerdict(track="non-record", seeds=(1, 2), **fields | changes)
    return VerdictEntry(study=study, verdict=values)


def test_a_study_and_its_verdict(tmp_path: Path) -> None:
    """Fault: a field of the verdict lost, its baseline or margin off the figure, seeds ranked against each other."""
    records = made_study("st", [42, 1337, 2025], 1)
    page, markdown = report(tmp_path, [*records, verdict("st", faults=()), verdict("st")], "st")
    assert_harmless(page)
    text = "".join(page.text)
    assert "seed  BPB\n  42  2.4 <b>```\ufffd" in text
    assert "````\nseed  BPB\n  42  2.4 <b>```\ufffd\n````" in markdown
    assert ["holds", "false"] in page.cells
    assert ["comparison.gain_bpb.p", "0.0421"] in page.cells
    assert ["faults", "seed 7 is over the cap; too <few> seeds"] in page.cells
    assert ["x", "t", "1", "0", "done", "2.4", "of <x>"] in page.cells
    assert "baseline published 2.4300" in text
    assert "less the margin 2.4269" in text
    assert "runner-up" not in text.lower()
    assert "Pareto" not in text
    values = [entry.bpb or 0.0 for entry, _ in records[:3]]
    row = next(cells for cells in page.cells if cells[:2] == ["st", "42, 1337, 2025"])
    assert row[3] == f"{sum(values) / 3:.5f}"


def test_seeds_without_a_result_are_not_forgotten(tmp_path: Path) -> None:
    """Fault: a mean of the seeds that fit, and the cap's risk from them alone; a verdict that is out of date."""
    records = made_study("st", [1, 2, 3, 4])
    fourth = records[3][0]
    over = replace(made_trial("st", 3, "infeasible", {"seed": 4}, seed=4)[0], config=fourth.config, trial=fourth.trial)
    judged = verdict("st", bpb=Summary(num_values=3, mean=2.5, level=0.95))
    page, _ = report(tmp_path, [*records[:3], over, judged], "st")
    row = next(cells for cells in page.cells if cells[:2] == ["st", "1, 2, 3"])
    assert row[2] == "4 (over the cap)"
    assert over.artifact_bytes is not None
    assert row[7:9] == [f"{over.artifact_bytes:,}", f"\u2212{over.artifact_bytes - 430_000:,}"]
    text = "".join(page.text)
    assert "1 without a result" in text
    assert "other runs than those shown" in text


def test_a_study_has_the_baseline_of_its_verdict(tmp_path: Path) -> None:
    """Fault: the verdict names a study of the ledger and the figures ignore it; a baseline on other data is drawn."""
    comparison = replace(verdict("st").verdict.comparison, baseline="base", values=(2.43, 2.44))  # type: ignore[type-var]
    records = [*made_study("st", [1, 2]), *made_study("base", [2, 3], split="int5-mlp")]
    page, _ = report(tmp_path, [*records, verdict("st", comparison=comparison)], "st")
    assert "baseline, 2 seeds" in "".join(page.text).lower()
    other = [replace(entry, data="e" * 64) for entry, _ in made_sweep("far", 2)]
    write_ledger(tmp_path / "ledger.jsonl", [*records, *other])
    with pytest.raises(ValueError, match="other data"):
        write_report(Storage(tmp_path), "st", "far")


def figures_in(page: Page) -> set[str]:
    """Returns the names of the figures that are drawn; of every other one it says why."""
    drawn = {attributes["id"] or "" for tag, attributes in page.tags if tag == "figure"}
    assert sum(tag == "li" for tag, _ in page.tags) == 11 - len(drawn)
    return drawn


@pytest.mark.parametrize("state", ["infeasible", "failed", "screened"])
@pytest.mark.parametrize("num", [1, 5])
def test_sweeps_without_a_result(state: str, num: int, tmp_path: Path) -> None:
    """Fault: a report that needs a finished trial; a figure made of nothing."""
    page, _ = report(tmp_path, made_sweep("s", num, (state,)), "s")
    assert_harmless(page)
    drawn = figures_in(page)
    assert ("bytes" in drawn) == (state != "failed")
    assert not {"ladder", "stream", "seeds", "importance"} & drawn


def opaque(number: int) -> TrialEntry:
    """Returns a trial of a script that reports a score and nothing else."""
    entry, _ = made_trial("toy", number, "failed", {"lr": number / 10, "seed": number})
    ended: dict[str, Any] = {"state": TrialState.DONE, "reason": None, "failure": None, "bpb": 1.0 + number}
    return replace(entry, workload="script", trial=f"{number:012x}", name="", preset="", config={}, **ended)


def test_a_workload_without_ladder_sizes_and_chunks(tmp_path: Path) -> None:
    """Fault: a report that takes every trial for a GEPA run, or makes up what a script does not have."""
    page, _ = report(tmp_path, [opaque(number) for number in range(3)], "toy")
    assert_harmless(page)
    assert figures_in(page) == {"search", "history", "timeline"}
    text = "".join(page.text)
    for missing in ("has an artifact", "two rungs", "sums by chunk", "training curve", "where its artifact's bytes go"):
        assert missing in text
    assert ["000000000000", "finished", "0", "0", "1.0000", "\u2013", "\u2013", ""] in page.cells
    assert "Bytes: unknown" in text
    assert "Test-time training: not told by the ledger." in text
    page, _ = report(tmp_path, [opaque(0), verdict("toy")], "toy")
    assert_harmless(page)


def test_a_verdict_without_trials(tmp_path: Path) -> None:
    """Fault: a study whose trials are in another ledger ends in a traceback."""
    page, _ = report(tmp_path, [verdict("st")], "st")
    assert_harmless(page)
    assert ["trials", "none"] in page.cells


@pytest.mark.long
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


@pytest.mark.long
def test_the_report_is_in_mlflow_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a report that MLflow's users never see, or a trial too many in their table."""
    records = made_sweep("s", 3)
    write_ledger(tmp_path / "ledger.jsonl", records)
    arguments, uri, preset = ["s", "--storage", str(tmp_path)], default_uri(tmp_path), records[0][0].preset
    assert main(arguments) == 0
    assert not (tmp_path / "mlflow.db").exists(), "there was no MLflow to take it"
    assert sync([entry for entry, _ in records], uri, preset).problem is None
    assert main(arguments) == main(arguments) == 0
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name(preset).experiment_id])
    (run,) = (run for run in runs if run.data.tags["kind"] == "sweep")
    files = {Path(item.path).name for item in client.list_artifacts(run.info.run_id, "report")}
    assert {"report.html", "report.md", "bytes.svg"} <= files
    assert len(runs) == 4
    capsys.readouterr()
    assert main([*arguments, "--tracking-uri", "http://127.0.0.1:9"]) == 0
    assert "127.0.0.1:9" in capsys.readouterr().err


def test_what_goes_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: a traceback, a status that says success, a message that does not help on."""
    storage = ["--storage", str(tmp_path)]
    assert main(["demo", *storage]) == 2
    assert "ledger.jsonl" in capsys.readouterr().err
    write_ledger(tmp_path / "ledger.jsonl", [*made_sweep("demo", 3), *made_sweep("none", 2, ("failed",))])
    for arguments, message in (
        (["dmeo"], 'did you mean "demo"?'),
        (["demo", "--baseline", "nnoe"], 'no study, sweep or trial "nnoe"; did you mean "none"?'),
        (["demo", "--baseline", "none"], "no finished trial"),
        (["demo", "--baseline", ""], "no study, sweep or trial"),
    ):
        assert main([*arguments, *storage]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "reports").exists()


def test_losses_and_mixtures_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fault: numbers of a ledger of which a part is lost, or of two datasets, shown as if all were well."""
    records = made_sweep("s", 4)
    records[2] = replace(records[2][0], data="e" * 64), records[2][1]
    path = write_ledger(tmp_path / "ledger.jsonl", records)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:-40] + b"<b>\n" + b"".join(lines[2:]))
    digest = ReportData(path).results("s").trials[0].series
    (tmp_path / "series" / f"{digest}.npz").unlink()
    assert main(["s", "--storage", str(tmp_path), "--format", "html"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "reports" / "s" / "report.html")
    page = Page((tmp_path / "reports" / "s" / "report.html").read_text())
    assert_harmless(page)
    text = "".join(page.text)
    assert "damaged and not in this report: 2." in text
    assert "2 different datasets" in text
    assert "Curves of 1 trials could not be read" in text
    assert any(row[0] == "2" and len(row) == 3 for row in page.cells)


def answers(tmp_path: Path, records: Sequence[Any], name: str) -> tuple[str, ...]:
    """Returns the sentences at the head of a report, what to do next, and the command for it."""
    data = ReportData(write_ledger(tmp_path / "ledger.jsonl", records))
    results = data.results(name)
    studies = data.studies_of(results.ranked[0]) if results.ranked and not results.is_study else []
    headline = headline_of(results, studies, Path("my runs"))
    return (*headline.answers, headline.next_step, headline.command or "")


def test_the_head_of_a_sweep_answers(tmp_path: Path) -> None:
    """Fault: another trial's numbers; a confirmation by other code, data or configuration; a command that fails."""
    records = made_sweep("s", 20, MIXED)
    done = sorted((entry for entry, _ in records if entry.done), key=lambda entry: entry.bpb or 0.0)
    best, size, ttt, sliding = done[0], done[0].artifact_bytes, done[0].rung("ttt"), done[0].rung("sliding")
    assert size is not None
    assert ttt is not None
    assert sliding is not None
    told = answers(tmp_path, records, "s")
    assert told[0].startswith(
        f"Best of 20 trials, {len(done)} of them finished: {best.bpb:.4f} BPB by trial {best.trial}"
    )
    assert told[1] == f"Bytes: {size:,} of 430,000, {430_000 - size:,} to spare ({(430_000 - size) / 430_000:.1%})."
    change = f"{sliding.bpb - ttt.bpb:.4f} BPB, from {sliding.bpb:.4f} to {ttt.bpb:.4f}"
    assert told[2] == f"Test-time training improved it by {change}."
    assert told[3].startswith("Seeds: not confirmed (none in the ledger).")
    assert told[-1] == "python run_seeds.py --from-sweep s --best --storage 'my runs'"
    assert answers(tmp_path, made_sweep("-x", 3), "-x")[-1].startswith("python run_seeds.py --from-sweep=-x ")
    seeds = [
        replace(best, sweep="st", trial=f"{seed:012x}", parameters={"seed": seed}, config={**best.config, "seed": seed})
        for seed in (1, 2, 3)
    ]
    for study in (
        seeds[:2],
        [replace(entry, code="e" * 64) for entry in seeds],
        [replace(entry, data="e" * 64) for entry in seeds],
        [replace(entry, config={**entry.config, "cap_bytes": 1}) for entry in seeds],
    ):
        assert "not confirmed" in answers(tmp_path, [*records, *study], "s")[3]
    told = answers(tmp_path, [*records, *seeds], "s")
    assert told[3].startswith(f"Seeds, in st: mean {best.bpb:.4f} BPB over 3 seeds (1, 2, 3), 95% interval ")
    assert told[-1] == "python -m tune report st --storage 'my runs'"


def test_the_head_of_other_reports_answers(tmp_path: Path) -> None:
    """Fault: a sweep without a score, or a study, whose report starts with nothing or with a claim that fails."""
    over = made_sweep("s", 3, ("infeasible", "infeasible", "failed"))
    least = min(entry.size.over_bytes for entry, _ in over if entry.size)
    told = answers(tmp_path, over, "s")
    assert told[0] == "None of 3 trials has a score: 2 over the cap, 1 failed."
    assert f"over by {least:,} bytes" in told[1]
    study = made_study("st", [1, 2, 3])
    mean = sum(entry.bpb or 0.0 for entry, _ in study) / 3
    told = answers(tmp_path, study, "st")
    assert told[0].startswith(f"Mean {mean:.4f} BPB over 3 seeds (1, 2, 3), 95% interval ")
    assert told[-2].endswith("again with --baseline.")
    told = answers(tmp_path, [*study, verdict("st", faults=())], "st")
    assert "p = 0.042. The claim does not hold." in told[3]
    gain = Gain(gain=0.02, margin=0.0031, interval=(0.01, 0.03), level=0.95, p=0.001)
    shown = Comparison(baseline="published", values=(2.43,), published=True, gain_nats=gain, gain_bpb=gain)
    told = answers(tmp_path, [*study, verdict("st", faults=(), comparison=shown)], "st")
    assert "p = 0.001. The claim holds." in told[3]
    assert told[-1] == "python -m golf submit 'my runs/studies/st'"
    told = answers(tmp_path, [*study, verdict("st", comparison=shown)], "st")
    assert "does not hold" in told[3]
    assert "seed 7 is over the cap" in told[-2]
    assert answers(tmp_path, made_study("two", [1, 2]), "two")[-2].startswith("A claim takes 3 seeds")


def test_no_digest_is_longer_than_twelve_digits(tmp_path: Path) -> None:
    """Fault: lines of hexadecimal digits that nobody reads."""
    page, markdown = report(
        tmp_path, [(replace(e, tags={"git_commit": "b" * 40}), s) for e, s in made_sweep("s", 1)], "s"
    )
    for text in ("".join(page.text), markdown):
        assert re.findall(r"\b[0-9a-f]{13,}\b", text) == []
        assert "d" * 12 in text
        assert "b" * 12 in text


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver")
def test_a_browser_sorts_the_tables_and_loads_nothing(tmp_path: Path) -> None:
    """Fault: numbers sorted as words, a policy that stops the script or lets another run, a page wider than a phone."""
    records = [
        (replace(e, name=HOSTILE[0], parameters={**e.parameters, HOSTILE[6]: 1}), s)
        for e, s in made_sweep("s", 30, MIXED)
    ]
    write_ledger(tmp_path / "ledger.jsonl", records)
    path = write_report(Storage(tmp_path), "s")[0]
    script = """const tables = [...document.querySelectorAll("table")];
        const table = tables.find(t => t.rows[0].cells[0].innerText == "trial");
        const column = [...table.rows[0].cells].findIndex(c => c.innerText.trim() == arguments[0]);
        for (let i = 0; i < arguments[1]; i++) table.rows[0].cells[column].querySelector("button").click();
        return [...table.tBodies[0].rows].map(r => r.cells[column].innerText);"""
    with open_browser(tmp_path / "profile", 420, 900) as browser:
        driver = browser.driver
        browser.open(path.as_uri())
        sizes = [entry.artifact_bytes for entry, _ in records]
        ascending = [f"{size:,}" for size in sorted(size for size in sizes if size is not None)]
        missing = ["\u2013"] * sizes.count(None)
        assert driver.execute_script(script, "bytes", 1) == [*ascending, *missing]
        assert driver.execute_script(script, "bytes", 1) == [*ascending[::-1], *missing]
        assert driver.execute_script(script, "split", 1) == sorted(e.parameters["split"] for e, _ in records)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 420
        loaded = "return performance.getEntriesByType('resource').map(e => e.name)"
        assert driver.execute_script(loaded) == []
        log = driver.get_log("browser")  # type: ignore[no-untyped-call]
        errors = [entry for entry in log if "favicon" not in entry["message"]]
        assert errors == []


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/etc/x", "", "x" * 999, "\u6f22" * 200, "a\x00b", "-x", "_", "a "])
def test_any_name_has_a_folder_of_its_own(name: str, tmp_path: Path) -> None:
    """Fault: a report outside its folder, in another's, or in a folder that the file system refuses."""
    folder = Storage(tmp_path).report(name)
    assert folder.parent == tmp_path / "reports"
    folder.mkdir(parents=True)
    assert folder.name != Storage(tmp_path).report(name + "x").name
    write_ledger(tmp_path / "ledger.jsonl", made_sweep(name, 1, ("failed",)))
    assert write_report(Storage(tmp_path), name)[0].is_file()


def test_a_baseline_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    """Fault: a baseline trial by the beginning of its id not found; several that begin so taken for one."""
    entries = [replace(entry, trial=f"{number:04x}abcdabcd") for number, (entry, _) in enumerate(made_sweep("s", 20))]
    entries += [replace(entries[0], trial="ffff00000000"), replace(entries[0], trial="ffff11111111")]
    data = ReportData(write_ledger(tmp_path / "ledger.jsonl", entries))
    results = data.results("s")
    for entry in entries:
        found = data.baseline_of(results, entry.trial[:5])
        assert found is not None
        assert found.trials[0].trial == entry.trial
    with pytest.raises(ValueError, match="begins several trials"):
        data.baseline_of(results, "ffff")
