"""Sessions of a PostgreSQL that may be ended by others: closing them is not an error then."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg


@asynccontextmanager
async def client(address: str, application: str = "api") -> AsyncIterator[psycopg.AsyncConnection]:
    connection = await psycopg.AsyncConnection.connect(address, application_name=application, autocommit=True)
    try:
        yield connection
    finally:
        await connection.close()
