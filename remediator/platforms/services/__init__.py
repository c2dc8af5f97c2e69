"""Data services and probes: what can be asked of a database, a cache or an endpoint, and the few steps taken there.

Every address comes from the configuration, by the name of the service (`addresses.py`). Labels of alerts choose among
configured names; they never become part of an address.
"""
