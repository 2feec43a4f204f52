"""A folder for the temporary files of processes that are started here; both go when this process ends, however it does.

Nothing enters but the system's temporary folder; a short path leaves. A shell waits for the end of this process, a
kill -9 too, ends every process that has the folder as its TMPDIR, and removes it: some of Ray's processes live on for
minutes after a driver that was killed. Must know nothing of Ray.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LONGEST_PLACE = 16
"""Characters of a temporary folder in which the paths of Ray's sockets stay below the 107 that a system takes."""
_SCRIPT = """
read -r line
for turn in 1 2 3 4 5 6 7 8 9; do
  found=$(grep -lsxzF "TMPDIR=$1" /proc/[0-9]*/environ)
  for file in $found; do pid=${file#/proc/}; kill -9 "${pid%/environ}"; done
  rm -rf "$1"
  if [ -z "$found" ] && [ ! -e "$1" ]; then exit; fi
  sleep 0.3
done
"""
"""Its input ends with this process."""


class ReapedDirectory:
    """The folder and its keeper."""

    def __init__(self, prefix: str) -> None:
        """Make it. Args: prefix: of its name, short."""
        place = tempfile.gettempdir()
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=place if len(place) <= _LONGEST_PLACE else "/tmp"))
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sh", str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # Ctrl-C reaches all processes of the terminal's
        )

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """What is started inside `with` has it as its temporary folder."""
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(self.path)
        try:
            yield
        finally:
            del os.environ["TMPDIR"]
            if before is not None:
                os.environ["TMPDIR"] = before

    def remove(self) -> None:
        """End what still uses it, and remove it."""
        self._keeper.communicate()
