"""Runs know about how many of the window's rows can be replayed, stratum by stratum."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
# From `app.storage.views.views_digest()`: a changed view needs a new (maybe empty) migration.
views_digest = "b0862d4a2549b7c1"


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column(
            "replayable",
            sa.Double(),
            nullable=True,
            comment="About how many rows logged in the window can be replayed",
        ),
        schema="switchwise",
    )


def downgrade() -> None:
    op.drop_column("runs", "replayable", schema="switchwise")
