"""For all tests: one thread a process, so that tests beside other work on two cores do not wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
