"""Ray on this machine, started beside the imports of a command that is certain to need it."""

import argparse
import threading
from pathlib import Path

from golf.cli.start import imported
from tune.cluster.workers import MAX_SLOTS
from tune.records.layout import Storage

_SWEEP = "tune.cli.run_sweep:run"
"""The command of a preset's sweep."""
_GPU = Path("/dev/nvidiactl")
"""There with a driver of NVIDIA GPUs: PyTorch, which knows for certain, is not imported yet."""


class EarlyRay:
    """A Ray that is being started in a thread of its own."""

    def __init__(self, worker_groups: bool) -> None:
        """Args: worker_groups: whether trials are expected to have any."""
        self._worker_groups, self._is_taken = worker_groups, False
        self._error: Exception | None = None
        self._has_imported, self._has_started, self._is_over = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._start, name="ray", daemon=True)
        self._thread.start()

    def _start(self) -> None:
        try:
            start = imported("tune.cluster.ray_cluster:start_ray")
            self._has_imported.set()
            start(None, MAX_SLOTS, worker_groups=self._worker_groups)
        except Exception as error:  # whoever takes it is told
            self._error = error
        self._has_imported.set()
        self._has_started.set()
        self._is_over.wait()  # Linux kills the processes that are to die with this one when their thread ends

    def wait_for_import(self) -> None:
        """Waits until Ray is imported: two threads cannot do that at once."""
        self._has_imported.wait()

    def take(self, worker_groups: bool) -> None:
        """Waits until Ray is up; whoever takes it ends it, and then calls `close`.

        Args: worker_groups: whether trials have any; where that was not expected, Ray is started again.
        Raises: what `start_ray` raises.
        """
        self._has_started.wait()
        self._is_taken = True
        if self._error is not None:
            raise self._error
        if worker_groups != self._worker_groups:
            imported("tune.cluster.ray_cluster:stop_ray")()
            imported("tune.cluster.ray_cluster:start_ray")(None, MAX_SLOTS, worker_groups=worker_groups)

    def close(self) -> None:
        """Ends it if nobody took it, and its thread."""
        self._has_started.wait()
        if not self._is_taken and self._error is None:
            imported("tune.cluster.ray_cluster:stop_ray")()
        self._is_over.set()
        self._thread.join()


def start_early(parsed: argparse.Namespace) -> EarlyRay | None:
    """Starts Ray for a preset's sweep on this machine that has no folder yet; in one that has, all may be done.

    Args: parsed: the command line.
    Returns: what is being started; None where Ray may not be needed.
    Raises: ValueError for a name that no folder can have.
    """
    shows = parsed.command != _SWEEP or parsed.dry_run or parsed.plan or parsed.calibrate
    if shows or parsed.address is not None:
        return None
    if Storage(parsed.storage).sweep(parsed.name or Path(parsed.preset).stem).exists():
        return None
    return EarlyRay(worker_groups=parsed.workers > 1 or _GPU.exists())
