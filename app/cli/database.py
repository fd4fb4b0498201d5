"""`db`: the results database and its schema."""

from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption


def db_app() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="The results database: schema and access.", no_args_is_help=True)
    app.command("upgrade")(upgrade)
    app.command("status")(status)
    app.command("prune")(prune)
    app.command("psql", context_settings={"ignore_unknown_options": True})(psql)
    return app


def upgrade() -> None:
    """Bring the schema up to date: safe to repeat, and beside other replicas."""
    from app.cli.output import print_text, tell
    from app.cli.session import open_session
    from app.storage import migrations
    from app.wiring import results_database

    session = open_session(None, with_plans=False)
    with results_database(session.settings) as dsn:
        done = migrations.upgrade(dsn)
    steps = f"{len(done.applied)} applied" if done.applied else "nothing to do"
    print_text(f"schema {done.revision}: {steps}")
    if done.grants_to_run:
        tell("an administrator must run this, so that people may read the views:")
        for statement in done.grants_to_run:
            print_text(f"{statement};")


def status(*, as_json: JsonOption = False) -> None:
    """Tell where the schema stands; exit 3 when it is not this program's."""
    from app.cli.output import print_json, print_text
    from app.cli.session import open_session
    from app.storage import migrations
    from app.wiring import results_database

    session = open_session(None, with_plans=False)
    with results_database(session.settings) as dsn:
        found = migrations.status(dsn)
    facts = {
        "state": found.state.value,
        "revision": found.revision,
        "head": found.head,
        "pending": list(found.pending),
    }
    if as_json:
        print_json(facts)
    else:
        print_text(
            f"schema {found.state.value}: at {found.revision or 'nothing'}, "
            f"this program needs {found.head}"
        )
        for revision in found.pending:
            print_text(f"  pending: {revision}")
    if found.state is not migrations.SchemaState.CURRENT:
        raise typer.Exit(3)


def prune(
    *,
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be removed, remove nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what is older than `retention` of each plan allows; `serve` does so every day."""
    import asyncio
    from dataclasses import asdict

    from app.cli.output import print_json, print_text
    from app.cli.session import migrated_database, open_session
    from app.wiring import clock_for, prune_results

    session = open_session(config)
    now = clock_for(session.settings).now()
    with migrated_database(session.settings) as dsn:
        found = asyncio.run(prune_results(dsn, session.plans, now=now, is_trial=dry_run))
    if as_json:
        print_json({"is_trial": dry_run, "plans": [asdict(one) for one in found]})
        return
    for one in found:
        counts = {key: value for key, value in asdict(one).items() if value and key != "plan_name"}
        said = ", ".join(f"{value:,} {key}" for key, value in counts.items()) or "nothing"
        print_text(f"{one.plan_name}: {said} {'to remove' if dry_run else 'removed'}")


def psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Passed on to psql, e.g. -c 'SELECT 1'.")
    ] = None,
) -> None:
    """Open psql on the results database."""
    import subprocess

    from app.cli.session import open_session
    from app.domain.errors import DependencyUnreachable
    from app.wiring import results_database

    session = open_session(None, with_plans=False)
    with results_database(session.settings) as dsn:
        program = _psql(session.settings.home)
        if program is None:
            raise DependencyUnreachable("psql is not installed: any PostgreSQL client will do")
        ended = subprocess.run([program, dsn, *(arguments or ())], check=False)  # noqa: S603 - the operator's own arguments
    raise typer.Exit(ended.returncode)


def _psql(home: object) -> str | None:
    """The psql of the PATH, else the one beside the programs of the embedded server."""
    import shutil
    from pathlib import Path

    from app.domain.errors import StorageUnavailable
    from app.storage.binaries import find_binaries, server_account

    found = shutil.which("psql")
    if found:
        return found
    try:
        folder = find_binaries(server_account(Path(str(home)))).folder
    except StorageUnavailable:
        return None
    beside = folder / "psql"
    return str(beside) if beside.exists() else None
