"""`worker`: one more process that works shards."""

from typing import Annotated

import typer

from app.cli.options import ConfigOption

_HELP = "Most calls in flight here per endpoint (default: our share of its concurrency)."
ConcurrencyOption = Annotated[
    int | None, typer.Option("--concurrency", min=1, help=_HELP, show_default=False)
]


def worker(*, config: ConfigOption = None, concurrency: ConcurrencyOption = None) -> None:
    """Work shards of runs that `serve` holds, beside it and other workers, until told to stop."""
    from app.cli.service import work_shards
    from app.cli.session import migrated_database, open_session

    session = open_session(config)
    with migrated_database(session.settings) as dsn:
        work_shards(session.settings, session.plans, dsn, most_calls=concurrency)
