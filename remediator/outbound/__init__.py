"""The neighbours that remediator asks (Prometheus, Alertmanager) and tells (Grafana, the escalation webhook).

Every exchange goes through `exchange.py`, which bounds it and translates what may go wrong into the errors of the ports.
"""
