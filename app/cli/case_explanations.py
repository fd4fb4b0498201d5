"""Why one Case was scored as it was: rubric, replies, scores and reasons."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from app.cli.figures import number
from app.cli.stored import chosen_run
from app.cli.tables import Table, terminal_table
from app.domain.cases import Case
from app.domain.errors import ConfigError
from app.domain.labels import JudgedReply
from app.domain.results import CaseResult
from app.domain.runs import Run
from app.domain.scores import Score, ScoreRecord
from app.evaluation.rubrics import DEFAULT_RUBRIC
from app.wiring import Storage

Found = Mapping[str, Any]
STORED_PREFIX = "stored:"


async def explained_case(
    storage: Storage, plan_name: str, run_id: str | None, case_id: str
) -> dict[str, Any]:
    """Everything that was said of the replies to one Case of a Run.

    Args:
        storage: The open results database.
        plan_name: The plan.
        run_id: The Run, None for the newest one that ended.
        case_id: The Case, or a beginning that no other Case of the Run has.

    Raises:
        ConfigError: If there is no such Run or Case, or several begin so.
    """
    run = await chosen_run(storage, plan_name, run_id)
    results = await storage.runs.results(run.run_id)
    matching = sorted({row.case_id for row in results if row.case_id.startswith(case_id)})
    if len(matching) != 1:
        words = "several cases that begin with" if matching else "no case"
        raise ConfigError(f"run {run.run_id} has {words} {case_id!r}")
    found = matching[0]
    rows = [row for row in results if row.case_id == found]
    records = [one for one in await storage.runs.scores(run.run_id) if one.case_id == found]
    sample = await storage.runs.sample(run.run_id)
    cases = [] if sample is None else [*sample.cases, *sample.anchors]
    kept = next((case for case in cases if case.case_id == found), None)
    judged = await storage.labels.judged_cases(run.run_id)
    replies = next((one.replies for one in judged if one.case.case_id == found), {})
    return {
        "run_id": run.run_id,
        "plan": run.plan_name,
        "case_id": found,
        "source_id": rows[0].source_id,
        "segments": dict(rows[0].segments),
        "is_anchor": rows[0].is_anchor,
        "rubrics": _rubrics(run),
        "conversation": None if kept is None else _conversation(kept),
        "models": [_model(row, records, replies) for row in rows],
        "stored_replies": [
            _score(record) for record in records if record.model_name.startswith(STORED_PREFIX)
        ],
    }


def without_texts(found: Found) -> dict[str, Any]:
    """The same without what was asked and replied, and without reasons, which may quote either."""
    models = [
        {
            **model,
            "reply": None,
            "scores": [{**score, "reason": None} for score in model["scores"]],
        }
        for model in found["models"]
    ]
    stored = [{**score, "reason": None} for score in found["stored_replies"]]
    return {**found, "conversation": None, "models": models, "stored_replies": stored}


def print_case(found: Found, console: Console, *, with_texts: bool) -> None:
    """Print the Case; what was asked and replied only on request."""
    segments = " ".join(f"{name}={value}" for name, value in found["segments"].items())
    console.print(Text(f"Case {found['case_id']} of run {found['run_id']}", style="bold"))
    console.print(Text(f"Log row {found['source_id']} {segments}".rstrip(), style="dim"))
    if with_texts:
        for who, text in found["conversation"] or [("", "The prompt is not kept.")]:
            console.print(Text(f"{who}: {text}" if who else text))
    columns = ("Model", "Quality", "Evaluator", "Score", "Reason", "Version")
    rows = [row for model in found["models"] for row in _score_rows(model)]
    console.print(
        terminal_table(
            Table(
                title="What was said of each reply",
                columns=columns,
                right=frozenset({"Quality", "Score"}),
                rows=rows,
            )
        )
    )
    if with_texts:
        for model in found["models"]:
            console.print(Text(f"{model['name']} replied", style="bold"))
            console.print(Text(model["reply"] or "No reply is kept."))
    for name, rubric in found["rubrics"].items():
        console.print(Text(f"Rubric of {name}", style="bold"))
        console.print(Text(rubric))
    if not with_texts:
        console.print(
            Text("--texts shows what was asked, replied and given as a reason.", style="dim")
        )


def _rubrics(run: Run) -> dict[str, str]:
    """By Evaluator, the rubric that was frozen with the Run."""
    frozen: Any = run.frozen or {}
    config: Any = frozen.get("config") or {}
    judge = config.get("judge") or {}
    found = {}
    for settings in config.get("evaluators") or ():
        if settings["type"] == "judge":
            own = (settings.get("options") or {}).get("rubric")
            name = settings.get("name") or "judge"
            found[name] = str(own or judge.get("rubric") or DEFAULT_RUBRIC)
    return found


def _conversation(case: Case) -> list[tuple[str, str]]:
    system = [("system", case.prompt.system)] if case.prompt.system else []
    return [*system, *((turn.role, turn.text) for turn in case.prompt.messages)]


def _model(
    row: CaseResult, records: Sequence[ScoreRecord], replies: Mapping[str, JudgedReply]
) -> dict[str, Any]:
    reply = replies.get(row.model_name)
    return {
        "name": row.model_name,
        "quality": row.quality,
        "failure_class": row.failure_class.value if row.failure_class else None,
        "unscored_reason": row.unscored_reason,
        "reply": reply.completion.text if reply else None,
        "scores": [_score(record) for record in records if record.model_name == row.model_name],
    }


def _score(record: ScoreRecord) -> dict[str, Any]:
    return {
        "evaluator": record.evaluator,
        "evaluator_version": record.evaluator_version,
        "judge_model": record.judge_model,
        "is_gate": record.is_gate,
        "weight": record.weight,
        "score": record.score,
        "is_scored": isinstance(record.result, Score),
        "reason": record.result.reason,
    }


def _score_rows(model: Found) -> Iterator[tuple[str, ...]]:
    failure = (model["failure_class"] or model["unscored_reason"] or "").replace("_", " ")
    yield model["name"], number(model["quality"]), "", "", failure, ""
    for score in model["scores"]:
        yield (
            "",
            "",
            f"{score['evaluator']}{' (gate)' if score['is_gate'] else ''}",
            number(score["score"]),
            score["reason"] or "",
            score["evaluator_version"],
        )
