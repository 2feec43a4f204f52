"""What a trial runs on: what of it changes bits, and what the shell may not change."""

import os

import msgspec
import pytest

from golf.config.config import RunConfig
from tune.cluster.ray_cluster import without_thread_numbers
from tune.cluster.workers import Workers
from tune.workloads.gepa.stages import gepa_stages


def keys(tiny: RunConfig, workers: Workers) -> list[str]:
    """The keys of a trial on these workers."""
    return gepa_stages(tiny, "data", msgspec.to_builtins(workers.world), [2]).keys


def test_what_changes_bits_is_in_the_keys(tiny: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: results of other threads or kernels are shared as equal; those of another shell's threads are not."""
    plain = keys(tiny, Workers())
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert keys(tiny, Workers()) == plain
    assert Workers(cpus=0.5).world.threads == 1
    assert not set(keys(tiny, Workers(cpus=2.0))) & set(plain)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert not set(keys(tiny, Workers())) & set(plain)


def test_a_ray_that_is_started_here_does_not_take_the_shell_s_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a limit of the shell's holds in a trial's processes, where torch cannot raise it any more."""
    given = {"OMP_NUM_THREADS": "7", "OMP_THREAD_LIMIT": "1", "MKL_NUM_THREADS": "2", "OMP_DYNAMIC": "true"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with without_thread_numbers():
        assert not set(given) & set(os.environ)
    assert {name: os.environ[name] for name in given} == given
