"""Search a preset's step count, warmdown, quantisation split and TTT settings with Ray Tune."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import ray

from golf.data.corpus import CORPUS_NAME, documents
from golf.data.dataset import open_dataset
from golf.data.text import prepare_text
from golf.presets import PRESETS, find_preset
from tune.cluster import Workers, check_fits, start_ray
from tune.paths import Storage
from tune.space import SPACES, make_trials
from tune.sweep import DONE, SweepSettings, entries_of, run_sweep
from tune.tracking import default_uri, sync


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="run_sweep.py", description=__doc__)
    parser.add_argument("preset", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--name", help="the sweep's name (the preset's); the same name again continues it")
    parser.add_argument("--search", default="grid", help="grid or random (%(default)s)")
    parser.add_argument("--trials", type=int, help="at most so many trials")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search (%(default)s)")
    parser.add_argument("--data", type=Path, help="a prepared dataset (the built-in corpus)")
    parser.add_argument("--storage", type=Path, default=Path("storage"), help="storage root (%(default)s)")
    parser.add_argument("--address", help="a running cluster, e.g. auto; by default Ray is started here")
    parser.add_argument("--workers", type=int, default=1, help="training processes of a trial (%(default)s)")
    parser.add_argument("--cpus-per-worker", type=float, default=1.0, help="(%(default)s)")
    parser.add_argument("--gpus-per-worker", type=float, default=0.0, help="(%(default)s)")
    parser.add_argument("--concurrent", type=int, help="trials at a time (as many as there are CPUs for)")
    parser.add_argument("--tracking-uri", help="an MLflow server (a SQLite file in the storage)")
    parser.add_argument("--dry-run", action="store_true", help="print the trials and stop")
    return parser.parse_args(arguments)


def tell(event: str, trial: Any, entry: dict[str, Any] | None) -> None:
    """One line per event."""
    detail = ""
    if entry is not None:
        metrics = entry["metrics"]
        detail = (
            f"{metrics['bpb']:.4f} BPB, {metrics['artifact_bytes']:,} bytes" if "bpb" in metrics else entry["cause"]
        )
    print(f"{time.strftime('%H:%M:%S')} {event:10s} {trial.name}  {detail}", flush=True)


def print_table(entries: list[dict[str, Any]]) -> None:
    """All trials, the best first; trials over the cap and failed ones after those that fit."""
    best_first = sorted(entries, key=lambda entry: (entry["status"] != DONE, entry["metrics"].get("bpb", 0.0)))
    print(f"\n{'status':10s} {'BPB':>8s} {'bytes':>12s} {'train s':>8s}  trial")
    for entry in best_first:
        metrics = entry["metrics"]
        bpb = f"{metrics['bpb']:.4f}" if "bpb" in metrics else "-"
        size = f"{metrics['artifact_bytes']:,}" if "artifact_bytes" in metrics else "-"
        seconds = f"{metrics.get('train_seconds', 0.0):.1f}"
        print(f"{entry['status']:10s} {bpb:>8s} {size:>12s} {seconds:>8s}  {entry['name']}  {entry['cause'] or ''}")


def main(arguments: list[str]) -> int:
    """Run or continue a sweep."""
    parsed = parse(arguments)
    try:
        base, storage = find_preset(parsed.preset), Storage(parsed.storage.resolve())
        data = parsed.data.resolve() if parsed.data else storage.data / CORPUS_NAME
        if parsed.data is None:
            prepare_text(documents(), data, CORPUS_NAME)
        dataset = open_dataset(data, base.model.vocab_size)
        space = SPACES.get(parsed.preset, SPACES["pr598"])
        trials = make_trials(base, space, parsed.search, parsed.trials, parsed.seed, dataset.digest)
        if parsed.dry_run:
            for trial in trials:
                print(f"{trial.trial} {trial.config.schedule.steps:6d} steps  {trial.name}")
            return 0
        workers = Workers(parsed.workers, parsed.cpus_per_worker, parsed.gpus_per_worker)
        slots = parsed.concurrent or max(1, int((os.cpu_count() or 1) // (workers.num_workers * workers.cpus)))
        start_ray(parsed.address, None, slots)
        check_fits(workers)
        settings = SweepSettings(parsed.name or parsed.preset, parsed.preset, data, workers, slots)
        entries = run_sweep(settings, trials, storage, tell)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        ray.shutdown()
    print_table(entries)
    uri = parsed.tracking_uri or default_uri(storage.root)
    sent = sync(entries_of(settings.name, storage), uri, settings.preset)
    print(f"\n{sent.problem or f'runs: mlflow ui --backend-store-uri {uri}'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
