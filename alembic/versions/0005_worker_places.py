"""Workers know who else works what they work."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
# From `app.storage.views.views_digest()`: a changed view needs a new (maybe empty) migration.
views_digest = "b0862d4a2549b7c1"


def upgrade() -> None:
    op.create_table(
        "worker_places",
        sa.Column("worker", sa.Text(), nullable=False, comment="Name of the worker's process"),
        sa.Column("what", sa.Text(), nullable=False, comment="Digest of a queue or of an endpoint"),
        sa.Column(
            "joined_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When it joined, by the database's clock",
        ),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When it last said that it lives, by the database's clock",
        ),
        sa.PrimaryKeyConstraint("what", "worker", name=op.f("pk_worker_places")),
        schema="switchwise",
        comment="Live workers of every queue and endpoint, which share its slots",
    )


def downgrade() -> None:
    op.drop_table("worker_places", schema="switchwise")
