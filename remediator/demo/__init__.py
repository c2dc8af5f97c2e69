"""`remediator demo`: break a small service on this machine and watch the real remediator repair it.

`show.py` is the play from beginning to end. The stage takes what the machine offers: with a Docker engine the service is
a container, otherwise a process under the command platform; with Prometheus and Alertmanager on the PATH they are the
real chain, otherwise the demo posts the same messages itself, and says so.
"""
