"""The checklist of the rules and its proofs by running."""
