"""What stops work, as one tree. Expected failures of a Case are stored values, not errors.

SwitchwiseError
├── ConfigError            the plan, the environment or an option is wrong        (exit code 2)
│   └── UnknownPrice       a model has no price: nothing may be spent on it
├── DependencyUnreachable  something outside cannot be reached or refuses         (exit code 3)
│   ├── StorageUnavailable the results database
│   ├── SchemaMismatch     the results database is of another version
│   ├── LogSourceError     the log table or file
│   │   └── LogSourceAway  it cannot be reached just now: waiting may help
│   └── GatewayRefused     the gateway refuses the primary or shared credentials
├── PlanChanged            a Run was begun under another plan                     (exit code 2)
├── NothingToReplay        the window holds no Case that can be replayed          (exit code 3)
├── RunInProgress          another Run of the Plan is active                      (exit code 1)
├── RunStuck               a Run was restarted too often without progress         (exit code 1)
├── RunInterrupted         asked to stop: what is settled is kept, resume later   (exit code 4)
├── BudgetExhausted        a cap forbids the next call: the Run ends partial      (exit code 4)
├── ShardDeferred          the gateway asked for a long wait: come back later
└── FenceLost              a newer owner holds the shard: this one must stop writing
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


class SwitchwiseError(Exception):
    """Something stopped the work."""

    exit_code = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to mend, and where."""

    message: str
    file: str | None = None
    line: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(SwitchwiseError):
    """The plan, the environment or an option is wrong."""

    exit_code = 2

    def __init__(self, problems: str | Problem | Sequence[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(message=problems)
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnknownPrice(ConfigError):
    """A model has no price: nothing may be spent on it."""


class DependencyUnreachable(SwitchwiseError):
    """Something outside cannot be reached or refuses."""

    exit_code = 3


class StorageUnavailable(DependencyUnreachable):
    """The results database cannot be reached."""


class SchemaMismatch(DependencyUnreachable):
    """The results database has a schema this program does not know."""


class LogSourceError(DependencyUnreachable):
    """The log table or file cannot be read as the plan says."""


class LogSourceAway(LogSourceError):
    """The log database cannot be reached just now; waiting may help."""


class GatewayRefused(DependencyUnreachable):
    """The gateway refuses the primary or the shared credentials."""


class PlanChanged(SwitchwiseError):
    """The Run was begun under another plan: its halves cannot be compared."""

    exit_code = 2


class NothingToReplay(SwitchwiseError):
    """The window holds no Case that can be replayed."""

    exit_code = 3


class RunInProgress(SwitchwiseError):
    """Another Run of the Plan is active."""


class RunStuck(SwitchwiseError):
    """A Run was restarted too often without progress."""


class RunInterrupted(SwitchwiseError):
    """The Run was asked to stop; what is settled is kept and the Run can be resumed."""

    exit_code = 4


class BudgetExhausted(SwitchwiseError):
    """A cap forbids the next call."""

    exit_code = 4


class ShardDeferred(SwitchwiseError):
    """The gateway asked for a wait longer than a worker may sleep."""

    def __init__(self, message: str, *, until: datetime) -> None:
        self.until = until
        super().__init__(message)


class FenceLost(SwitchwiseError):
    """A newer owner holds the shard."""
