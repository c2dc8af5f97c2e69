"""Prometheus rules made of the services file: what `alert_rules/` has for every service, for those that are named there.

An alert of the same name means the same in both, so that a playbook and a runbook page serve both.
"""
