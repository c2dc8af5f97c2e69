"""Remediator: receives alerts from Alertmanager and runs guarded remediation playbooks against the workloads they name."""

__version__ = "0.1.0"
