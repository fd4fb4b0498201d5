"""Endpoints may have a rate, which all processes keep together."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
# From `app.storage.views.views_digest()`: a changed view needs a new (maybe empty) migration.
views_digest = "b0862d4a2549b7c1"


def upgrade() -> None:
    op.create_table(
        "endpoint_pace",
        sa.Column(
            "endpoint", sa.Text(), nullable=False, comment="Digest of the endpoint, without secrets"
        ),
        sa.Column(
            "next_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When its next call may leave, by the database's clock",
        ),
        sa.PrimaryKeyConstraint("endpoint", name=op.f("pk_endpoint_pace")),
        schema="switchwise",
        comment="Spacing of calls per endpoint that has a rate, shared by all processes",
    )


def downgrade() -> None:
    op.drop_table("endpoint_pace", schema="switchwise")
