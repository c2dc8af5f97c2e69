"""Alembic's entry point: one connection, one transaction, so that a crash in the middle leaves the schema as it was.

The sqlite3 module would commit every CREATE by itself: it is told to leave transactions to us (SQLAlchemy documentation,
"Serializable isolation / Savepoints / Transactional DDL"). On PostgreSQL a lock lets one replica at a time look what is
to be done, and do it.
"""

from alembic import context
from sqlalchemy import NullPool, create_engine, event

from remediator.storage.schema import metadata

MIGRATING = 0x72656D656469
"""An advisory lock of this database: `remedi`."""

attributes = context.config.attributes
engine = create_engine(attributes["url"], poolclass=NullPool, **attributes.get("options", {}))
if engine.dialect.name == "sqlite":
    event.listen(engine, "connect", lambda connection, _record: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
    with context.begin_transaction():
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATING})")
        context.run_migrations()
