"""The schema, as SQLAlchemy tables. `migrations/` leads here from any released version; a test compares the two.

What is open is kept apart from what is over by partial indexes: a unique index on a random key over all history would
be the largest single cost of intake (design, section 7a).
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text, text

metadata = MetaData()

Id = BigInteger().with_variant(Integer, "sqlite")
"""SQLite makes only an INTEGER primary key the row id."""


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index over the rows that meet `where`, in both dialects."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


inbox = Table(
    "inbox",
    metadata,
    Column("id", Id, primary_key=True),
    Column("received_at", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("set_aside", Integer, nullable=False, server_default="0"),
)

episodes = Table(
    "episodes",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Text, nullable=False),
    Column("alertname", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("annotations", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("confirmed", Integer, nullable=False),
    Column("starts_at", BigInteger, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("heard_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger),
    Column("muted", Text, nullable=False, server_default=text("''")),
    Column("listed_at", BigInteger),
    Column("service", Text, nullable=False, server_default=text("''")),
    _partial("episodes_open", "key", where="state = 'open'", unique=True),
    _partial("episodes_open_name", "alertname", where="state = 'open'"),
    _partial("episodes_open_heard", "heard_at", where="state = 'open'"),
    _partial("episodes_open_service", "service", where="state = 'open'"),
    _partial("episodes_resolved_service", "service", "heard_at", where="state = 'resolved'"),
    _partial("episodes_over", "key", "id", where="state <> 'open'"),
    _partial("episodes_over_heard", "heard_at", "id", where="state <> 'open'"),
)

playbooks = Table(
    "playbooks",
    metadata,
    Column("version", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("admitted_at", BigInteger, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("episode_id", BigInteger, nullable=False),
    Column("playbook", Text, nullable=False),
    Column("playbook_version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("rung", Integer, nullable=False),
    Column("goes", Integer, nullable=False),
    Column("target", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("lease_owner", Text, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("aim", Text, nullable=False, server_default=text("''")),
    _partial("runs_live", "episode_id", where="finished_at IS NULL", unique=True),
    _partial("runs_due", "due_at", where="due_at IS NOT NULL"),
    _partial("runs_in_doubt", "id", where="finished_at IS NULL AND state = 'in_doubt'"),
    Index("runs_episode", "episode_id"),
    Index("runs_state", "state", "id"),
    _partial("runs_target", "target", "created_at", where="target <> ''"),
    _partial("runs_playbook", "playbook", "created_at", where="target <> ''"),
    _partial("runs_aimed", "created_at", "aim", where="aim <> ''"),
    _partial("runs_waiting", "reason", "target", where="state = 'waiting'"),
)

locks = Table(
    "locks",
    metadata,
    Column("target", Text, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Index("locks_run", "run_id"),
)

scopes = Table("scopes", metadata, Column("name", Text, primary_key=True))
"""What a claim decides about, as rows to lock: where several processes share the database, see `Database.lock`."""

heartbeats = Table(
    "heartbeats", metadata, Column("name", Text, primary_key=True), Column("heard_at", BigInteger, nullable=False)
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("episode_id", BigInteger, nullable=False),
    Column("playbook", Text, nullable=False),
    Column("rung", Integer, nullable=False),
    Column("target", Text, nullable=False),
    Column("score", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Index("ledger_run", "run_id", "id"),
    # promise S2: whatever the guards say, nobody sends one episode's rung twice but after the first was proven not to be
    _partial("ledger_go_once", "episode_id", "rung", "attempt", where="kind = 'go'", unique=True),
    _partial("ledger_intents_target", "target", "at", where="kind = 'intent'"),
    _partial("ledger_intents_playbook", "playbook", "at", where="kind = 'intent'"),
    _partial("ledger_intents", "at", where="kind = 'intent'"),
    _partial("ledger_results_target", "target", "id", where="kind = 'result'"),
    _partial("ledger_results_playbook", "playbook", "id", where="kind = 'result'"),
    _partial("ledger_switch", "id", where="kind = 'switch'"),
    _partial("ledger_storm", "id", where="kind = 'storm'"),
    _partial("ledger_apart", "episode_id", where="run_id = ''"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("key", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("due_at", BigInteger),
    Column("dropped_why", Text, nullable=False),
    Column("put_at", BigInteger, nullable=False, server_default="0"),
    _partial("outbox_due", "due_at", where="due_at IS NOT NULL"),
    _partial("outbox_told", "put_at", where="due_at IS NULL"),
)

releases = Table(
    "releases",
    metadata,
    Column("id", Id, primary_key=True),
    Column("workload", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Index("releases_workload", "workload", "id"),
)
