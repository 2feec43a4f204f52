"""Stages computed once: a workload's graph of outputs (`stage_graph`, `prefix_tree`), their keys (`fingerprint`), the
store of them in a directory or a bucket (`store`), and what fetches or computes them (`cached_runner`)."""
