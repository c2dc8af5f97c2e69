"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "episodes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("alertname", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("annotations", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("confirmed", sa.Integer(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("heard_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "episodes_open",
        "episodes",
        ["key"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "episodes_open_name",
        "episodes",
        ["alertname"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "episodes_open_heard",
        "episodes",
        ["heard_at"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "episodes_over",
        "episodes",
        ["key", "id"],
        unique=False,
        sqlite_where=sa.text("state <> 'open'"),
        postgresql_where=sa.text("state <> 'open'"),
    )
    op.create_table(
        "inbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("set_aside", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "ledger",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("episode_id", sa.BigInteger(), nullable=False),
        sa.Column("playbook", sa.Text(), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("score", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ledger_intent_once",
        "ledger",
        ["episode_id", "rung"],
        unique=True,
        sqlite_where=sa.text("kind = 'intent'"),
        postgresql_where=sa.text("kind = 'intent'"),
    )
    op.create_index(
        "ledger_intents",
        "ledger",
        ["at"],
        unique=False,
        sqlite_where=sa.text("kind = 'intent'"),
        postgresql_where=sa.text("kind = 'intent'"),
    )
    op.create_index(
        "ledger_intents_playbook",
        "ledger",
        ["playbook", "at"],
        unique=False,
        sqlite_where=sa.text("kind = 'intent'"),
        postgresql_where=sa.text("kind = 'intent'"),
    )
    op.create_index(
        "ledger_intents_target",
        "ledger",
        ["target", "at"],
        unique=False,
        sqlite_where=sa.text("kind = 'intent'"),
        postgresql_where=sa.text("kind = 'intent'"),
    )
    op.create_index(
        "ledger_results_playbook",
        "ledger",
        ["playbook", "id"],
        unique=False,
        sqlite_where=sa.text("kind = 'result'"),
        postgresql_where=sa.text("kind = 'result'"),
    )
    op.create_index(
        "ledger_results_target",
        "ledger",
        ["target", "id"],
        unique=False,
        sqlite_where=sa.text("kind = 'result'"),
        postgresql_where=sa.text("kind = 'result'"),
    )
    op.create_index("ledger_run", "ledger", ["run_id", "id"], unique=False)
    op.create_index(
        "ledger_switch",
        "ledger",
        ["id"],
        unique=False,
        sqlite_where=sa.text("kind = 'switch'"),
        postgresql_where=sa.text("kind = 'switch'"),
    )
    op.create_table(
        "locks",
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("target"),
    )
    op.create_index("locks_run", "locks", ["run_id"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("dropped_why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index(
        "outbox_due",
        "outbox",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "playbooks",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("admitted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("workload", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("releases_workload", "releases", ["workload", "id"], unique=False)
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("episode_id", sa.BigInteger(), nullable=False),
        sa.Column("playbook", sa.Text(), nullable=False),
        sa.Column("playbook_version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("goes", sa.Integer(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "runs_due",
        "runs",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("runs_episode", "runs", ["episode_id"], unique=False)
    op.create_index(
        "runs_in_doubt",
        "runs",
        ["id"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL AND state = 'in_doubt'"),
        postgresql_where=sa.text("finished_at IS NULL AND state = 'in_doubt'"),
    )
    op.create_index(
        "runs_live",
        "runs",
        ["episode_id"],
        unique=True,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index("runs_state", "runs", ["state", "id"], unique=False)
    op.create_index(
        "runs_target",
        "runs",
        ["target", "created_at"],
        unique=False,
        sqlite_where=sa.text("target <> ''"),
        postgresql_where=sa.text("target <> ''"),
    )
