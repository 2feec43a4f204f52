"""A cluster that has no GPU yet."""

from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config

from tune.cluster.autoscaler import grown, head_config

ROOT = Path(__file__).resolve().parents[3]


def test_a_cluster_without_gpus_may_get_some() -> None:
    """Fault: a sweep on a fresh cluster runs on the head's CPUs, or is refused for want of GPUs."""
    config = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    most = grown({"CPU": 8.0, "trial_slot": 64.0}, config)
    assert most["GPU"] == 8 * config["max_workers"]  # two kinds of machines, one limit for both
    assert most["CPU"] == 8 + 96 * config["max_workers"]
    assert most["trial_slot"] == 64


def test_machines_that_are_there_count() -> None:
    """Fault: what a person added by hand is forgotten, or machines without a file are taken for none."""
    assert grown({"CPU": 2.0, "GPU": 3.0}, {}) == {"CPU": 2.0, "GPU": 3.0}
    config = {"max_workers": 1, "available_node_types": {"a": {"resources": {"GPU": 1}, "max_workers": 1}}}
    assert grown({"GPU": 3.0}, config)["GPU"] == 3.0


def test_other_machines_have_no_file(tmp_path: Path) -> None:
    """Fault: a command on a laptop needs the head's file."""
    assert head_config(tmp_path / "nothing.yaml") == {}
