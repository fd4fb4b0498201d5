"""What is kept for how long: texts, case by case figures, results.

Results stay equal whatever is pruned beneath them: a Run's document, its figures per model and its
comparisons are stored for themselves. Anchors in use and the replies they are compared with stay
until they are rotated out.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import TextClause, text

from app.domain.errors import StorageUnavailable
from app.domain.plans import Retention
from app.storage.engine import Database

CASE_FLOOR = timedelta(weeks=13)
"""Verdicts re-price the usage of up to 12 weeks: case by case figures stay at least so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was removed of one plan.

    Attributes:
        bodies: Cases that lost prompt, reference and logged reply.
        replies: Attempts that lost their reply.
        reasons: Scores that lost the evaluator's words.
        cases, attempts, scores: Rows of Runs whose case by case figures are too old.
        runs: Runs removed with all their results.
    """

    plan_name: str
    bodies: int = 0
    replies: int = 0
    reasons: int = 0
    cases: int = 0
    attempts: int = 0
    scores: int = 0
    runs: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether there was nothing to remove."""
        return not any(value for key, value in asdict(self).items() if key != "plan_name")


async def prune(
    database: Database,
    plans: Mapping[str, Retention],
    *,
    now: datetime,
    is_trial: bool = False,
) -> Sequence[Pruned]:
    """Remove what is older than the plans allow, one Run per transaction; safe to repeat.

    Trouble with one Run or plan does not keep the others from being pruned.

    Args:
        database: The results database.
        plans: How long things are kept, by plan name; other plans are left alone.
        now: The injected instant.
        is_trial: Count what would be removed, and remove nothing.

    Raises:
        StorageUnavailable: If something had to be left as it was, once all the rest is done.
    """
    troubles: list[Exception] = []
    pruned = [
        await _prune_plan(database, name, retention, now, troubles, is_trial=is_trial)
        for name, retention in plans.items()
    ]
    if troubles:
        raise _all_told(troubles)
    return pruned


async def _prune_plan(
    database: Database,
    name: str,
    retention: Retention,
    now: datetime,
    troubles: list[Exception],
    *,
    is_trial: bool,
) -> Pruned:
    """Remove what is too old of one plan; what kept a Run from it is added to the troubles."""
    counts: dict[str, int] = {}
    results = retention.results
    case_scores = retention.case_scores
    ages: list[tuple[timedelta | None, Mapping[str, TextClause]]] = [
        (results, {"runs": _RUNS}),
        (None if case_scores is None else max(case_scores, CASE_FLOOR), _CASE_ROWS),
        (retention.bodies, _TEXTS),
    ]
    done: set[str] = set()
    for age, statements in ages:
        if age is None:
            continue
        older: Sequence[str] = ()
        with _noted(troubles):
            older = await _older_runs(database, name, now - age)
        for run_id in older:
            if is_trial and run_id in done:  # counted with the rows that hold it
                continue
            removed: Mapping[str, int] = {}
            with _noted(troubles):
                removed = await _apply(database, name, run_id, statements, is_trial=is_trial)
            for what, count in removed.items():
                counts[what] = counts.get(what, 0) + count
            if any(removed.values()):
                done.add(run_id)
    return Pruned(plan_name=name, **counts)


@contextmanager
def _noted(troubles: list[Exception]) -> Iterator[None]:
    """Keep trouble for the end."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - one Run that cannot be pruned must not stop the others
        troubles.append(error)


def _all_told(troubles: Sequence[Exception]) -> Exception:
    """What to raise for these: a bug as it is, trouble with the database with its extent."""
    bug = next((one for one in troubles if not isinstance(one, StorageUnavailable)), None)
    if bug is not None:
        return bug
    told = StorageUnavailable(f"pruning was kept from {len(troubles)} of its steps: {troubles[0]}")
    told.__cause__ = troubles[0]
    return told


class _Trial(Exception):
    """Ends a transaction that must leave no trace."""


async def _apply(
    database: Database,
    plan_name: str,
    run_id: str,
    statements: Mapping[str, TextClause],
    *,
    is_trial: bool,
) -> dict[str, int]:
    removed: dict[str, int] = {}
    named = {"plan_name": plan_name, "run_id": run_id}
    with suppress(_Trial):
        async with database.transaction() as connection:
            for what, statement in statements.items():
                found = await connection.execute(statement, named)
                removed[what] = found.rowcount
            if is_trial:
                raise _Trial
    removed.pop("shards", None)
    return removed


async def _older_runs(database: Database, plan_name: str, before: datetime) -> Sequence[str]:
    async with database.transaction() as connection:
        rows = await connection.execute(_OLDER, {"plan_name": plan_name, "before": before})
        return [str(row.run_id) for row in rows]


_OLDER = text("""
    SELECT run_id FROM switchwise.runs
    WHERE plan_name = :plan_name AND status NOT IN ('due', 'running')
      AND coalesce(finished_at, created_at) < :before
    ORDER BY slot_at
""")

#: Cases of the anchors in use (those of the newest complete Run, and of a Run at work), and the
#: Cases of their first appearance, whose replies are the baseline.
_IN_USE = """
    SELECT unnest(ARRAY[a.case_id, coalesce(a.anchor_of, a.case_id)]) FROM switchwise.cases AS a
    WHERE a.is_anchor AND a.run_id IN (
      (SELECT run_id FROM switchwise.runs
       WHERE plan_name = :plan_name AND status = 'done' AND trigger <> 'hand'
       ORDER BY slot_at DESC LIMIT 1)
      UNION ALL
      SELECT run_id FROM switchwise.runs WHERE plan_name = :plan_name AND status = 'running')
"""

_TEXTS = {
    "bodies": text(f"""
        UPDATE switchwise.cases SET body = NULL
        WHERE run_id = :run_id AND body IS NOT NULL AND case_id NOT IN ({_IN_USE})
    """),
    "replies": text(f"""
        UPDATE switchwise.attempts SET reply = NULL
        WHERE run_id = :run_id AND reply IS NOT NULL
          AND (purpose = 'judge' OR case_id NOT IN ({_IN_USE}))
    """),
    "reasons": text("""
        UPDATE switchwise.scores SET reason = NULL, detail = '{}'
        WHERE run_id = :run_id AND (reason IS NOT NULL OR detail <> '{}')
    """),
}

_CASE_ROWS = {
    "scores": text(f"""
        DELETE FROM switchwise.scores WHERE run_id = :run_id AND case_id NOT IN ({_IN_USE})
    """),
    "attempts": text(f"""
        DELETE FROM switchwise.attempts
        WHERE run_id = :run_id AND (purpose = 'judge' OR case_id NOT IN ({_IN_USE}))
    """),
    "cases": text(f"""
        DELETE FROM switchwise.cases WHERE run_id = :run_id AND case_id NOT IN ({_IN_USE})
    """),
    "shards": text("""
        DELETE FROM switchwise.shards WHERE run_id = :run_id
    """),
}

_RUNS = text(f"""
    DELETE FROM switchwise.runs AS r WHERE r.run_id = :run_id AND NOT EXISTS (
      SELECT 1 FROM switchwise.cases AS c
      WHERE c.run_id = r.run_id AND c.case_id IN ({_IN_USE}))
""")
