"""`init` step by step: find the log, write the plan, say what is missing and what comes next."""

import asyncio
from dataclasses import replace
from pathlib import Path

from app.cli.templates import write_plan
from app.domain.errors import ConfigError, LogSourceError
from app.ports import FoundLog
from app.settings import Settings
from app.wiring import (
    API_KEYS,
    clock_for,
    find_log_file,
    find_log_in_api,
    find_log_tables,
)

_SHOWN = 5
_NOT_LOOKED_FOR = (
    "log: none looked for, because LOGS_DATABASE_URL is not set: the plan is the commented example"
)
_NO_LOG = (
    "log: no table looks like one (an id, a time, and a prompt or messages, that this role may "
    "read): name yours in logs.table, or give a SELECT in logs.query"
)


def guide(
    path: Path,
    settings: Settings,
    *,
    file: Path | None,
    table: str | None,
    preset: str | None = None,
) -> list[str]:
    """Write a plan for the log that can be found; tell what was done and what comes next.

    Args:
        path: Where the plan shall be; never overwritten.
        settings: The environment.
        file: A file of prompts, instead of a database.
        table: The table to take, where several look like logs.
        preset: A product whose API is to be read, instead of a database.

    Raises:
        ConfigError: If the plan exists already, `table` is no log, or a product's keys are missing.
        LogSourceError: If the file is none of prompts, or the log cannot be reached.
    """
    if path.exists():
        raise ConfigError(f"{path} exists already: nothing was written")
    if file is not None:
        log: FoundLog | None = replace(find_log_file(file), table=_shown(file, path))
        lines = [f"log: {file}"]
    elif preset is not None:
        log, lines = _from_api(settings, preset)
    else:
        log, lines = _found(settings, table)
    written = [f"wrote {one}" for one in write_plan(path, log)]
    return [*lines, *written, *_next(path, settings, log)]


def _found(settings: Settings, table: str | None) -> tuple[FoundLog | None, list[str]]:
    """The log of the database; without one, that of a product whose keys are in the environment.

    The key of a model vendor alone is no sign that its API keeps prompts.
    """
    there = [name for name in API_KEYS if not _missing_keys(settings, name)]
    if settings.logs_database_url is None and settings.database_url is None:
        for name in there:
            if name != "openai":
                return _from_api(settings, name)
    log, lines = _from_database(settings, table)
    lines += [
        f"     also: the API of {name}, whose keys are set (choose with --preset {name})"
        for name in there
    ]
    return log, lines


def _from_api(settings: Settings, product: str) -> tuple[FoundLog, list[str]]:
    missing = _missing_keys(settings, product)
    if missing:
        raise ConfigError(f"--preset {product} needs {' and '.join(missing)} in the environment")
    now = clock_for(settings).now()
    log = asyncio.run(find_log_in_api(product, settings.variables, now))
    lines = [f"log: the API of {product}"]
    if log.models:
        lines.append(f"models in it: {', '.join(log.models)}")
    return log, lines


def _missing_keys(settings: Settings, product: str) -> list[str]:
    if product not in API_KEYS:
        raise ConfigError(f"--preset takes {', '.join(API_KEYS)}: tables are found without it")
    return [name for name in API_KEYS[product].values() if not settings.variables.get(name)]


def _from_database(settings: Settings, table: str | None) -> tuple[FoundLog | None, list[str]]:
    dsn = settings.logs_database_url or settings.database_url
    if dsn is None:
        return None, [_NOT_LOOKED_FOR]
    try:
        found = asyncio.run(find_log_tables(dsn.reveal()))
    except LogSourceError as error:
        name = "LOGS_DATABASE_URL" if settings.logs_database_url else "DATABASE_URL"
        raise LogSourceError(
            f"{error}; nothing was written: mend {name} and begin again, or unset it to get the "
            "commented example"
        ) from error
    chosen = _chosen(found, table)
    if chosen is None:
        return None, [_NO_LOG]
    lines = [f"log: {_words(chosen)}"]
    others = [one for one in found if one is not chosen][:_SHOWN]
    if others:
        lines.append(f"     also: {'; '.join(map(_words, others))} (choose with --table)")
    if chosen.models:
        lines.append(f"models in it: {', '.join(chosen.models)}")
    return chosen, lines


def _chosen(found: tuple[FoundLog, ...], table: str | None) -> FoundLog | None:
    if table is None:
        return found[0] if found else None
    wanted = _bare(table)
    for one in found:
        if wanted in {_bare(one.table), _bare(one.table.rpartition(".")[2])}:
            return one
    known = ", ".join(one.table for one in found) or "none"
    raise ConfigError(f"--table {table} does not look like a log; those that do: {known}")


def _bare(table: str) -> str:
    return table.replace('"', "").lower()


def _words(log: FoundLog) -> str:
    rows = f", about {log.rows:,} rows" if log.rows else ""
    how = ", by a SELECT that makes its numbers times" if log.query else ""
    return f"{log.table} (preset {log.preset}{rows}{how})"


def _shown(file: Path, plan: Path) -> str:
    """The file as the plan names it: beside the plan, else with its whole path."""
    whole = file.resolve()
    folder = plan.parent.resolve()
    return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else str(whole)


def _next(path: Path, settings: Settings, log: FoundLog | None) -> list[str]:
    steps = [f"set {name}" for name in _missing(settings, log)]
    if log is None:
        steps.append(f"edit {path}: primary, candidates, logs.table and logs.columns")
    else:
        steps.append(f"look at {path}: is the primary right, are these the candidates?")
    steps += [
        f"switchwise check --online --config {path}   # one short call per model",
        f"switchwise plan --config {path}             # what a run would cost; sends nothing",
        f"switchwise run --n 10 --config {path}       # a first small run",
    ]
    return ["next:", *(f"  {number}. {step}" for number, step in enumerate(steps, start=1))]


def _missing(settings: Settings, log: FoundLog | None) -> list[str]:
    missing = []
    if settings.llm_api_key is None:
        missing.append("LLM_API_KEY: the gateway's key")
    if log is not None and log.preset == "litellm" and settings.llm_base_url is None:
        missing.append("LLM_BASE_URL: the proxy's address, without /v1")
    if log is None and settings.logs_database_url is None:
        missing.append("LOGS_DATABASE_URL: the log database, with a role that may only SELECT")
    return missing
