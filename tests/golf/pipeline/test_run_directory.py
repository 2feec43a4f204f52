"""Stored results on several ranks, also where the ranks see different files.

Started by torchrun, this file is a rank with a directory of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from golf.pipeline.run_directory import compute_once, stored_result
from golf.runtime.process_group import ProcessGroup, join
from golf.runtime.results import PackedModel, read_result, write_result

ROOT = Path(__file__).resolve().parents[3]


def rank_main(root: Path) -> None:
    """One rank of two: the results that it gets, and how often it computed one."""
    with join() as group:
        path, computed = root / str(group.rank) / "pack.json", []

        def compute() -> PackedModel:
            computed.append(group.rank)
            return PackedModel(model_bytes=10 + group.rank, seconds=0.1)

        assert stored_result(path, PackedModel, "key", group) is None
        alone = compute_once(path, PackedModel, "key", group, compute, first_rank_only=True)
        again = compute_once(path, PackedModel, "key", group, compute, first_rank_only=False)
        together = compute_once(path, PackedModel, "other", group, compute, first_rank_only=False)
        assert alone == again == together == PackedModel(model_bytes=10, seconds=0.1)
        assert len(computed) == (2 if group.first else 1)
        # An old file that only the second rank sees must not part the two.
        write_result(root / "1" / "old.json", "key", alone)
        group.wait()
        assert stored_result(path.with_name("old.json"), PackedModel, "key", group) is None


@pytest.mark.long
def test_all_ranks_have_the_first_ones_result(tmp_path: Path) -> None:
    """Fault: a rank that does not see the file goes on with an empty result, or computes while the others do not."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*launcher, __file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert read_result(tmp_path / "0" / "pack.json", PackedModel, "other") == PackedModel(model_bytes=10, seconds=0.1)
    assert not (tmp_path / "1" / "pack.json").exists()


def test_a_result_that_vanishes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: a directory that another process empties gives a result without numbers."""
    monkeypatch.setattr("golf.pipeline.run_directory.write_result", lambda path, identity, result: result)
    with pytest.raises(FileNotFoundError, match=r"pack\.json was written and cannot be read back"):
        compute_once(
            tmp_path / "pack.json",
            PackedModel,
            "key",
            ProcessGroup(),
            lambda: PackedModel(model_bytes=1, seconds=0.0),
            first_rank_only=True,
        )


if __name__ == "__main__":
    rank_main(Path(sys.argv[1]))
