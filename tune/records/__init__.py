"""The ledger: the source of every number, read, shown and exported."""
