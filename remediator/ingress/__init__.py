"""Everything that comes in over HTTP: alerts (`webhook.py`), people's commands (`api.py`), and who may (`auth.py`)."""
