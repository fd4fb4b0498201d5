"""Runs know how many rows can be replayed; views no longer take a Run by hand for the latest."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
# From `app.storage.views.views_digest()`: a changed view needs a new (maybe empty) migration.
views_digest = "8ed3aed489aecfdb"


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
