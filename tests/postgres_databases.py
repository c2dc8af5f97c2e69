"""Databases for tests: one server a test session, one fresh database a test, made in some milliseconds from a template."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import psycopg
from psycopg import sql

from remediator.storage.address import PostgresAddress
from remediator.storage.migrate import upgrade

TEMPLATE = "migrated"


class PostgresServer:
    """`url` is the address of its superuser's database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = count(1)
        self._admin = psycopg.connect(url, autocommit=True)
        self._create(TEMPLATE, "template0")
        upgrade(self.address(TEMPLATE))

    @contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[PostgresAddress]:
        """A database of its own, with the schema unless another template is named; dropped whoever still uses it."""
        name = f"test_{next(self._numbers)}"
        self._create(name, template)
        try:
            yield self.address(name)
        finally:
            self._admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def address(self, database: str) -> PostgresAddress:
        return PostgresAddress(f"{self.url.rpartition('/')[0]}/{database}")

    def close(self) -> None:
        self._admin.close()

    def _create(self, name: str, template: str) -> None:
        self._admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
