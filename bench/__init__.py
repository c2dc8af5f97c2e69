"""`python -m bench`: throughput, latency, memory and start-up of the real process, against a floor of the same run."""
