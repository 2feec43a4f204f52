"""MLflow as a view of the ledger."""
