"""What a command works with: settings, plans and the results database."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.cli.logs import configure_logging
from app.cli.output import tell
from app.domain.errors import ConfigError
from app.domain.models import Secret
from app.domain.plans import Plan
from app.plans import secrets_of
from app.settings import Settings, load_settings
from app.storage.migrations import SchemaState, require_current, status, upgrade
from app.wiring import plans_for, results_database


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The environment and the plans of one command."""

    settings: Settings
    plans: tuple[Plan, ...] = ()

    def plan(self, name: str | None = None) -> Plan:
        """The plan of this name, or the only one.

        Raises:
            ConfigError: If there is none of this name, or several and no name.
        """
        names = [plan.name for plan in self.plans]
        if name is None:
            if len(self.plans) > 1:
                raise ConfigError(f"several plans are configured: --plan {' | '.join(names)}")
            return self.plans[0]
        for plan in self.plans:
            if plan.name == name:
                return plan
        raise ConfigError(f"there is no plan {name!r}{nearest_of(name, names)}")


def open_session(config: Path | None, *, with_plans: bool = True) -> Session:
    """Read the environment and, if asked, the plans; set logging up so that it knows the secrets.

    Raises:
        ConfigError: If either is wrong.
    """
    settings = load_settings()
    configure_logging(
        form=settings.log_format, level=settings.log_level, secrets=_secrets(settings)
    )
    if not with_plans:
        return Session(settings=settings)
    plans = plans_for(settings, config)
    hidden = set(_secrets(settings)).union(*(secrets_of(plan) for plan in plans))
    configure_logging(form=settings.log_format, level=settings.log_level, secrets=hidden)
    return Session(settings=settings, plans=plans)


@contextmanager
def migrated_database(settings: Settings) -> Iterator[str]:
    """The results database with this program's schema.

    A private database is brought up to date; in one of the team's a missing schema is made and an
    older one refused, because replicas of an older version may be at work.

    Raises:
        StorageUnavailable: If it cannot be reached.
        SchemaMismatch: If its schema is of another version.
    """
    with results_database(settings) as dsn:
        is_private = settings.database_url is None
        found = status(dsn)
        if found.state is SchemaState.ABSENT or (is_private and found.state is SchemaState.BEHIND):
            made = upgrade(dsn)
            tell(f"results database: schema {made.revision}")
        require_current(dsn)
        yield dsn


def nearest_of(word: str, known: list[str]) -> str:
    """A hint at the most similar known word, or at all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def _secrets(settings: Settings) -> list[str]:
    values = (getattr(settings, name) for name in type(settings).model_fields)
    return [value.reveal() for value in values if isinstance(value, Secret)]
