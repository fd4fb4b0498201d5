"""Costs of a Run outlive its attempts: the view reads them from the Run's document."""

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
# From `app.storage.views.views_digest()`: a changed view needs a new (maybe empty) migration.
views_digest = "b0862d4a2549b7c1"


def upgrade() -> None:
    """The views are made anew after the last migration."""


def downgrade() -> None:
    """As above."""
