"""The store: one SQL schema and one set of statements; SQLite here, PostgreSQL to come behind the same `ports.Store`.

`sqlite.py` owns the connection and the transactions; `ledger.py` names the parts; each part is one file of named SQL.
"""
