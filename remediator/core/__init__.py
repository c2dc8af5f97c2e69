"""The decision core. Pure: standard library only; no await, no clock, no environment, no logging, no I/O.

Read `decide.py` first, then `guards/`; `run.py` is the life of what was decided.
"""
