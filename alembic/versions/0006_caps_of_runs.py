"""Runs know their caps, which all processes keep; the ledger counts uncapped Runs, too."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
# From `app.storage.views.views_digest()`: a changed view needs a new (maybe empty) migration.
views_digest = "b0862d4a2549b7c1"

_OLD_COMMENT = "Money reserved and spent per cap; can be recomputed from attempts"
_COMMENT = "Money reserved and spent per Run and month; can be recomputed from attempts"


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column(
            "caps",
            JSONB(),
            nullable=True,
            comment="What it may spend: per_run_usd, per_month_usd, timezone of the month",
        ),
        schema="switchwise",
    )
    op.create_table_comment("ledger", _COMMENT, existing_comment=_OLD_COMMENT, schema="switchwise")
    # A row of a capped month may lack what uncapped Runs spent; it is made anew from the journal.
    op.execute("DELETE FROM switchwise.ledger")


def downgrade() -> None:
    op.create_table_comment("ledger", _OLD_COMMENT, existing_comment=_COMMENT, schema="switchwise")
    op.drop_column("runs", "caps", schema="switchwise")
