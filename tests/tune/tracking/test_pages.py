"""MLflow's own pages, as a person sees them: a real server on SQLite and on PostgreSQL, a real browser.

What a page shows is compared with the ledger that was sent there.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mlflow import MlflowClient

from benchmarks.browser import CHROMIUM, DRIVER, Browser, free_port, mlflow_server, open_browser
from golf.runtime.results import LADDER
from golf.submission.study import StudyVerdict, Summary
from tune.records.entries import ArtifactSize, RungScore, Series, TrialEntry, TrialState, VerdictEntry
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.tracking.metric_names import LADDER_CURVE, TRAIN_LOSS, TTT_RUNNING, metric_name
from tune.tracking.tracker import attach, pages_of, runs_page, sync
from tune.tracking.views import artifact_url, compare_url, run_url, runs_url

BEGIN = 1_700_000_000.0
CAP = 1000
DATA = "d5" * 32
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
PROGRAMS = {"chromium": CHROMIUM, "chromium-driver": DRIVER, "postgresql": POSTGRES}
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),  # MLflow's tables
    pytest.mark.skipif(not all(PROGRAMS.values()), reason=f"needs the Debian packages {', '.join(PROGRAMS)}"),
]
ROWS = """
const rows = {};
for (const row of document.querySelectorAll('.ag-row')) {
  const cells = rows[row.getAttribute('row-id')] ??= {};
  for (const cell of row.querySelectorAll('[col-id]'))
    cells[cell.getAttribute('col-id').replaceAll('`', '')] = cell.innerText.trim().split('\\n').pop();
  cells.place = Number(row.getAttribute('row-index'));
}
return Object.values(rows).sort((a, b) => a.place - b.place)
"""
"""The table's rows in order: column -> text."""
PLOTS = """
return [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => (plot.data || []).map(trace =>
  ({name: trace.name || '', x: [...(trace.x || [])], y: [...(trace.y || [])]})))
"""
"""What is drawn: name, x and y of every line."""
NAME = "attributes.Run Name"


def trial(number: int, sweep: str, state: TrialState = TrialState.DONE, **parameters: Any) -> tuple[TrialEntry, Series]:
    """A trial whose numbers are unlike those of every other."""
    size = 900 + 10 * number + (200 if state == TrialState.INFEASIBLE else 0)
    rungs = tuple(
        RungScore(name=name, bpb=1.5 + 0.01 * number + 0.001 * place, nats_per_token=2.0, seconds=1.0)
        for place, name in enumerate(LADDER)
    )
    curves: dict[str, list[list[float]]] = {
        "train_loss": [[step, BEGIN + step, 6 / (1 + step) + number] for step in range(8)]
    }
    is_done = state == TrialState.DONE
    if is_done:
        curves["ttt_bpb"] = [[chunk, BEGIN + 20 + chunk, 1.6 + 0.1 * number - 0.01 * chunk] for chunk in range(5)]
    entry = TrialEntry(
        sweep=sweep,
        trial=f"{number:012x}",
        name=" ".join(f"{name.split('.')[-1]}={value}" for name, value in parameters.items()),
        preset="tiny",
        workload="gepa",
        state=state,
        reason=None if is_done else f"over the cap by {size - CAP} bytes",
        parameters=parameters,
        config={"cap_bytes": CAP, "schedule": {"steps": 100}, "model": {f"field{n}": n for n in range(50)}},
        data=DATA,
        dataset="words",
        code="c0de",
        bpb=rungs[-1].bpb if is_done else None,
        rungs=rungs if is_done else (),
        size=ArtifactSize(model_bytes=size - 100, code_bytes=100, cap_bytes=CAP),
        tags={"study": sweep} if "seed" in parameters else {},
        files={"artifact": "artifact.golf"},
        started=BEGIN + 60 * number,
        ended=BEGIN + 60 * number + 30,
    )
    return entry, Series(curves)


def made_ledger(storage: Storage) -> list[tuple[TrialEntry, Series]]:
    """Writes a small ledger: a sweep of three trials, one over the cap, and a study of three seeds with its verdict."""
    done, over = TrialState.DONE, TrialState.INFEASIBLE
    sweep = enumerate([(done, 200), (done, 300), (over, 400)])
    made = [trial(n, "night", state, **{"schedule.steps": steps, "split": "int6"}) for n, (state, steps) in sweep]
    made += [trial(n, "night-seeds", seed=seed) for n, seed in enumerate((42, 1337, 2025), start=3)]
    ledger = Ledger(storage.ledger)
    for entry, series in made:
        artifact = storage.trial(entry.sweep, entry.trial) / "artifact.golf"
        artifact.parent.mkdir(parents=True)
        artifact.write_bytes(b"weights")
        ledger.append(entry, series)
    bpb = Summary(num_values=3, mean=1.543, standard_deviation=0.01, interval=(1.51, 1.57), level=0.95)
    facts: dict[str, str | None] = {"data": DATA, "device": "cpu"}
    verdict = StudyVerdict(track="record", seeds=(42, 1337, 2025), facts=facts, bpb=bpb)
    ledger.append(VerdictEntry(study="night-seeds", verdict=verdict))
    return made


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A throw-away PostgreSQL cluster on a Unix socket; it does not run as root."""
    programs = POSTGRES[-1].parent
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    if user:
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **user)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr

    cluster = str(folder / "cluster")
    run(str(programs / "initdb"), "-D", cluster, "-U", "golf", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
    settings = f"-k {folder} -c listen_addresses= -c fsync=off"
    start = ("-D", cluster, "-l", str(folder / "log"), "-w", "-o", settings)
    run(str(programs / "pg_ctl"), *start, "start")
    try:
        run(str(programs / "createdb"), "-h", str(folder), "-U", "golf", "mlflow")
        yield f"postgresql+psycopg2://golf@/mlflow?host={folder}"
    finally:
        run(str(programs / "pg_ctl"), "-D", cluster, "-m", "immediate", "-w", "stop")


@dataclass(frozen=True)
class Pages:
    """A server that holds the ledger, with a browser."""

    browser: Browser
    address: str
    experiment: str
    made: Sequence[tuple[TrialEntry, Series]]

    def name(self, number: int) -> str:
        """Name of a trial."""
        return self.made[number][0].name

    def runs(self, *numbers: int) -> list[str]:
        """Ids of the runs of some trials."""
        runs = MlflowClient(self.address).search_runs([self.experiment])
        by_trial = {run.data.tags.get("trial"): run.info.run_id for run in runs}
        return [by_trial[f"{number:012x}"] for number in numbers]

    def parent(self) -> str:
        """Id of the study's run."""
        (run,) = MlflowClient(self.address).search_runs([self.experiment], "tags.kind = 'study'")
        return str(run.info.run_id)

    def curve(self, number: int, name: str) -> list[list[float]]:
        """Steps and values of a trial's curve in the ledger; for its ladder, rung by rung."""
        entry, series = self.made[number]
        if name == LADDER_CURVE:
            return [[*range(len(LADDER))], [rung.bpb for rung in entry.rungs]]
        (points,) = (points for own, points in series.curves.items() if metric_name(own) == name)
        return [points[:, 0].tolist(), points[:, 2].tolist()]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all pages, tall enough that MLflow draws every chart."""
    with open_browser(tmp_path_factory.mktemp("profile"), 1500, 2400) as opened:
        yield opened


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def pages(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pages]:
    """Every test runs against both databases."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    short = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path is short and another user's
    try:
        with contextlib.ExitStack() as stack:
            uri = f"sqlite:///{folder / 'mlflow.db'}"
            if request.param == "postgresql":
                uri = stack.enter_context(postgres(short))
            stack.enter_context(mlflow_server(uri, folder, port))
            address, storage = f"http://127.0.0.1:{port}", Storage(folder)
            made = made_ledger(storage)
            result = sync(Ledger(storage.ledger).records(), address, "tiny", storage)
            assert (result.sent, result.failed, result.problem) == (7, 0, None)
            browser.visit(address)
            experiment = MlflowClient(address).get_experiment_by_name("tiny").experiment_id
            yield Pages(browser, address, experiment, made)
    finally:
        shutil.rmtree(short, ignore_errors=True)


def drawn(browser: Browser, name: str, expected: list[list[float]]) -> None:
    """Wait until a line of that run is drawn through exactly these points."""
    found = f"const want = JSON.stringify(arguments[1]); return ({{lines: (() => {{{PLOTS}}})()}}).lines.some("
    found += "line => line.name.includes(arguments[0]) && JSON.stringify([line.x, line.y]) === want)"
    browser.until(found, name, expected)


def test_the_table_shows_names_scores_and_searched_fields(pages: Pages) -> None:
    """Fault: the page that the sweep prints shows no metric, other runs, or the best one somewhere."""
    pages.browser.open(pages_of(pages.address, pages.address, "tiny", "night")[0])
    script = f"const rows = (() => {{{ROWS}}})(); return rows.length == 3 && rows[0]['metrics.bpb'] && rows"
    rows = pages.browser.until(script)
    assert [row[NAME] for row in rows] == [pages.name(number) for number in range(3)]
    assert [float(row["metrics.bpb"]) for row in rows[:2]] == [pages.made[number][0].bpb for number in range(2)]
    assert [row["metrics.bytes/margin"] for row in rows] == ["100", "90", "-120"]
    assert [row["params.schedule.steps"] for row in rows] == ["200", "300", "400"]
    assert [row["tags.state"] for row in rows] == ["finished", "finished", "over the cap"]


def test_the_printed_pages_in_a_fresh_browser(pages: Pages, tmp_path: Path) -> None:
    """Fault: who has never opened MLflow lands on its pages for language-model applications, or sees no report."""
    report = tmp_path / "report.html"
    report.write_text("<h1>Sweep night</h1>")
    assert attach(pages.address, "tiny", "night", [report]) is None
    table, page = pages_of(pages.address, pages.address, "tiny", "night")
    assert runs_page(pages.address, "tiny", "night") == f"in a browser: {table}\nits report: {page}"
    with open_browser(tmp_path / "profile", 1500, 1000) as fresh:
        fresh.driver.get(table)
        rows = fresh.until(
            f"const rows = (() => {{{ROWS}}})(); return rows.length == 3 && rows[0]['tags.state'] && rows"
        )
        assert [row["tags.state"] for row in rows] == ["finished", "finished", "over the cap"]
        fresh.open(page)
        frame = fresh.until("return document.querySelector('iframe')")
        fresh.driver.switch_to.frame(frame)
        assert fresh.until("return document.body.innerText.includes('Sweep night')")


def test_the_filter_for_finished_runs(pages: Pages) -> None:
    """Fault: trials over the cap are taken for valid ones, or valid ones are not found."""
    pages.browser.open(runs_url(pages.address, pages.experiment, "night"))
    pages.browser.until(f"return (() => {{{ROWS}}})().length == 3")
    finished = "tags.state = 'finished' and tags.kind = 'trial' and tags.sweep = 'night'"
    pages.browser.type_into("input[placeholder^='metrics.rmse']", finished)
    rows = pages.browser.until(f"const rows = (() => {{{ROWS}}})(); return rows.length == 2 && rows")
    assert [row[NAME] for row in rows] == [pages.name(0), pages.name(1)]


def test_the_charts_draw_ladder_and_curves(pages: Pages) -> None:
    """Fault: the chart page draws single figures only, or leaves out a run."""
    pages.browser.open(runs_url(pages.address, pages.experiment, "night", charts=True))
    for number in (0, 1):
        for curve in (LADDER_CURVE, TRAIN_LOSS, TTT_RUNNING):
            drawn(pages.browser, pages.name(number), pages.curve(number, curve))
    drawn(pages.browser, pages.name(2), pages.curve(2, TRAIN_LOSS))


def test_two_configurations_compared(pages: Pages) -> None:
    """Fault: the compare page does not show what differs, the ladder of both, or the curves behind its links."""
    pages.browser.open(compare_url(pages.address, pages.experiment, pages.runs(0, 1)))
    text = pages.browser.until("const t = document.body.innerText; return t.includes('bpb/ttt') && t")
    for number in (0, 1):
        for rung in pages.made[number][0].rungs:
            assert f"{rung.bpb:.3f}".rstrip("0") in text
    compared = pages.browser.driver.current_url
    for curve in (LADDER_CURVE, TRAIN_LOSS):
        pages.browser.open(compared)
        pages.browser.click("a[href*='/metric']", curve)
        for number in (0, 1):
            drawn(pages.browser, pages.name(number), pages.curve(number, curve))


def test_a_study_opens_to_its_seeds(pages: Pages) -> None:
    """Fault: seeds stand beside their study instead of below it, or the study's page does not lead to them."""
    pages.browser.open(runs_url(pages.address, pages.experiment))
    names = f"return (() => {{{ROWS}}})().map(row => row['{NAME}'])"
    closed = pages.browser.until(f"const found = (() => {{{names}}})(); return found.length == 2 && found")
    assert closed == ["night-seeds", "night"]
    pages.browser.click(".ag-row [role=button], .ag-row button")
    opened = pages.browser.until(f"const found = (() => {{{names}}})(); return found.length == 5 && found")
    assert sorted(opened[1:4]) == [f"seed={seed} night-seeds" for seed in (1337, 2025, 42)]
    pages.browser.open(run_url(pages.address, pages.experiment, pages.parent()))
    text = pages.browser.until("const t = document.body.innerText; return t.includes('seed=42') && t")
    for shown in ("1.5430 BPB", "seed=42", "seed=1337", "seed=2025", "bpb/mean", "words"):
        assert shown in text


def test_a_run_says_what_it_is(pages: Pages) -> None:
    """Fault: a run's page lacks its description, its dataset or its files."""
    (run,) = pages.runs(0)
    pages.browser.open(run_url(pages.address, pages.experiment, run))
    text = pages.browser.until("const t = document.body.innerText; return t.includes('Datasets') && t")
    for shown in ("1.5040 BPB", "900 bytes, 100 below the cap", "schedule.steps = 200", f"words ({DATA[:8]}"):
        assert shown in text
    pages.browser.open(artifact_url(pages.address, pages.experiment, run, ""))
    assert pages.browser.until("return document.body.innerText.includes('artifact.golf')")


def test_addresses_are_encoded(pages: Pages) -> None:
    """Fault: a sweep's name with a space or a slash opens no view."""
    name = "two words/50 %"
    assert sync([msgspec.structs.replace(pages.made[0][0], sweep=name)], pages.address, "odd").problem is None
    experiment = MlflowClient(pages.address).get_experiment_by_name("odd").experiment_id
    pages.browser.open(runs_url(pages.address, experiment, name))
    rows = pages.browser.until(f"const rows = (() => {{{ROWS}}})(); return rows.length == 1 && rows")
    assert rows[0]["metrics.bpb"]
