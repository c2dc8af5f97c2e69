"""What several directories of tests share; and how long an example takes is no property of the code, but of the machine."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import settings

from tests.postgres_databases import PostgresServer
from tests.servers import postgres_server

settings.register_profile("remediator", deadline=None)
settings.load_profile("remediator")


@pytest.fixture(scope="session")
def postgres_databases() -> Iterator[PostgresServer]:
    """One server for the whole session, started when the first test asks for a database."""
    with postgres_server(max_connections=200) as url, closing(PostgresServer(url)) as server:
        yield server
