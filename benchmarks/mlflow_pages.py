"""Pictures of MLflow's own pages, made from a ledger: what a person sees who opens MLflow after a sweep and its seeds.

    python -m benchmarks.mlflow_pages storage/ledger.jsonl docs

Writes `mlflow-table.png`, `mlflow-chart.png`, `mlflow-compare.png` and `mlflow-study.png`. The server and its database
live as long as the run. Nothing on a page is changed but what floats over it.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from PIL import Image

from benchmarks.browser import Browser, free_port, mlflow_server, open_browser
from tune.records.entries import Record, TrialEntry, VerdictEntry, latest
from tune.records.layout import Storage
from tune.records.ledger import Ledger
from tune.tracking.metric_names import LADDER_CURVE, TTT_RUNNING
from tune.tracking.tracker import sync
from tune.tracking.views import compare_url, run_url, runs_url

EXPERIMENT = "demo"
WIDTH, WIDE = 1400, 1800
_CALM = """
for (const one of document.querySelectorAll('.modebar, button')) {
  let above = one;
  while (above && getComputedStyle(above).position !== 'fixed') above = above.parentElement;
  if (above || one.matches('.modebar')) one.style.display = 'none';
}
"""
"""Plots' tools and the assistant's button lie over what is to be seen."""


@dataclass(frozen=True)
class Subject:
    """What the pictures show."""

    sweep: str
    study: str | None
    pair: tuple[str, str] | None
    """Trials to compare."""


def subject_of(records: Sequence[Record], pair: Sequence[str] | None) -> Subject:
    """The sweep with most trials, the last study with a verdict, and two trials of different configurations."""
    studies = [record.study for record in records if isinstance(record, VerdictEntry)]
    trials = latest(records)
    sweeps = [entry.sweep for entry in trials if entry.sweep not in studies]
    done = sorted((entry for entry in trials if entry.done), key=lambda entry: (entry.sweep in studies, entry.bpb))
    pairs = [(one, other) for one, other in combinations(done, 2) if _recipe(one) != _recipe(other)]
    # Of one seed, or the picture shows the seeds' difference.
    alike = next((both for both in pairs if both[0].seed == both[1].seed), None)
    if pair is None and pairs:
        one, other = alike or pairs[0]
        pair = (one.trial, other.trial)
    sweep = max(sweeps, key=sweeps.count) if sweeps else studies[-1]
    return Subject(sweep, studies[-1] if studies else None, None if pair is None else (pair[0], pair[1]))


def _recipe(entry: TrialEntry) -> dict[str, Any]:
    return {name: value for name, value in entry.config.items() if name != "seed"}


def take(browser: Browser, url: str, ready: str, height: int, width: int = WIDTH) -> Image.Image:
    """The page once `ready` holds and its plots stand still."""
    browser.resize(width, height)
    browser.open(url)
    browser.until(ready)
    return picture(browser)


def picture(browser: Browser) -> Image.Image:
    """The page as it is, once it stands still."""
    browser.settle(_CALM)
    return Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB")


def below(parts: Sequence[Image.Image], gap: int = 6) -> Image.Image:
    """The parts one below the other."""
    whole = Image.new("RGB", (parts[0].width, sum(part.height + gap for part in parts) - gap), "black")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height + gap
    return whole


def save(image: Image.Image, path: Path) -> None:
    """Write a small PNG."""
    image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {image.width} x {image.height}, {path.stat().st_size:,} bytes")


def shoot(browser: Browser, address: str, subject: Subject, records: Sequence[Record], out: Path) -> None:
    """Take all pictures."""
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    runs = client.search_runs([experiment])
    done = [entry.sweep for entry in latest(records) if entry.done]
    row, plots = (
        "return document.querySelector('.ag-row')",
        "return document.querySelectorAll('.js-plotly-plot').length",
    )
    save(take(browser, runs_url(address, experiment, subject.sweep), row, 600, WIDE), out / "mlflow-table.png")
    charts = runs_url(address, experiment, max(dict.fromkeys(done), key=done.count), charts=True)
    save(take(browser, charts, f"{plots} >= 4", 1130), out / "mlflow-chart.png")
    by_trial = {run.data.tags.get("trial"): run.info.run_id for run in runs}
    if subject.pair is not None:
        page = compare_url(address, experiment, [by_trial[trial] for trial in subject.pair])
        take(browser, page, "return document.body.innerText.includes('bpb/ttt')", 1790)
        browser.click("label, button[role=switch]", "Show diff only")
        browser.driver.execute_script("for (const one of document.querySelectorAll('*')) one.scrollTop = 0")
        parts = [picture(browser)]
        browser.click("a[href*='/metric']", LADDER_CURVE)
        ladder = f"{browser.driver.current_url}&workflowType=machine_learning".replace(
            "show_point=false", "show_point=true"
        )
        for metric in (ladder, ladder.replace(quote(LADDER_CURVE, safe=""), quote(TTT_RUNNING, safe=""))):
            parts.append(take(browser, metric, f"{plots} >= 1", 500))
        save(below(parts), out / "mlflow-compare.png")
    parents = {run.data.tags["study"]: run.info.run_id for run in runs if run.data.tags["kind"] == "study"}
    if subject.study is not None:
        browser.resize(WIDTH, 480)
        browser.open(runs_url(address, experiment))
        browser.click(".ag-row [role=button], .ag-row button")
        browser.until("return document.querySelectorAll('.ag-center-cols-container .ag-row').length > 3")
        tree = picture(browser)
        page = run_url(address, experiment, parents[subject.study])
        study = take(browser, page, "return document.body.innerText.includes('Child runs')", 800)
        save(below([tree, study]), out / "mlflow-study.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the ledger's trials, look at them, end the server."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.mlflow_pages", allow_abbrev=False, description=__doc__.partition("\n")[0]
    )
    parser.add_argument("ledger", type=Path)
    parser.add_argument("out", type=Path, help="folder of the pictures")
    parser.add_argument("--compare", nargs=2, metavar="TRIAL", help="ids (two of the best)")
    parser.add_argument("--without", nargs="*", default=[], metavar="SWEEP", help="sweeps to leave out")
    parsed = parser.parse_args(arguments)
    records = Ledger(parsed.ledger).records()
    records = [r for r in records if not (isinstance(r, TrialEntry) and r.sweep in parsed.without)]
    parsed.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        address = f"http://127.0.0.1:{port}"
        with (
            mlflow_server(f"sqlite:///{folder / 'mlflow.db'}", folder, port),
            open_browser(folder / "profile", WIDTH, 800) as browser,
        ):
            print(sync(records, address, EXPERIMENT, Storage(parsed.ledger.parent)))
            browser.visit(address)
            shoot(browser, address, subject_of(records, parsed.compare), records, parsed.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
