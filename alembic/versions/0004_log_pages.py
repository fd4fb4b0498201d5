"""Listings of remote logs outlive the process that makes them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
# From `app.storage.views.views_digest()`: a changed view needs a new (maybe empty) migration.
views_digest = "b0862d4a2549b7c1"


def upgrade() -> None:
    op.create_table(
        "log_pages",
        sa.Column(
            "run_id", sa.UUID(as_uuid=False), nullable=False, comment="The Run it belongs to"
        ),
        sa.Column(
            "listing",
            sa.Text(),
            nullable=False,
            comment="Digest of what is listed: source, window, columns",
        ),
        sa.Column("page_no", sa.Integer(), nullable=False, comment="Number of the page, from 1"),
        sa.Column(
            "next_cursor",
            sa.Text(),
            nullable=True,
            comment="Where the next page begins, as JSON; null after the last",
        ),
        sa.Column(
            "records",
            sa.Text(),
            nullable=False,
            comment="Ids, times and segments of its rows, as JSON; no bodies",
        ),
        sa.Column(
            "listed_at", sa.DateTime(timezone=True), nullable=False, comment="When it was listed"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["switchwise.runs.run_id"],
            name=op.f("fk_log_pages_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "listing", "page_no", name=op.f("pk_log_pages")),
        schema="switchwise",
        comment="Listings of remote logs under way; gone once the Run's sample is committed",
    )


def downgrade() -> None:
    op.drop_table("log_pages", schema="switchwise")
