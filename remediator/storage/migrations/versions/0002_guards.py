"""What the later guards ask: silences, aims of runs, storms, approvals; S2's key moves from the intent to the go.

And what retention asks: what is over, what belongs to no run, what was told."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("episodes", sa.Column("muted", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.add_column("episodes", sa.Column("listed_at", sa.BigInteger(), nullable=True))
    _index("episodes_over_heard", "episodes", "heard_at", "id", where="state <> 'open'")
    op.add_column("runs", sa.Column("aim", sa.Text(), server_default=sa.text("''"), nullable=False))
    _index("runs_playbook", "runs", "playbook", "created_at", where="target <> ''")
    _index("runs_aimed", "runs", "created_at", "aim", where="aim <> ''")
    _index("runs_waiting", "runs", "reason", "target", where="state = 'waiting'")
    op.create_table("scopes", sa.Column("name", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("name"))
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("heard_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("ledger", sa.Column("attempt", sa.Integer(), server_default="0", nullable=False))
    # Of a rung that was sent several times, each but the last was proven not to have happened.
    op.execute(
        "UPDATE ledger SET attempt = (SELECT count(*) FROM ledger AS earlier WHERE earlier.kind = 'go'"
        " AND earlier.episode_id = ledger.episode_id AND earlier.rung = ledger.rung AND earlier.id <= ledger.id)"
        " WHERE kind = 'go'"
    )
    op.drop_index("ledger_intent_once", table_name="ledger")
    _index("ledger_go_once", "ledger", "episode_id", "rung", "attempt", where="kind = 'go'", unique=True)
    _index("ledger_storm", "ledger", "id", where="kind = 'storm'")
    _index("ledger_apart", "ledger", "episode_id", where="run_id = ''")
    op.add_column("outbox", sa.Column("put_at", sa.BigInteger(), server_default="0", nullable=False))
    # Nobody wrote it down: as late as anything on record, so that what was told is kept for as long as it must be.
    op.execute("UPDATE outbox SET put_at = coalesce((SELECT max(at) FROM ledger), 0)")
    _index("outbox_told", "outbox", "put_at", where="due_at IS NULL")


def _index(name: str, table: str, *columns: str, where: str, unique: bool = False) -> None:
    op.create_index(name, table, list(columns), unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
