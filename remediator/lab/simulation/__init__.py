"""Deterministic simulation: the real main path, worker, intake and store code among neighbours that fail, lie and crash.

`story.py` is one seed; read it first. `promises.py` is what must hold. Everything that happens follows from the seed.
"""
