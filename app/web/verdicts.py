"""Verdicts in words: the sentence above the overview, and what each verdict is called."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.wording import VERDICTS, count, whole
from app.web.figures import (
    change,
    change_interval,
    share_interval,
    share_point,
    times,
    usd,
    usd_interval,
)

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """How a verdict is shown: by word, by sign and by tone, never by colour alone."""

    label: str
    sign: str
    tone: str


_SIGNS = {
    "switch": ("▲", "good"),
    "watch": ("△", "hope"),
    "keep": ("■", "calm"),
    "worse": ("▼", "bad"),
    "dearer": ("◆", "bad"),
    "slower": ("◆", "bad"),
    "unreliable": ("✕", "bad"),
    "undecided": ("○", "calm"),
    "unmeasured": ("–", "calm"),
}
WORDINGS = {
    verdict: Wording(label=VERDICTS[verdict].capitalize(), sign=sign, tone=tone)
    for verdict, (sign, tone) in _SIGNS.items()
}
STATUSES = {
    "done": Wording(label="Complete", sign="●", tone="good"),
    "partial": Wording(label="Incomplete", sign="◐", tone="hope"),
    "failed": Wording(label="Failed", sign="✕", tone="bad"),
    "running": Wording(label="Running", sign="▶", tone="calm"),
    "due": Wording(label="Due", sign="○", tone="calm"),
    "skipped": Wording(label="Skipped", sign="–", tone="calm"),
    "missed": Wording(label="Missed", sign="–", tone="hope"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFigure:
    """One figure that a decision rests on; the range is its interval or its measure."""

    label: str
    value: str
    range: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """What a Run says, as a sentence with its evidence."""

    title: str
    lead: str
    tone: str
    figures: tuple[KeyFigure, ...] = ()
    reasons: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()


def headline(document: Document) -> Headline:
    """The verdict of a Run as a sentence with its reasons."""
    if document["status"] != "done":
        ending = STATUSES[document["status"]].label.lower()
        return Headline(
            title="No verdict from this run",
            lead=f"It ended {ending}: {document.get('error') or 'no reason was stored'}",
            tone="hope",
        )
    comparisons: Sequence[Document] = document["comparisons"]
    hits = [one for one in comparisons if one["verdict"] == "switch"]
    if hits:
        return _switch(_best(hits), hits)
    return _keep(document, comparisons)


def _best(hits: Sequence[Document]) -> Document:
    """The candidate that qualifies best: the one the tests name, else the cheapest by quality."""
    named = (hits[0].get("tests") or {}).get("best")
    by_value = min(hits, key=lambda one: (one["value_ratio"] or {"high": 9e9})["high"])
    return next((one for one in hits if one["candidate"] == named), by_value)


def _switch(best: Document, hits: Sequence[Document]) -> Headline:
    name = best["candidate"]
    others = [one["candidate"] for one in hits if one is not best]
    lead = f"{name} saves {share_point(best['saving'])} ({share_interval(best['saving'])})"
    if best["quality_delta"]:
        lead += (
            f" at quality {change(best['quality_delta'])} "
            f"({change_interval(best['quality_delta'])})"
        )
    lead += f" on {whole(best['pairs'])} prompts of {count(best['window_weeks'], 'week')}."
    if others:
        lead += f" Also shown: {', '.join(others)}."
    return Headline(
        title=f"Switch recommended: {best['primary']} → {name}",
        lead=lead,
        tone="good",
        figures=tuple(_key_figures(best)),
        reasons=tuple(best["reasons"]),
        caveats=tuple(best.get("caveats") or ()),
    )


def _key_figures(best: Document) -> Iterator[KeyFigure]:
    """What a switch would change, one figure each; what is unknown is left out."""
    if best["saving"]:
        yield KeyFigure(
            label="Off the bill",
            value=share_point(best["saving"]),
            range=share_interval(best["saving"]),
        )
    if monthly := best["monthly_saving_usd"]:
        yield KeyFigure(
            label="Saved a month", value=usd(monthly["value"]), range=usd_interval(monthly)
        )
    if best["quality_delta"]:
        yield KeyFigure(
            label="Quality (0–1)",
            value=change(best["quality_delta"]),
            range=change_interval(best["quality_delta"]),
        )
    if best["latency_p95_ratio"] is not None:
        yield KeyFigure(
            label="Latency p95",
            value=times(best["latency_p95_ratio"]),
            range=f"of {best['primary']}’s",
        )
    yield KeyFigure(
        label="Evidence",
        value=f"{whole(best['pairs'])} prompts",
        range=count(best["window_weeks"], "week"),
    )


def _keep(document: Document, comparisons: Sequence[Document]) -> Headline:
    primaries = [model["name"] for model in document["models"] if model["role"] == "primary"]
    primary = primaries[0] if primaries else "the primary"
    watched = [one["candidate"] for one in comparisons if one["verdict"] == "watch"]
    measured = sum(one["verdict"] != "unmeasured" for one in comparisons)
    if watched:
        lead = f"{', '.join(watched)}: promising, but not yet shown to be as good."
    elif not measured:
        lead = "No candidate could be measured in this run."
    elif measured == 1:
        lead = "The candidate is not shown to be as good for less."
    else:
        lead = f"None of {measured} candidates is shown to be as good for less."
    return Headline(
        title=f"Keep {primary}",
        lead=lead,
        tone="hope" if watched else "calm",
        reasons=tuple(
            f"{one['candidate']}: {one['reasons'][0]}" for one in comparisons if one["reasons"]
        ),
    )
