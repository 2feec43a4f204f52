"""What each lever of the April recipe gives the demo: a study of three seeds for each, against the demo's own.

The levers are tried alone, then those that helped together, by run_seeds.py on the demo's data, steps and windows; only
the cap is lifted, so that no study ends before its scores. The preset demo-april, which has most of them, stands last.
The p-value is the one-sided one of run_seeds.py without a margin: of that many comparisons some are small by chance.
Prints a table and, at the end, one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from golf.config.presets import PRESETS
from golf.submission.study import StudyRecord
from golf.submission.study_file import read_study
from tune.records.layout import Storage

ROOT = Path(__file__).resolve().parents[1]
APRIL = PRESETS["demo-april"]
GRID = {"symmetric": True, "clip": "sample_deviations", "deviations": 12.85, "method": "gptq"}
LEVERS: dict[str, dict[str, object]] = {
    "mlp-4x": {"model.mlp_hidden": 384},
    "leaky-relu": {"model.activation": "leaky_relu_squared"},
    "xsa-everywhere": {"model.xsa_layers": 4},
    "query-gain": {"model.query_gain_init": 5.25},
    "loop": {"model.loop": {"first_layer": 1, "last_layer": 2, "times": 2}, "schedule.loop_start": 0.35},
    "parallel": {"model.parallel_from": 3},
    "row-norm": {"optimizer.muon_row_norm": True},
    "polar-express": {"optimizer.newton_schulz": "polar_express"},
    "one-rate": {
        "optimizer.matrix_lr": 0.022,
        "optimizer.scalar_lr": 0.02,
        "optimizer.embedding_lr": 0.03,
        "optimizer.decoder_lr_multiplier": 1.0,
    },
    "decay": {"optimizer.weight_decay": {"matrices": 0.095, "embedding": 0.085, "others": 0.02}},
    "decay-taper": {"schedule.decay_taper_start": 0.7},
    "warmdown-72": {"schedule.warmdown_fraction": 0.72},
    "no-qat": {"schedule.qat_threshold": None},
    "stream": {"batch.order": "stream"},
    "no-tables": {
        "model.bigram_buckets": None,
        "model.value_dim": None,
        "model.value_layers": [],
        "model.smear_gate": False,
    },
    "input-smear": {"model.smear_gate": False, "model.input_smear": {}},
    "attention-gate": {"model.attention_gate": {}},
    "gptq-deviations": {"quant.attention": GRID, "quant.mlp": GRID},
    "embedding-gptq": {"quant.token_embedding": GRID | {"bits": 8, "deviations": 20.0}},
    "embedding-7-bits": {"quant.token_embedding": GRID | {"bits": 7, "deviations": 15.0}},
    "correction": {"quant.correction": {}},
    "ttt-unfrozen": {"ttt.frozen_blocks": 0},
}
"""Name -> the fields that it changes; `{}` is a part with its defaults."""


def study(
    storage: Path,
    name: str,
    fields: dict[str, object],
    seeds: list[int],
    baseline: str | None = "demo-levers",
    preset: str = "demo",
) -> StudyRecord:
    """Runs one study and returns its record; the same again reads what is there."""
    settings = [f"{path}={json.dumps(value)}" for path, value in ({"cap_bytes": 10**6} | fields).items()]
    against = [] if baseline is None else ["--baseline", baseline, "--margin-nats", "0"]
    command = [sys.executable, str(ROOT / "run_seeds.py"), preset, "--name", name, "--storage", str(storage)]
    command += [*against, "--seeds", *map(str, seeds), "--set", *settings]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}{done.stdout[-2000:]}")
    return read_study(Storage(storage).study(name))


def row(record: StudyRecord) -> dict[str, float | None]:
    """Returns mean BPB, mean gain over the demo, its p-value and the mean artifact bytes of a study."""
    verdict = record.verdict
    assert verdict.bpb is not None
    test = verdict.comparison
    sizes = [run.artifact_bytes for run in record.sized if run.artifact_bytes is not None]
    return {
        "bpb": verdict.bpb.mean,
        "gain_bpb": None if test is None else test.gain_bpb.gain,
        "p": None if test is None else test.gain_bpb.p,
        "bytes": sum(sizes) / len(sizes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1337, 2025])
    parser.add_argument("--levers", nargs="+", choices=LEVERS, default=list(LEVERS), metavar="LEVER")
    parser.add_argument("--storage", type=Path, help="kept between calls (a temporary one)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = given.storage or Path(folder)
        rows = {"demo": row(study(storage, "demo-levers", {}, given.seeds, baseline=None))}
        for name in given.levers:
            rows[name] = row(study(storage, name, LEVERS[name], given.seeds))
            print(name, rows[name], file=sys.stderr, flush=True)
        helped = [name for name in given.levers if (rows[name]["gain_bpb"] or 0) > 0]
        together = {path: value for name in helped for path, value in LEVERS[name].items()}
        rows["all that helped"] = row(study(storage, "together", together, given.seeds))
        everything = {path: value for name in given.levers for path, value in LEVERS[name].items()}
        rows["all"] = row(study(storage, "all", everything, given.seeds))
        rows["demo-april"] = row(study(storage, "demo-april", {}, given.seeds, preset="demo-april"))
    print("| lever | BPB | gain | p | artifact bytes |\n|---|---|---|---|---|")
    for name, values in rows.items():
        gain, p = (("" if values[key] is None else f"{values[key]:{form}}") for key, form in GAIN_FORMS)
        print(f"| {name} | {values['bpb']:.4f} | {gain} | {p} | {values['bytes']:,.0f} |")
    print(json.dumps({"seeds": given.seeds, "helped": helped, "rows": rows}))


GAIN_FORMS = (("gain_bpb", "+.4f"), ("p", ".2g"))

if __name__ == "__main__":
    main()
