"""The report as one file: overview, trends and text-free cases, with no network and no script."""

import base64
import hashlib
import json
from datetime import datetime

from app.web.cases import is_final, pairs_of, primary_of
from app.web.overview import overview
from app.web.ports import Pages, Row
from app.web.rendering import STATIC_FILES, MissingPage, json_body, templates
from app.web.trends import DEFAULT_SPAN, trends
from app.web.verdicts import STATUSES, WORDINGS

WORST_CASES = 100


async def static_report(
    pages: Pages,
    plan_name: str,
    *,
    now: datetime,
    run_id: str | None = None,
    weeks: int = DEFAULT_SPAN,
) -> str:
    """The report of a Run as one HTML document that needs nothing else.

    The object that `report --json` prints is embedded as it is (id `report`).

    Args:
        pages: The reads.
        plan_name: The plan.
        now: The instant it is written.
        run_id: The Run; None takes the plan's newest verdict.
        weeks: How many Runs the trends show.

    Raises:
        MissingPage: If there is no such Run, or none that ended.
    """
    first = await overview(pages, plan_name, now=now, next_slot=None, run_id=run_id)
    run: Row | None = first.drawn["run"]  # type: ignore[assignment]
    if run is None:
        raise MissingPage
    over_time = await trends(pages, plan_name, weeks=weeks)
    results = await pages.case_results(run["run_id"], is_final=is_final(run))
    pairs = list(pairs_of(results, primary_of(run)))
    scored = [pair for pair in pairs if pair["delta"] is not None]
    style = STATIC_FILES["app.css"].content.decode()
    return (
        templates()
        .get_template("static_report.html")
        .render(
            plan=plan_name,
            now=now,
            wordings=WORDINGS,
            statuses=STATUSES,
            page=first.data,
            trend_page=over_time.data,
            cases=sorted(scored, key=lambda pair: (pair["delta"], pair["case_id"]))[:WORST_CASES],
            pairs=len(pairs),
            worse=sum(pair["delta"] < 0 for pair in scored),
            style=style,
            policy=_policy(style),
            embedded=_embedded(run["document"]),
            **{**over_time.drawn, **first.drawn, "trend_styles": over_time.drawn["styles"]},
        )
    )


def _policy(style: str) -> str:
    """A content policy under which nothing but this very style sheet applies."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _embedded(report: object) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(json.loads(json_body(report)), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
