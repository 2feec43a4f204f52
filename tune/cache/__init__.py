"""The store of stage results: computed once however many ask."""
