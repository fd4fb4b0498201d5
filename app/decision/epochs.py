"""Epochs: spans in which evidence may be pooled, and what broke them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from app.domain.json_values import JsonObject, fingerprint
from app.domain.models import ModelSpec
from app.domain.plans import JudgeSettings, Plan
from app.domain.prices import Price
from app.domain.results import PairedEvidence
from app.ports import StoredEvidence, StoredState
from app.stats.evidence import MIN_CLUSTERS_STORED


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What must stay the same for evidence to be pooled, and its digest."""

    digest: str
    identity: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A candidate's history that may be pooled this week.

    Attributes:
        weeks: Earlier weeks of the epoch, oldest first, at today's prices.
        same_week: What an earlier Run of this ISO week already stored, None without one.
        since_week: Where the held history begins.
        break_reason: Why the epoch began, None when it is the candidate's first.
        left_out: Weeks of the epoch that cannot be pooled, with the reason.
    """

    weeks: tuple[StoredEvidence, ...]
    same_week: StoredEvidence | None
    since_week: str
    break_reason: str | None
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PricePair:
    """Today's prices of primary and candidate."""

    primary: Price
    candidate: Price


def epoch_of(plan: Plan, candidate: ModelSpec, evaluation: JsonObject) -> Epoch:
    """Return the epoch that this plan and these evaluators put a candidate in.

    Args:
        plan: The plan as frozen for the Run.
        candidate: The candidate's configuration.
        evaluation: What must stay the same for qualities to be comparable, by label of the
            Evaluator.
    """
    identity: JsonObject = {
        "primary": plan.primary.identity,
        "candidate": candidate.identity,
        "judges": [judge.voice for judge in plan.judges],
        "rubric": fingerprint(plan.judge.rubric) if plan.judge else None,
        "judging": _judging(plan.judge),
        "evaluators": dict(evaluation),
        "policy": asdict(plan.policy),
    }
    return Epoch(digest=fingerprint(identity), identity=identity)


def break_reason(before: JsonObject, after: JsonObject) -> str | None:
    """Name what differs between two epochs' identities, None when nothing does.

    >>> break_reason({"policy": {"min_saving": 0.1}}, {"policy": {"min_saving": 0.2}})
    'the policy changed (min_saving 0.1 → 0.2)'
    """
    before, after = _placeless(before), _placeless(after)
    changes = [
        f"{_NAMES.get(key, key)} changed{_detail(before.get(key), after.get(key))}"
        for key in sorted({*before, *after}, key=[*_NAMES].index)
        if before.get(key) != after.get(key)
    ]
    return "; ".join(changes) or None


def held_history(
    epoch: Epoch,
    week: str,
    rows: Iterable[StoredEvidence],
    latest: StoredState | None,
    prices: PricePair | None,
    *,
    ill_weeks: Collection[str] = (),
) -> Held:
    """Return what of a candidate's stored weeks may be pooled in this week.

    Evidence of another epoch, from before the held history began or at former prices stays out,
    and so does everything before an epoch that came in between.

    Args:
        epoch: The candidate's epoch this week.
        week: This ISO week.
        rows: The candidate's stored weeks, re-priced where that was possible.
        latest: The candidate's latest state, of whatever epoch.
        prices: Today's prices, None when one is unknown: then all weeks are held as they are.
        ill_weeks: Weeks in which the primary was worse than it is: they flatter every candidate.
    """
    past = sorted((row for row in rows if row.week <= week), key=lambda row: row.week)
    since = _since(epoch, past, latest, week)
    tail = [row for row in past if row.epoch == epoch.digest and row.week >= since]
    fair = {row.week for row in tail if prices is None or is_priced_at(row, prices)}
    same_week = [row for row in tail if row.week == week and row.week in fair]
    return Held(
        weeks=tuple(
            row
            for row in tail
            if row.week < week and row.week in fair and row.week not in ill_weeks
        ),
        same_week=same_week[-1] if same_week else None,
        since_week=since,
        break_reason=_break(epoch, past, latest, since),
        left_out={
            row.week: "the primary was worse than it is now"
            if row.week in ill_weeks
            else "priced otherwise, and its usage cannot be re-priced"
            for row in tail
            if row.week not in fair or row.week in ill_weeks
        },
    )


def is_priced_at(row: StoredEvidence, prices: PricePair) -> bool:
    """Whether stored evidence was computed with these prices, wherever they came from."""
    return _same(row.primary_price, prices.primary) and _same(row.candidate_price, prices.candidate)


def stale_weeks(
    rows: Iterable[StoredEvidence], prices: Mapping[str, Price]
) -> tuple[StoredEvidence, ...]:
    """Return stored weeks whose usage must be re-priced before they can be pooled.

    Args:
        rows: Stored weeks of any candidate.
        prices: Today's price of each contestant by name.
    """
    return tuple(
        row
        for row in rows
        if row.primary in prices
        and row.candidate in prices
        and not is_priced_at(
            row, PricePair(primary=prices[row.primary], candidate=prices[row.candidate])
        )
    )


def repriced(row: StoredEvidence, pairs: PairedEvidence, prices: PricePair) -> StoredEvidence:
    """Return a stored week with the Evidence recomputed from its usage at today's prices.

    A week that no longer carries evidence is returned as it was: it stays out of the pool.
    """
    if pairs.evidence is None or pairs.evidence.clusters < MIN_CLUSTERS_STORED:
        return row
    return replace(
        row,
        evidence=pairs.evidence,
        segments=dict(pairs.segments),
        primary_price=prices.primary.to_json(),
        candidate_price=prices.candidate.to_json(),
    )


_NAMES = {
    "primary": "the primary",
    "candidate": "the candidate",
    "judges": "the judge model",
    "rubric": "the rubric",
    "judging": "the way of judging",
    "evaluators": "the evaluators",
    "policy": "the policy",
}


def _placeless(identity: JsonObject) -> JsonObject:
    """The identity without the judges' addresses, which earlier releases stored with them."""
    judges = identity.get("judges")
    if not isinstance(judges, list):
        return identity
    bare = [
        {key: value for key, value in judge.items() if key != "base_url"}
        for judge in judges
        if isinstance(judge, Mapping)
    ]
    return {**identity, "judges": bare}


def _judging(judge: JudgeSettings | None) -> JsonObject | None:
    if judge is None:
        return None
    return {
        "mode": judge.mode,
        "reference": judge.reference,
        "repeats": judge.repeats,
        "bias_allowance": judge.bias_allowance,
    }


def _detail(before: object, after: object) -> str:
    """Show the parts that differ, where they are short enough to read."""
    parts = list(_parts(before, after))
    return f" ({', '.join(parts)})" if parts else ""


def _parts(before: object, after: object, name: str = "") -> Iterator[str]:
    """Every part that differs, those of a part under its name."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                yield from _parts(before.get(key), after.get(key), f"{name} {key}".strip())
    elif name:
        yield f"{name} {_short(before)} → {_short(after)}"


def _short(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping) and "version" in value:
        return f"version {value['version']}"
    text = str(value)
    return text if len(text) <= 40 else "…"


def _since(
    epoch: Epoch, past: Sequence[StoredEvidence], latest: StoredState | None, week: str
) -> str:
    """Return where the held history begins: after the last week of any other epoch."""
    same = latest is not None and latest.epoch == epoch.digest
    recent = [row for row in past if same or latest is None or row.week > latest.week]
    tail = week
    for row in reversed(recent):
        if row.epoch != epoch.digest:
            break
        tail = row.week
    return max(tail, latest.since_week) if latest is not None and same else tail


def _break(
    epoch: Epoch, past: Sequence[StoredEvidence], latest: StoredState | None, since: str
) -> str | None:
    """Return why the current epoch began: found now, or carried in the latest state."""
    if latest is not None and latest.epoch == epoch.digest:
        carried = latest.detail.get("epoch_reason")
        return str(carried) if carried else None
    others = [row for row in past if row.epoch != epoch.digest]
    if not others and latest is None:
        return None
    reason = break_reason(others[-1].identity, epoch.identity) if others else None
    return f"new epoch since {since}: {reason or 'the set-up changed'}"


def _same(stored: JsonObject, price: Price) -> bool:
    if "input" not in stored:
        return False
    return replace(Price.from_json(stored), source="") == replace(price, source="")
