"""The only package that imports Ray: clusters, worker groups, retries, spot notices, the sweep driver."""
