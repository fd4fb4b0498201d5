"""Labels in Postgres: what people think of replies, beside what the judge thinks."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert

from app.domain.attempts import Completion, Purpose
from app.domain.labels import JudgedCase, JudgedReply, Label, LabelledReply, judge_version_of
from app.domain.scores import ScoreRecord
from app.storage.case_rows import case_of, result_of
from app.storage.clean_text import clean_text
from app.storage.engine import Database
from app.storage.result_store import score_record
from app.storage.tables import ATTEMPTS, CASES, LABELS, SCORES

_Key = tuple[str, str, str]

#: Labelled replies, all labels of one reply together.
_LABELLED = text("""
    SELECT l.run_id::text AS run_id, l.case_id::text AS case_id, l.model_name,
      a.model, c.conversation, avg(l.score) AS human, count(*) AS raters
    FROM switchwise.labels AS l
    JOIN switchwise.cases AS c ON c.case_id = l.case_id
    JOIN switchwise.attempts AS a ON a.run_id = l.run_id AND a.case_id = l.case_id
      AND a.model_name = l.model_name AND a.purpose = 'replay' AND a.is_final
    WHERE l.plan_name = :plan_name
    GROUP BY l.run_id, l.case_id, l.model_name, a.model, c.conversation
    ORDER BY l.run_id, l.case_id, l.model_name
""")


class PostgresLabels:
    """The LabelStore.

    Args:
        database: The results database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def judged_cases(self, run_id: str) -> Sequence[JudgedCase]:
        """The Run's Cases, anchors apart, whose prompt and judged replies are still kept."""
        cases = (
            select(CASES)
            .where(CASES.c.run_id == run_id, ~CASES.c.is_anchor, CASES.c.body.is_not(None))
            .order_by(CASES.c.ordinal)
        )
        replies = select(ATTEMPTS).where(
            ATTEMPTS.c.run_id == run_id,
            ATTEMPTS.c.purpose == Purpose.REPLAY.value,
            ATTEMPTS.c.is_final,
            ATTEMPTS.c.failure_class.is_(None),
            ATTEMPTS.c.reply.is_not(None),
        )
        async with self._database.transaction() as connection:
            case_rows = (await connection.execute(cases)).mappings().all()
            reply_rows = (await connection.execute(replies)).mappings().all()
            scores = await connection.execute(select(SCORES).where(SCORES.c.run_id == run_id))
            records = _by_reply(scores.mappings())
        judged: dict[str, dict[str, JudgedReply]] = {}
        for row in reply_rows:
            found = _judged_reply(row, records)
            if found is not None:
                judged.setdefault(row["case_id"], {})[row["model_name"]] = found
        return [
            JudgedCase(run_id=run_id, case=case_of(row), replies=judged[row["case_id"]])
            for row in case_rows
            if row["case_id"] in judged
        ]

    async def add(self, plan_name: str, labels: Sequence[Label]) -> None:
        """Keep the labels; a person's newer label of a reply replaces the older one."""
        if not labels:
            return
        insert = upsert(LABELS)
        statement = insert.on_conflict_do_update(
            index_elements=["run_id", "case_id", "model_name", "labelled_by"],
            set_={
                name: insert.excluded[name] for name in ("score", "labelled_at", "judge_version")
            },
        )
        async with self._database.transaction() as connection:
            await connection.execute(statement, [_row(plan_name, label) for label in labels])

    async def labelled(self, plan_name: str) -> Sequence[LabelledReply]:
        """Every labelled reply of the Plan whose scores are still kept, in a fixed order."""
        reply = (LABELS.c.run_id, LABELS.c.case_id, LABELS.c.model_name)
        labelled = select(*reply).where(LABELS.c.plan_name == plan_name)
        scores = select(SCORES).where(
            tuple_(SCORES.c.run_id, SCORES.c.case_id, SCORES.c.model_name).in_(labelled)
        )
        async with self._database.transaction() as connection:
            found = await connection.execute(_LABELLED, {"plan_name": plan_name})
            rows = found.mappings().all()
            if not rows:
                return ()
            records = _by_reply((await connection.execute(scores)).mappings())
        replies = (_labelled_reply(row, records) for row in rows)
        return [one for one in replies if one is not None]


def _row(plan_name: str, label: Label) -> dict[str, Any]:
    return {
        "plan_name": plan_name,
        "run_id": label.run_id,
        "case_id": label.case_id,
        "model_name": label.model_name,
        "score": label.score,
        "labelled_by": clean_text(label.labelled_by),
        "labelled_at": label.labelled_at,
        "judge_version": label.judge_version,
    }


def _by_reply(rows: Any) -> dict[_Key, list[ScoreRecord]]:
    records: dict[_Key, list[ScoreRecord]] = {}
    for row in rows:
        key = (row["run_id"], row["case_id"], row["model_name"])
        records.setdefault(key, []).append(score_record(row))
    return records


def _judged_reply(
    row: RowMapping, records: Mapping[_Key, Sequence[ScoreRecord]]
) -> JudgedReply | None:
    result = result_of(row)
    own = tuple(records.get((row["run_id"], row["case_id"], row["model_name"]), ()))
    if not isinstance(result, Completion) or judge_version_of(own) is None:
        return None
    return JudgedReply(completion=result, records=own)


def _labelled_reply(
    row: RowMapping, records: Mapping[_Key, Sequence[ScoreRecord]]
) -> LabelledReply | None:
    own = tuple(records.get((row["run_id"], row["case_id"], row["model_name"]), ()))
    version = judge_version_of(own)
    if version is None:
        return None
    return LabelledReply(
        run_id=row["run_id"],
        case_id=row["case_id"],
        model_name=row["model_name"],
        model=row["model"],
        conversation=row["conversation"],
        human=float(row["human"]),
        raters=row["raters"],
        judge_version=version,
        records=own,
    )
