"""Which service an episode is about, for those that need it."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("episodes", sa.Column("service", sa.Text(), server_default=sa.text("''"), nullable=False))
    connection = op.get_bind()
    for row in connection.execute(sa.text("SELECT id, labels FROM episodes WHERE state = 'open'")).all():
        service = json.loads(row.labels).get("service", "")
        connection.execute(sa.text("UPDATE episodes SET service = :service WHERE id = :id"), {"service": service, "id": row.id})
    _index("episodes_open_service", "service", where="state = 'open'")
    _index("episodes_resolved_service", "service", "heard_at", where="state = 'resolved'")


def _index(name: str, *columns: str, where: str) -> None:
    op.create_index(name, "episodes", list(columns), sqlite_where=sa.text(where), postgresql_where=sa.text(where))
