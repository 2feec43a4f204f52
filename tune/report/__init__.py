"""Reports of a sweep or a seed study, made from the ledger alone: `python -m tune report`."""
