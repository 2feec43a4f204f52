"""The best model of a sweep in MLflow's model registry, which names the artifact of a run and copies nothing."""

import re
from typing import Any

from mlflow.exceptions import MlflowException

from tune.tracking.metric_names import key_of
from tune.tracking.views import quoted

BEST = "best"
"""Alias of the version that is the best now; the others were before."""
ARTIFACT_FILE = "artifact"
"""The use of the file, among those of a trial, that is registered."""


def model_name(experiment: str, sweep: str) -> str:
    """Returns the name of a sweep's model: other experiments may have a sweep of the same name."""
    name = sweep if sweep == experiment else f"{experiment}-{sweep}"
    return re.sub(r"[/:]", "_", key_of(name))


def register_best(client: Any, name: str, run: Any, file: str, description: str) -> None:
    """Makes the artifact of a run the version of a model with the alias `best`; done again, it changes nothing.

    Args: client: of MLflow; name: of the model, made when missing; run: that holds the file; file: its name there;
        description: in Markdown.
    """
    try:
        client.create_registered_model(name, description="Best artifact of a sweep, the version with the alias `best`.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    run_id = run.info.run_id
    versions = [one for one in client.search_model_versions(f"name = {quoted(name)}") if one.run_id == run_id]
    version = versions[0] if versions else None
    if version is None:
        source = f"{run.info.artifact_uri}/{file}"
        version = client.create_model_version(name, source, run_id, description=description, await_creation_for=0)
    elif version.description != description:
        client.update_model_version(name, version.version, description)
    if client.get_registered_model(name).aliases.get(BEST) != str(version.version):
        client.set_registered_model_alias(name, BEST, version.version)
