"""A temporary folder for child processes; a reaper removes it with them when this process ends, however it does.

A shell waits for the end of this process, a kill -9 too, ends every process that has the folder as its TMPDIR, and
removes it: some of Ray's processes live on for minutes after a driver that was killed. Those that gave themselves a
title ("ray::...") have written it over their environment: they are known by files in the folder that they hold open.
"""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LONGEST_PARENT = 16
"""Characters of a parent folder below which the paths of Ray's sockets stay within the 107 that a system takes."""
_SCRIPT = """
read -r line
for turn in 1 2 3 4 5 6 7 8 9; do
  found=$(grep -lsxzF "TMPDIR=$1" /proc/[0-9]*/environ)
  for file in $(find /proc/[0-9]*/fd -maxdepth 1 -lname "$1/*" 2>/dev/null); do
    case $(tr '\\0' ' ' <"${file%/fd/*}/cmdline") in ray::*) found="$found $file" ;; esac
  done
  for file in $found; do pid=${file#/proc/}; kill -9 "${pid%%/*}" 2>/dev/null; done
  rm -rf "$1"
  if [ -z "$found" ] && [ ! -e "$1" ]; then exit; fi
  sleep 0.3
done
"""
"""Ends processes and removes the folder; its input ends with this process."""


class ReapedDirectory:
    """A temporary folder and its reaper."""

    def __init__(self, prefix: str) -> None:
        """Makes the folder. Args: prefix: of its name, short."""
        parent = tempfile.gettempdir()
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent if len(parent) <= _LONGEST_PARENT else "/tmp"))
        self._reaper = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sh", str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # Ctrl-C reaches all processes of the terminal's
        )

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Makes it the temporary folder of processes that are started inside `with`."""
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(self.path)
        try:
            yield
        finally:
            del os.environ["TMPDIR"]
            if before is not None:
                os.environ["TMPDIR"] = before

    def remove(self) -> None:
        """Ends the processes that still use it, and removes it."""
        self._reaper.communicate()
