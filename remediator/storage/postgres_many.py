"""One statement for many rows: named SQL for one set of parameters in, named SQL for lists of them out. Pure.

A statement costs the driver some 60 µs, whatever it does; a storm of alerts is the same three statements ten thousand
times. Lists travel as arrays and become rows again in the database.
"""

import re

_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")
_INSERT = re.compile(r"\s*(?P<into>INSERT INTO .*?)\bVALUES\s*\((?P<row>.*?)\)\s*(?P<conflict>ON CONFLICT .*)?", re.DOTALL)


def inserting_many(sql: str) -> str:
    """For an `INSERT … VALUES (…)` of one row. Rows get their ids in the order of the lists.

    Raises ValueError for anything else.
    """
    parts = _INSERT.fullmatch(sql.rstrip())
    if parts is None:
        raise ValueError(f"not an INSERT of one row: {sql}")
    names = _names(parts["row"])
    row = _PARAMETER.sub(r"given.\1", parts["row"])
    return f"{parts['into']}SELECT {row} {_given(names)} ORDER BY given.position {parts['conflict'] or ''}"


def asking_many(sql: str) -> str:
    """For a question: a row for each set of parameters, in order. `found` is null where there was no answer."""
    names = _names(sql)
    one = _PARAMETER.sub(r"given.\1", sql)
    answer = f"(SELECT true AS found, each.* FROM ({one}) AS each LIMIT 1)"  # noqa: S608 - both are texts of this package
    return f"SELECT answer.* {_given(names)} LEFT JOIN LATERAL {answer} AS answer ON true ORDER BY given.position"


def _names(sql: str) -> list[str]:
    return list(dict.fromkeys(_PARAMETER.findall(sql)))


def _given(names: list[str]) -> str:
    lists, columns = ", ".join(f":{name}" for name in names), ", ".join(names)
    return f"FROM unnest({lists}) WITH ORDINALITY AS given ({columns}, position)"
