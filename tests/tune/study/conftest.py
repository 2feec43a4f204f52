"""Ledgers on disk for tests of studies."""

import itertools

import pytest

from tests.tune.made_ledger import write_ledger
from tests.tune.study.made_runs import InLedger
from tune.records.ledger import Ledger


@pytest.fixture(scope="session")
def in_ledger(tmp_path_factory: pytest.TempPathFactory) -> InLedger:
    """Writes runs into a new ledger."""
    root, numbers = tmp_path_factory.mktemp("ledgers"), itertools.count()
    return lambda runs: Ledger(write_ledger(root / str(next(numbers)) / "ledger.jsonl", runs))
