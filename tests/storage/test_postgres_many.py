"""Named SQL for many rows is derived from the one for a single row; what it does is the contract suite's to show."""

import pytest

from remediator.storage import episodes, runs
from remediator.storage.postgres_many import asking_many, inserting_many


def shown(sql: str) -> str:
    return " ".join(sql.split())


def test_a_row_of_parameters_becomes_rows_of_lists_in_their_order():
    one = "INSERT INTO inbox (a, b, c, d) VALUES (:x, 'new', coalesce((SELECT max(a) FROM inbox WHERE b = :y), 0), :x)"
    assert shown(inserting_many(one)) == (
        "INSERT INTO inbox (a, b, c, d) "
        "SELECT given.x, 'new', coalesce((SELECT max(a) FROM inbox WHERE b = given.y), 0), given.x "
        "FROM unnest(:x, :y) WITH ORDINALITY AS given (x, y, position) ORDER BY given.position"
    )


def test_what_is_to_be_done_in_a_conflict_stays_at_the_end():
    one = "INSERT INTO inbox (a) VALUES (:x) ON CONFLICT (a) WHERE b IS NULL DO NOTHING"
    assert shown(inserting_many(one)).endswith("ORDER BY given.position ON CONFLICT (a) WHERE b IS NULL DO NOTHING")


@pytest.mark.parametrize(
    "sql", ["INSERT INTO a (b) SELECT :b", "UPDATE a SET b = :b", "INSERT INTO a (b) VALUES (:b), (:c)  x"]
)
def test_anything_else_is_refused(sql):
    with pytest.raises(ValueError, match="not an INSERT of one row"):
        inserting_many(sql)


@pytest.mark.parametrize("sql", [episodes.INSERT, runs.ADMIT, runs.APPEND])
def test_every_statement_that_is_appended_can_take_many_rows(sql):
    assert "VALUES" not in inserting_many(sql)


def test_a_question_is_answered_for_each_of_its_lists():
    assert shown(asking_many("SELECT * FROM inbox WHERE id = :id")) == (
        "SELECT answer.* FROM unnest(:id) WITH ORDINALITY AS given (id, position) LEFT JOIN LATERAL "
        "(SELECT true AS found, each.* FROM (SELECT * FROM inbox WHERE id = given.id) AS each LIMIT 1) AS answer ON true "
        "ORDER BY given.position"
    )
