"""Runs migrations: on the connection handed over by app.storage.migrations, or on `-x dsn=…`."""

from alembic import context

from app.storage.migrations import comparison_options, engine_for
from app.storage.tables import METADATA

connection = context.config.attributes.get("connection")
if connection is not None:
    context.configure(connection=connection, target_metadata=METADATA, **comparison_options())
    with context.begin_transaction():
        context.run_migrations()
else:
    dsn = context.get_x_argument(as_dictionary=True).get("dsn")
    if dsn is None:
        raise SystemExit("name the database: alembic -x dsn=postgresql://… COMMAND")
    with engine_for(dsn).connect() as connection:
        context.configure(connection=connection, target_metadata=METADATA, **comparison_options())
        with context.begin_transaction():
            context.run_migrations()
