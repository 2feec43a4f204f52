"""The load of this machine beside a trial's curves, as MLflow itself logs it: all else in MLflow is in the ledger."""

from mlflow import environment_variables as mlflow_settings
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor


def wants_system_metrics(has_gpu: bool) -> bool:
    """Returns what MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING says; where it is not set, whether there is a GPU."""
    setting = mlflow_settings.MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
    return bool(setting.get()) if setting.is_set() else has_gpu


def log_system_metrics(uri: str, run_id: str) -> None:
    """Logs CPU, memory, disk, network and GPUs of this machine as `system/...`.

    A thread of MLflow's does it every ten seconds until the run has ended; it gives up when MLflow is away.
    """
    SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri).start()
