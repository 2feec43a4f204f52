"""The checklist of the rules, its proofs by running, and the check of record folders."""
