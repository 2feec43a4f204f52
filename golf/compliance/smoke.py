"""The smoke test of a reviewer: the shipped file is imported elsewhere and its model makes one pass on a CPU.

It runs in a Python process of its own, away from the project.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from golf.compliance.points import Evidence, PointResult, judged
from golf.config.config import RunConfig
from golf.pipeline.bundle import bundle, counted_code
from golf.runtime.files import write_bytes

SECONDS = 300
"""Seconds after which the import counts as failed."""
_SMOKE = """
import importlib.util, json, os, sys, time
os.environ["CUDA_VISIBLE_DEVICES"] = ""
began = time.perf_counter()
spec = importlib.util.spec_from_file_location("train_gpt", sys.argv[1])
shipped = sys.modules["train_gpt"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shipped)
imported = time.perf_counter() - began
config, shape = shipped.CONFIG, shipped.CONFIG["model"]
model = shipped.build_model(config["seed"], shipped.torch.float32)
ids = shipped.torch.arange(config["score"]["sequence_length"])[None] % shape["vocab_size"]
began = time.perf_counter()
with shipped.torch.no_grad():
    loss = float(model(ids, ids))
print(json.dumps({
    "import_seconds": imported, "forward_seconds": time.perf_counter() - began, "loss_nats": loss,
    "width": shape["model_dim"], "layers": shape["num_layers"], "vocabulary": shape["vocab_size"],
    "parameters": sum(p.numel() for p in model.parameters()),
}))
"""


def smoke(config: RunConfig) -> PointResult:
    """Shows that the counted code of a configuration imports and runs: the part of point 2 that needs no folder."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "train_gpt.py"
        write_bytes(script, counted_code(config))
        sizes: Evidence = {
            "code_bytes": script.stat().st_size,
            "code_minified_bytes": len(bundle(config).encode()),
            "code_raw_bytes": len(bundle(config, minified=False).encode()),
        }
        command = [sys.executable, "-P", "-c", _SMOKE, str(script)]
        try:
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return judged(2, False, sizes, f"train_gpt.py was not imported after {SECONDS} s")
    if done.returncode:
        return judged(2, False, sizes, f"train_gpt.py does not run: {done.stderr.strip()[-300:]}")
    facts: Evidence = json.loads(done.stdout.splitlines()[-1])
    return judged(2, math.isfinite(facts["loss_nats"]), sizes | facts, "the first loss is no number")
