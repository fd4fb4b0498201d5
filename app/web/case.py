"""One Case: what was asked, what each model replied, and what was thought of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.attempts import FailureClass
from app.domain.plans import Privacy
from app.domain.scores import Score, ScoreRecord, Unscored, quality_of
from app.sampling.redaction import Redactor
from app.web.ports import Pages, Row
from app.web.rendering import MissingPage, Page
from app.web.shown_text import ShownText, cleaned, differences, shown

_STRICTNESS = ("full", "redacted", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyRule:
    """What of a Case's text may be shown.

    Attributes:
        refusal: Why nothing may be shown, None when it may.
        clean: What every text goes through first.
    """

    refusal: str | None
    clean: Callable[[str], str]

    def show(self, text: str) -> ShownText:
        """The text, masked and made fit to be shown."""
        return shown(cleaned(text, self.clean))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the URL asks of the page: the candidate beside the primary, and the difference."""

    model: str = ""
    is_diff: bool = False


async def case(
    pages: Pages, case_id: str, choice: Choice, *, privacy: Mapping[str, Privacy]
) -> Page:
    """The page of a Case.

    Args:
        pages: The reads.
        case_id: The Case.
        choice: What the URL asks.
        privacy: What the plans allow today; the stricter of this and the Run's own rule holds.

    Raises:
        MissingPage: If there is no such Case.
    """
    row = await pages.case(case_id)
    if row is None:
        raise MissingPage
    attempts = await pages.attempts(row["run_id"], case_id)
    scores = await pages.scores(row["run_id"], case_id)
    rule = body_rule(row, privacy.get(row["plan_name"]))
    primary = ((row["config"] or {}).get("primary") or {}).get("name")
    replies = _replies(attempts, scores, rule, primary)
    names = [reply["model"] for reply in replies if not reply["is_primary"]]
    other = choice.model if choice.model in names else _worst(replies)
    sides = [one for one in replies if one["is_primary"] or one["model"] == other]
    kept = ("case_id", "run_id", "slot", "source_id", "ordinal", "weight", "copies", "stratum")
    data = {
        "plan": row["plan_name"],
        **{name: row[name] for name in kept},
        **{n: row[n] for n in ("segments", "is_anchor", "anchor_of", "is_later_turn", "logged_at")},
        "primary": primary,
        "bodies": rule.refusal or "shown",
        "conversation": None if rule.refusal else _conversation(row["body"], rule),
        "replies": replies,
    }
    drawn = {
        "sides": sides,
        "others": names,
        "other": other,
        "is_diff": choice.is_diff,
        "diff": _diff(sides) if choice.is_diff else None,
        "judging": [a for a in attempts if a["purpose"] == "judge"],
        "refusal": rule.refusal,
        "stored_again": [dict(s) for s in scores if s["model_name"].startswith("stored:")],
    }
    return Page(template="case.html", title=f"Case {row['source_id']}", data=data, drawn=drawn)


def body_rule(row: Row, privacy: Privacy | None) -> BodyRule:
    """What of a Case's text may be shown: the stricter of the Run's rule and today's."""
    frozen: Mapping[str, Any] = (row["config"] or {}).get("privacy") or {}
    rules = [str(frozen.get("store_bodies") or "full")]
    patterns = list(frozen.get("redact") or ())
    if privacy is not None:
        rules.append(privacy.store_bodies)
        patterns += [one for one in privacy.redact if one not in patterns]
    strictest = max(rules, key=_STRICTNESS.index)
    if strictest == "none":
        return BodyRule(
            refusal="The plan stores no prompts and replies (privacy.store_bodies: none).",
            clean=str,
        )
    clean = Redactor(patterns).text if strictest == "redacted" else str
    if row["body"] is None:
        return BodyRule(
            refusal="Prompt and replies have expired: they are kept for "
            f"{_retention(row)} (retention.bodies).",
            clean=clean,
        )
    return BodyRule(refusal=None, clean=clean)


def _retention(row: Row) -> str:
    kept = ((row["config"] or {}).get("retention") or {}).get("bodies")
    return str(kept) if kept else "a limited time"


def _conversation(body: Mapping[str, Any], rule: BodyRule) -> dict[str, Any]:
    prompt = body["prompt"]
    return {
        "system": _optional(prompt.get("system"), rule),
        "messages": [
            {"role": message["role"], "text": rule.show(_content(message["content"]))}
            for message in prompt["messages"]
        ],
        "tools": rule.show(_pretty(prompt["tools"])) if prompt.get("tools") else None,
        "params": _pretty(prompt.get("params") or {}) if prompt.get("params") else None,
        "reference": _optional(body.get("reference"), rule),
        "logged_response": _optional(body.get("logged_response"), rule),
    }


def _content(content: object) -> str:
    """The text of a message; blocks that are no text are named and shown as JSON."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else [content]
    return "\n\n".join(
        str(block.get("text", ""))
        if isinstance(block, Mapping) and block.get("type") == "text"
        else _pretty(block)
        for block in blocks
    )


def _optional(text: object, rule: BodyRule) -> ShownText | None:
    return None if text is None else rule.show(str(text))


def _pretty(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)


def _replies(
    attempts: Sequence[Row], scores: Sequence[Row], rule: BodyRule, primary: str | None
) -> list[dict[str, Any]]:
    """What every model replied, the primary first."""
    names = dict.fromkeys(a["model_name"] for a in attempts if a["purpose"] == "replay")
    ordered = sorted(names, key=lambda name: (name != primary, name))
    return [
        _reply(
            name,
            [a for a in attempts if a["model_name"] == name and a["purpose"] == "replay"],
            [s for s in scores if s["model_name"] == name],
            rule,
            is_primary=name == primary,
        )
        for name in ordered
    ]


def _reply(
    name: str,
    attempts: Sequence[Row],
    scores: Sequence[Row],
    rule: BodyRule,
    *,
    is_primary: bool,
) -> dict[str, Any]:
    last = attempts[-1]
    failure = FailureClass(last["failure_class"]) if last["failure_class"] else None
    quality, final = quality_of([_record(name, score) for score in scores], failure)
    body: Mapping[str, Any] | None = last["reply"]
    calls = (body or {}).get("tool_calls") or ()
    return {
        "model": name,
        "is_primary": is_primary,
        "quality": quality,
        "failure_class": final.value if final else None,
        "stop_reason": last["stop_reason"],
        "text": None if rule.refusal or body is None else rule.show(str(body.get("text") or "")),
        "tool_calls": rule.show(_pretty(calls)) if calls and not rule.refusal else None,
        "cost_usd": sum((a["cost_usd"] for a in attempts if a["cost_usd"] is not None), start=0),
        "is_cost_known": all(a["cost_usd"] is not None for a in attempts),
        "ttft_s": last["ttft_seconds"],
        "latency_s": last["latency_seconds"],
        "input_tokens": last["input_tokens"],
        "output_tokens": last["output_tokens"],
        "attempts": [_attempt(a) for a in attempts],
        "scores": [_score(s, rule) for s in scores],
    }


def _record(name: str, score: Row) -> ScoreRecord:
    value = score["score"]
    return ScoreRecord(
        case_id="",
        model_name=name,
        evaluator=score["evaluator"],
        evaluator_version=score["evaluator_version"],
        result=Unscored(reason=score["unscored_reason"]) if value is None else Score(value=value),
        is_gate=score["is_gate"],
        weight=score["weight"],
        judge_model=score["judge_model"],
    )


def _attempt(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in row if name not in {"reply", "has_reply"}}


def _score(row: Row, rule: BodyRule) -> dict[str, Any]:
    """A score; its reason may quote the reply, so it follows the rule of bodies."""
    reason = row["reason"] or row["unscored_reason"] or ""
    return {
        **{name: row[name] for name in row if name not in {"reason", "unscored_reason"}},
        "is_unscored": row["score"] is None,
        "reason": None if rule.refusal or not reason else rule.show(reason),
    }


def _worst(replies: Sequence[Mapping[str, Any]]) -> str:
    """The candidate that is furthest behind, the first without scores."""
    others = [one for one in replies if not one["is_primary"]]
    worst = min(
        others, key=lambda one: 2.0 if one["quality"] is None else one["quality"], default=None
    )
    return "" if worst is None else str(worst["model"])


def _diff(sides: Sequence[Mapping[str, Any]]) -> dict[str, ShownText] | None:
    """The replies with the words that differ; None when there are not two to compare."""
    if len(sides) != 2 or any(side["text"] is None for side in sides):
        return None
    found = differences(*(_words(side["text"]) for side in sides))
    if found is None:
        return None
    return {side["model"]: text for side, text in zip(sides, found, strict=True)}


def _words(text: ShownText) -> str:
    return "".join(part.text or f"[{part.mark}]" for part in text.parts)
