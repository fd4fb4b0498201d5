"""The pairs of a Run, what got worst first; filters and paging live in the URL."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from app.domain.results import CaseResult
from app.domain.runs import RunStatus
from app.web.ports import Pages, Row
from app.web.rendering import MissingPage, Page

PAGE_SIZE = 50
LONGEST_SEARCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What of the pairs is shown; empty means all.

    Attributes:
        segment: `name=value`.
        evaluator: Compare this Evaluator's scores instead of the quality.
        failure: Failure class of the candidate's reply; `any` for every unsuccessful one.
        anchor: `yes`, `no` or empty.
        q: Part of a source id.
    """

    model: str = ""
    segment: str = ""
    evaluator: str = ""
    failure: str = ""
    anchor: str = ""
    q: str = ""

    @classmethod
    def of(cls, query: QueryParams) -> Self:
        """The filters of a URL."""
        return cls(
            **{
                name: query.get(name, "").strip()[:LONGEST_SEARCH]
                for name in cls.__dataclass_fields__
            }
        )

    def query(self, **others: object) -> str:
        """The filters as a query string, with others added."""
        given = {**asdict(self), **others}
        return urlencode({name: value for name, value in given.items() if value not in {"", None}})

    def admits(self, pair: Mapping[str, Any]) -> bool:
        """Whether a pair is shown."""
        name, _, value = self.segment.partition("=")
        failure = pair["failure_class"]
        return (
            self.model in {"", pair["candidate"]}
            and (not self.segment or pair["segments"].get(name) == value)
            and (not self.failure or failure == self.failure or (self.failure == "any" and failure))
            and (not self.anchor or pair["is_anchor"] == (self.anchor == "yes"))
            and self.q.lower() in pair["source_id"].lower()
        )


async def cases(pages: Pages, run: Row, filters: Filters, *, page: int) -> Page:
    """A page of the pairs of a Run.

    Raises:
        MissingPage: If the page number is none.
    """
    results = await pages.case_results(run["run_id"], is_final=is_final(run))
    scores = (
        await pages.evaluator_scores(run["run_id"], filters.evaluator)
        if filters.evaluator
        else None
    )
    pairs = list(pairs_of(results, primary_of(run), _by_reply(scores)))
    shown = sorted((pair for pair in pairs if filters.admits(pair)), key=_badness)
    count = max(1, -(-len(shown) // PAGE_SIZE))
    if not 1 <= page <= count:
        raise MissingPage
    data = {
        "plan": run["plan_name"],
        "run_id": run["run_id"],
        "slot": run["slot"],
        "primary": primary_of(run),
        "filters": {name: value for name, value in asdict(filters).items() if value},
        "pairs": len(pairs),
        "found": len(shown),
        "worse": sum(1 for pair in shown if (pair["delta"] or 0) < 0),
        "better": sum(1 for pair in shown if (pair["delta"] or 0) > 0),
        "page": page,
        "pages": count,
        "cases": shown[(page - 1) * PAGE_SIZE : page * PAGE_SIZE],
    }
    drawn = {"filters": filters, "choices": _choices(run, pairs), "has_results": bool(results)}
    return Page(template="cases.html", title="Cases", data=data, drawn=drawn)


def pairs_of(
    results: Sequence[CaseResult],
    primary: str | None,
    scores: Mapping[tuple[str, str], float | None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Every pair of a Run: what the primary and a candidate did on one Case.

    Args:
        results: Every reply of the Run.
        primary: The primary's name.
        scores: Scores to compare instead of the quality, by Case and model.
    """
    mine = {row.case_id: row for row in results if row.model_name == primary}
    for row in results:
        if row.model_name == primary or row.case_id not in mine:
            continue
        base = mine[row.case_id]
        before, after = (
            (base.quality, row.quality)
            if scores is None
            else (
                scores.get((base.case_id, base.model_name)),
                scores.get((row.case_id, row.model_name)),
            )
        )
        yield {
            "case_id": row.case_id,
            "source_id": row.source_id,
            "candidate": row.model_name,
            "segments": dict(row.segments),
            "is_anchor": row.is_anchor,
            "primary_value": before,
            "value": after,
            "delta": None if before is None or after is None else after - before,
            "failure_class": row.failure_class.value if row.failure_class else None,
            "primary_failure_class": base.failure_class.value if base.failure_class else None,
            "cost_usd": row.spend_usd,
            "primary_cost_usd": base.spend_usd,
            "unscored_reason": row.unscored_reason or base.unscored_reason,
        }


def is_final(run: Row) -> bool:
    """Whether the Run will never do anything again."""
    return RunStatus(run["status"]).is_final


def primary_of(run: Row) -> str | None:
    """The name of the Run's primary."""
    config: Mapping[str, Any] = (run["frozen"] or {}).get("config") or {}
    name = (config.get("primary") or {}).get("name")
    return None if name is None else str(name)


def _by_reply(scores: Sequence[Row] | None) -> dict[tuple[str, str], float | None] | None:
    if scores is None:
        return None
    return {(row["case_id"], row["model_name"]): row["score"] for row in scores}


def _badness(pair: Mapping[str, Any]) -> tuple[bool, float, str, str]:
    """Worst first; pairs without scores last."""
    delta = pair["delta"]
    return delta is None, delta or 0.0, pair["candidate"], pair["case_id"]


def _choices(run: Row, pairs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What each filter can be set to."""
    config: Mapping[str, Any] = (run["frozen"] or {}).get("config") or {}
    segments = {f"{name}={value}" for pair in pairs for name, value in pair["segments"].items()}
    return {
        "model": sorted({pair["candidate"] for pair in pairs}),
        "segment": sorted(segments),
        "evaluator": [one.get("name") or one["type"] for one in config.get("evaluators") or ()],
        "failure": sorted({pair["failure_class"] for pair in pairs if pair["failure_class"]}),
    }
