"""What `labels` does: draws blind pairs from the latest Runs, and stores what people scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from app.cli.session import nearest_of, open_session
from app.domain.errors import ConfigError
from app.domain.json_values import fingerprint
from app.domain.labels import JudgedCase, judge_version_of
from app.domain.results import HumanAgreement
from app.domain.runs import RunStatus
from app.domain.scores import ScoreRecord
from app.evaluation.human_labels import agreement_of
from app.evaluation.label_sheets import (
    BlindPair,
    SheetScore,
    blind_pairs,
    csv_sheet,
    html_sheet,
    labels_of,
)
from app.stats.rectifier import MIN_LABELLED_PAIRS
from app.wiring import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Pairs to label, of one plan."""

    plan_name: str
    pairs: Sequence[BlindPair]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Roles:
    """Who was the primary in a Run and who were its candidates."""

    primary: str
    candidates: Sequence[str]


async def exported_pairs(
    storage: Storage, plan_name: str, *, candidate: str | None, wanted: int, runs: int
) -> Drawn:
    """Draw pairs of the latest complete Runs that the judge scored as it does today.

    Raises:
        ConfigError: If there is nothing to draw from, or no such candidate.
    """
    latest = await storage.runs.runs(plan_name, statuses=(RunStatus.DONE,), limit=runs)
    if not latest:
        raise ConfigError(f"plan {plan_name} has no complete run whose replies could be labelled")
    roles = await _roles(storage, latest[0].run_id)
    if candidate is not None and candidate not in roles.candidates:
        known = list(roles.candidates)
        raise ConfigError(f"the plan has no candidate {candidate!r}{nearest_of(candidate, known)}")
    judged = [one for run in latest for one in await storage.labels.judged_cases(run.run_id)]
    judged = _judged_alike(judged)
    if not judged:
        raise ConfigError(
            "no judged replies are kept: privacy.store_bodies is none, or retention.bodies is over"
        )
    done = await _labelled_pairs(storage, plan_name, roles.primary)
    seed = int(fingerprint([plan_name, latest[0].run_id]), 16)
    pairs = [
        pair
        for name in roles.candidates
        if candidate in {None, name}
        for pair in blind_pairs(
            judged,
            primary=roles.primary,
            candidate=name,
            wanted=wanted,
            seed=seed,
            done=done.get(name, ()),
        )
    ]
    return Drawn(plan_name=plan_name, pairs=sorted(pairs, key=lambda pair: pair.key))


def sheet_of(drawn: Drawn, *, form: str, public_url: str) -> str:
    """The pairs as CSV or as an HTML page."""
    if form == "html":
        return html_sheet(drawn.pairs, plan_name=drawn.plan_name, public_url=public_url)
    return csv_sheet(drawn.pairs, public_url=public_url)


def public_url_of(config: Path | None) -> str:
    """Where the pages are, as the plan file says; links are relative without one."""
    if config is None:
        return ""
    plans = open_session(config).plans
    return plans[0].server.public_url if plans else ""


async def imported(
    storage: Storage, plan_name: str, scores: Sequence[SheetScore], *, at: datetime
) -> dict[str, Any]:
    """Store the scores of a sheet and tell how far the judge agrees with people.

    Raises:
        ConfigError: If a line names no judged pair of the plan; then nothing is stored.
    """
    labels = []
    for run_id in sorted({score.run_id for score in scores}):
        run = await storage.runs.run(run_id)
        if run is None or run.plan_name != plan_name:
            raise ConfigError(f"plan {plan_name} has no run {run_id!r}")
        roles = await _roles(storage, run_id)
        versions = _versions(await storage.runs.scores(run_id))
        for score in (score for score in scores if score.run_id == run_id):
            labels += labels_of(
                score,
                versions.get(score.case_id, {}),
                primary=roles.primary,
                candidates=roles.candidates,
                at=at,
            )
    await storage.labels.add(plan_name, labels)
    kept = agreement_of(await storage.labels.labelled(plan_name))
    return {
        "plan": plan_name,
        "labels": len(labels),
        "pairs": len(scores),
        "labelled_replies": kept.replies,
        "agreement": agreement_words(kept),
    }


def agreement_words(kept: HumanAgreement) -> str:
    """How far judge and people agree, in words."""
    if kept.kappa is None or kept.spearman is None:
        return (
            f"{kept.replies} replies are labelled; a correction needs {MIN_LABELLED_PAIRS} pairs "
            "of a candidate"
        )
    return (
        f"judge and people on {kept.replies} labelled replies: weighted kappa "
        f"{kept.kappa.point:.2f} ({kept.kappa.low:.2f} to {kept.kappa.high:.2f}), rank correlation "
        f"{kept.spearman.point:.2f} ({kept.spearman.low:.2f} to {kept.spearman.high:.2f}); a "
        f"correction needs {MIN_LABELLED_PAIRS} pairs of a candidate"
    )


def _versions(records: Sequence[ScoreRecord]) -> dict[str, dict[str, str]]:
    """By Case and model, the version of the judge that scored the reply."""
    replies: dict[tuple[str, str], list[ScoreRecord]] = {}
    for record in records:
        replies.setdefault((record.case_id, record.model_name), []).append(record)
    found: dict[str, dict[str, str]] = {}
    for (case_id, model_name), own in replies.items():
        version = judge_version_of(own)
        if version is not None:
            found.setdefault(case_id, {})[model_name] = version
    return found


async def _roles(storage: Storage, run_id: str) -> _Roles:
    document: Any = await storage.runs.document(run_id) or {"models": []}
    primary = [one["name"] for one in document["models"] if one["role"] == "primary"]
    if not primary:
        raise ConfigError(f"run {run_id} has no report: nothing of it can be labelled")
    candidates = [one["name"] for one in document["models"] if one["role"] == "candidate"]
    return _Roles(primary=primary[0], candidates=candidates)


def _judged_alike(judged: Sequence[JudgedCase]) -> list[JudgedCase]:
    """Those that the newest Run's judge scored: labels beside an older one would be stale."""
    if not judged:
        return []
    newest = judged[0].run_id
    today = {
        version
        for one in judged
        if one.run_id == newest
        for reply in one.replies.values()
        if (version := reply.judge_version) is not None
    }
    return [
        one for one in judged if all(reply.judge_version in today for reply in one.replies.values())
    ]


async def _labelled_pairs(
    storage: Storage, plan_name: str, primary: str
) -> dict[str, set[tuple[str, str]]]:
    """Pairs that are labelled on both sides, by candidate."""
    replies = await storage.labels.labelled(plan_name)
    ours = {(one.run_id, one.case_id) for one in replies if one.model_name == primary}
    found: dict[str, set[tuple[str, str]]] = {}
    for one in replies:
        if one.model_name != primary and (one.run_id, one.case_id) in ours:
            found.setdefault(one.model_name, set()).add((one.run_id, one.case_id))
    return found
