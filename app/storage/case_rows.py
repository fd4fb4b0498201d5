"""Cases, Samples, Runs and replies as rows, and rows as what they were."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping

from app.domain.attempts import Completion, Failure, FailureClass, StopReason
from app.domain.cases import Case, Prompt, Window
from app.domain.prices import Usage
from app.domain.runs import Run, RunStatus, Shard, Slot, Trigger
from app.storage.clean_text import clean_json, clean_text


def case_row(case: Case, run_id: str) -> dict[str, Any]:
    """The row of a Case."""
    return {
        "case_id": case.case_id,
        "run_id": run_id,
        "source_id": clean_text(case.source_id),
        "ordinal": case.ordinal,
        "block": case.block,
        "weight": case.weight,
        "copies": case.copies,
        "stratum": clean_text(case.stratum),
        "conversation": None if case.conversation is None else clean_text(case.conversation),
        "segments": clean_json(case.segments),
        "is_anchor": case.is_anchor,
        "anchor_of": case.anchor_of,
        "is_later_turn": case.prompt.is_later_turn,
        "prompt_hash": case.prompt.fingerprint,
        "logged_at": case.logged_at,
        "body": clean_json(
            {
                "prompt": case.prompt.to_json(),
                "reference": case.reference,
                "logged_response": case.logged_response,
                "tool_calls": list(case.tool_calls),
            }
        ),
    }


def case_of(row: RowMapping) -> Case:
    """The Case of a row whose body is kept."""
    body: Mapping[str, Any] = row["body"]
    return Case(
        case_id=row["case_id"],
        source_id=row["source_id"],
        ordinal=row["ordinal"],
        prompt=Prompt.from_json(body["prompt"]),
        copies=row["copies"],
        weight=row["weight"],
        stratum=row["stratum"],
        conversation=row["conversation"],
        block=row["block"],
        segments=row["segments"],
        reference=body.get("reference"),
        logged_response=body.get("logged_response"),
        logged_at=row["logged_at"],
        anchor_of=row["anchor_of"],
        tool_calls=tuple(body.get("tool_calls") or ()),
    )


def run_of(row: RowMapping) -> Run:
    """The Run of a row."""
    start, end = row["window_start"], row["window_end"]
    return Run(
        run_id=row["run_id"],
        plan_name=row["plan_name"],
        trigger=Trigger(row["trigger"]),
        status=RunStatus(row["status"]),
        slot=Slot(key=_slot_key(row), at=row["slot_at"], closes_week=row["closes_week"]),
        seed=row["seed"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        window=Window(start=start, end=end) if start is not None and end is not None else None,
        cases_requested=row["cases_requested"],
        cases_sampled=row["cases_sampled"],
        frame=row["frame"],
        skipped=row["skipped"],
        config_hash=row["config_hash"],
        app_version=row["app_version"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        restarts=row["restarts"],
        frozen=row["frozen"],
    )


def slot_column(run: Slot, trigger: Trigger, run_id: str) -> str:
    """The slot's key as it is stored: Runs by hand get one of their own."""
    return f"{run.key} {run_id}" if trigger is Trigger.HAND else run.key


def _slot_key(row: RowMapping) -> str:
    return str(row["slot_key"]).partition(" ")[0]


def shard_of(row: RowMapping) -> Shard:
    """The Shard of a row."""
    return Shard(
        run_id=row["run_id"],
        shard_no=row["shard_no"],
        block=row["block"],
        models=tuple(row["models"]),
        case_ids=tuple(row["case_ids"]),
        fence=row["fence"],
        is_done=row["is_done"],
    )


def result_of(row: RowMapping) -> Completion | Failure:
    """How a settled Attempt ended; a reply whose text was pruned reads as empty."""
    usage = _usage_of(row)
    if row["stop_reason"] is not None and usage is not None:
        reply: Mapping[str, Any] = row["reply"] or {}
        return Completion(
            text=reply.get("text", ""),
            tool_calls=tuple(reply.get("tool_calls") or ()),
            stop_reason=StopReason(row["stop_reason"]),
            usage=usage,
            latency_s=row["latency_seconds"] or 0.0,
            ttft_s=row["ttft_seconds"],
            request_id=row["request_id"],
        )
    return Failure(
        failure_class=FailureClass(row["failure_class"] or FailureClass.AMBIGUOUS.value),
        message=row["error"] or "",
        http_status=row["http_status"],
        request_id=row["request_id"],
        usage=usage,
        latency_s=row["latency_seconds"],
    )


def _usage_of(row: RowMapping) -> Usage | None:
    if row["input_tokens"] is None:
        return None
    return Usage(
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cache_read_tokens=row["cache_read_tokens"],
        cache_write_5m_tokens=row["cache_write_5m_tokens"],
        cache_write_1h_tokens=row["cache_write_1h_tokens"],
        thinking_tokens=row["thinking_tokens"],
    )
