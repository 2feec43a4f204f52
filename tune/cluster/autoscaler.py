"""The resources that a cluster may grow to, with the machines that its autoscaler starts when trials wait for them.

A cluster without a GPU now may be one that starts its GPU machines for the first trial: it must not be taken for one
that never has any.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

HEAD_CONFIG = Path("~/ray_bootstrap_config.yaml")
"""The copy of the cluster file that `ray up` makes on the head."""


def grown(now: Mapping[str, float], config: Mapping[str, Any]) -> dict[str, float]:
    """Returns the most that there can be of each resource, with as many machines as the cluster file allows.

    Args:
        now: amounts that there are.
        config: the cluster file, with its node types complete.
    """
    kinds = config.get("available_node_types", {})
    workers = {name: kind for name, kind in kinds.items() if name != config.get("head_node_type")}
    most = dict(now)
    for resource in {name for kind in kinds.values() for name in kind.get("resources", {})}:
        amounts = [
            float(kind.get("resources", {}).get(resource, 0))
            for kind in workers.values()
            for _ in range(int(kind.get("max_workers", 0)))
        ]
        head = kinds.get(config.get("head_node_type"), {}).get("resources", {}).get(resource, 0)
        total = head + sum(sorted(amounts, reverse=True)[: int(config.get("max_workers", len(amounts)))])
        most[resource] = max(most.get(resource, 0.0), float(total))
    return most


def head_config(path: Path = HEAD_CONFIG) -> dict[str, Any]:
    """Returns the cluster file of the head that this process is on; an empty one on other machines."""
    try:
        content = yaml.safe_load(path.expanduser().read_text())
    except FileNotFoundError:
        return {}
    return content if isinstance(content, dict) else {}
