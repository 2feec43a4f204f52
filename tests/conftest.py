"""For all tests: one thread a process, a tiny run's configuration and data, one Ray.

One thread, so that tests beside other work on two cores do not wait for each other.
"""

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import ray
import torch
from ray._private.authentication_test_utils import reset_auth_token_state
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from golf.config.config import (
    BatchConfig,
    ModelConfig,
    QuantConfig,
    RunConfig,
    ScheduleConfig,
    ScoreConfig,
    TTTConfig,
)
from golf.data.text import prepare_text
from tests.planted_secrets import SECRETS
from tune.cluster.ray_cluster import start_ray, stop_ray

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
hypothesis.settings.register_profile("shared-machine", deadline=None)  # seconds there are no fault of the code
hypothesis.settings.load_profile("shared-machine")

TINY = RunConfig(
    model=ModelConfig(
        vocab_size=300,
        num_layers=2,
        model_dim=32,
        num_heads=4,
        num_kv_heads=2,
        mlp_hidden=48,
        rope_dims=4,
        rope_train_length=16,
        bigram_buckets=64,
        bigram_dim=8,
        xsa_layers=1,
        value_dim=8,
        value_layers=(1,),
    ),
    batch=BatchConfig(tokens_per_step=128, sequence_length=16),
    schedule=ScheduleConfig(steps=6, warmdown_start=3, momentum_steps=3, ema_decay=0.5),
    quant=QuantConfig(float_elements=300),
    score=ScoreConfig(sequence_length=16, stride=8, batch_windows=32, chunk_tokens=128),
    ttt=TTTConfig(lr=0.01, epochs=1, frozen_blocks=1),
    validate_every=4,
)
"""Trains in a second."""


WITH_RAY = (
    *("test_run_sweep.py", "test_run_seeds.py", "test_run_script.py", "test_toy.py", "test_failures.py"),
    *("test_sweep.py", "test_train_workers.py", "test_script_nodes.py", "test_remote_job.py"),
)
"""Files with tests that use the fixture `cluster`."""


LONGEST = (
    *("test_hygiene.py", "test_sharing.py", "test_run.py", "test_cheats.py", "test_pages.py", "test_package.py"),
    *("test_commands.py", "test_folder.py", "test_golden.py", "test_report.py", "test_tracker.py", "test_lease.py"),
)
"""Other files that take half a minute or more."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """The tests of a file run in one process, and those of all files that share the Ray."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.startswith("tests/golf/submission/test_"):
            return "submission"  # they share a study, which takes long to make
        return "ray" if file.endswith(WITH_RAY) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Returns what divides the tests among the processes."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first, so that at the end no process waits for another."""
    items.sort(key=lambda item: (item.path.name not in WITH_RAY, item.path.name not in LONGEST))


@pytest.fixture(scope="session")
def tiny() -> RunConfig:
    """The configuration."""
    return TINY


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of made-up sentences."""
    words = "the quick brown fox jumps over a lazy dog while seven wizards brew potions near old castle walls"
    texts = [
        (f"d{n}", " ".join(words.split()[(n * 7 + i * i * (n % 5 + 1)) % 18] for i in range(60))) for n in range(40)
    ]
    folder = tmp_path_factory.mktemp("data") / "words"
    prepare_text(texts, folder, "words", vocab_size=300, log=lambda line: None)
    return folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a Ray with more CPUs than there are, for bookkeeping only; its processes know secrets.

    This process is connected. A command joins with `--address` and `JOINS` in its environment.
    """
    with pytest.MonkeyPatch.context() as token:
        token.setenv("RAY_AUTH_TOKEN", SECRETS["RAY_AUTH_TOKEN"])
        reset_auth_token_state()  # another test may have made this process read a token
        with pytest.MonkeyPatch.context() as patch:
            for name, secret in SECRETS.items():
                patch.setenv(name, secret)
            # The agent that starts jobs has one fixed port, which another Ray of this machine may have.
            params = functools.partial(ray._private.parameter.RayParams, dashboard_agent_listen_port=0)
            patch.setattr(ray._private.parameter, "RayParams", params)
            start_ray(None, trial_slots=4, num_cpus=4)
        yield ray.get_runtime_context().gcs_address
        stop_ray()
