"""The pages over a real database: what they tell, what they refuse to show, and how they look."""

import asyncio
import contextlib
import json
import re
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from sqlalchemy import text

from app.domain.errors import StorageUnavailable
from app.domain.models import Secret
from app.domain.plans import Plan, Privacy
from app.domain.runs import Slot
from app.web.application import create_app
from app.web.static_report import static_report
from app.web.verdicts import WORDINGS
from app.wiring import open_pages
from tests.fakes.small_plans import plan as small_plan
from tests.fixtures.judged_weeks import JudgedWeeks, simulate
from tests.fixtures.stored_history import ENDS_AT, StoredHistory
from tests.processes import switchwise

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NEXT = Slot(key="2026-11-29T06:00", at=datetime(2026, 11, 29, 6, tzinfo=UTC))
JSON = {"Accept": "application/json"}
HOSTILE = (
    '<script>alert("x")</script><img src=x onerror=alert(1)>',
    "</div></main><style>body{display:none}</style><a href='javascript:alert(1)'>x</a>",
    "pay \u202egnp.exe\u202c and \u2066hide\u2069",
    "broken \ufffd\ufffd bytes {{ 7 * 7 }} {% include 'base.html' %}",
    "long " + "a" * 1_000_000,
)


def named(plan: str, privacy: Privacy | None = None) -> Plan:
    return replace(small_plan("swift"), name=plan, privacy=privacy or Privacy())


@asynccontextmanager
async def visitor(
    dsn: str, plans: Sequence[Plan] = (), token: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    async with open_pages(dsn) as pages:
        app = create_app(
            pages,
            plans=plans,
            token=Secret(token) if token else None,
            now=lambda: NOW,
            next_slot=lambda _plan: NEXT,
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", timeout=60
        ) as client:
            yield client


def text_of(html: str) -> str:
    """The words of a page."""
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", html).split()))


@pytest.fixture
def history(database_url: str) -> StoredHistory:
    stored = StoredHistory(changed_at=(4,))
    stored.store(database_url)
    return stored


async def test_an_empty_database_says_what_to_do(database_url: str) -> None:
    async with visitor(database_url) as client:
        assert "switchwise run" in (await client.get("/")).text
        assert (await client.get("/trends")).status_code == 404


async def test_the_overview_tells_verdict_reasons_figures_alerts_and_the_next_slot(
    database_url: str, history: StoredHistory
) -> None:
    async with visitor(database_url, [named(history.plan)]) as client:
        words = text_of((await client.get("/")).text)
    assert "Switch recommended: prime → swift" in words
    assert "swift saves 38 % (32–44 %) at quality −0.01 (−0.03 to +0.01) on 40 prompts" in words
    assert "Costs less per quality point." in words
    assert "switchwise ack 'support-bot/switch:swift' --reason 'why'" in words
    assert "29 Nov 2026, 06:00" in words
    assert "6 of 6" in words
    assert "$0.42 of $25.00" in words


async def test_the_overview_in_json_is_the_report_itself(
    database_url: str, history: StoredHistory
) -> None:
    async with visitor(database_url) as client:
        found = (await client.get("/", headers=JSON)).json()
    assert found["report"] == json.loads(json.dumps(history.document(history.weeks - 1)))
    assert found["month"]["spend_usd"] == "1.68"


async def test_a_run_without_a_verdict_is_told_above_the_last_one(
    database_url: str, history: StoredHistory
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "UPDATE switchwise.runs SET status = 'partial', error_message = 'the budget ran out'"
            " WHERE run_id = %s",
            (history.run_ids[-1],),
        )
    async with visitor(database_url) as client:
        words = text_of((await client.get("/")).text)
    assert "Incomplete: the run of 22 Nov 2026, 06:00 : the budget ran out" in words
    assert "Switch recommended" in words


async def test_several_plans_get_a_switcher_and_an_unknown_one_a_404(
    database_url: str, history: StoredHistory
) -> None:
    StoredHistory(plan="a&b <plan>", weeks=2, cases=4).store(database_url)
    async with visitor(database_url) as client:
        html = (await client.get("/")).text
        other = await client.get("/", params={"plan": history.plan})
        unknown = await client.get("/", params={"plan": "nope"})
    assert 'href="/?plan=a%26b+%3Cplan%3E"' in html
    assert "<plan>" not in html
    assert f"{history.plan} · 22 Nov 2026" in text_of(other.text)
    assert unknown.status_code == 404


async def test_trends_break_where_the_judge_changed_and_say_so(
    database_url: str, history: StoredHistory
) -> None:
    async with visitor(database_url) as client:
        html = (await client.get("/trends")).text
        found = (await client.get("/trends", headers=JSON)).json()
    assert [one["slot"] for one in found["breaks"]] == [f"{history.slot_at(4):%Y-%m-%dT%H:%M}"]
    assert "the judge" in found["breaks"][0]["reasons"][0]
    assert found["breaks"][0]["models"] == ["mini", "prime", "swift"]
    pieces = [row["piece"] for row in found["history"] if row["model_name"] == "prime"]
    assert pieces == [0, 0, 0, 0, 1, 1]
    assert "Breaks the lines of mini, prime, swift." in text_of(html)
    assert html.count('class="notch-number"') == 6  # once in every chart
    assert "Figures as a table" in html


async def test_cases_are_sorted_by_regression_and_filtered_by_the_url(
    database_url: str, history: StoredHistory
) -> None:
    base = f"/runs/{history.run_ids[-1]}/cases"
    async with visitor(database_url) as client:

        async def pairs(query: str = "") -> Mapping[str, Any]:
            return (await client.get(base + query, headers=JSON)).json()  # type: ignore[no-any-return]

        everything = await pairs()
        deltas = [pair["delta"] for pair in everything["cases"] if pair["delta"] is not None]
        assert deltas == sorted(deltas)
        assert (everything["pairs"], everything["pages"]) == (80, 2)
        second = await pairs("?page=2")
        assert len(second["cases"]) == 30
        swift = await pairs("?model=swift&segment=route%3Dcode")
        assert {(p["candidate"], p["segments"]["route"]) for p in swift["cases"]} == {
            ("swift", "code")
        }
        failed = await pairs("?failure=any")
        assert failed["found"] == len([p for p in failed["cases"] if p["failure_class"]]) > 0
        anchors = await pairs("?anchor=yes")
        assert anchors["found"] == 8
        assert [p["source_id"] for p in (await pairs("?q=LOG-17&model=mini"))["cases"]] == [
            "log-17"
        ]
        judged = await pairs("?evaluator=judge&failure=any")
        assert any(p["value"] for p in judged["cases"])  # the gate is left out of what is compared
        for wrong in ("?page=3", "?page=0", "?page=x", "?page=99999999999"):
            assert (await client.get(base + wrong)).status_code == 404
        html = (await client.get(base + "?model=swift&q=log-1")).text
    assert re.search(r'<option value="swift" selected>', html)
    assert 'value="log-1"' in html


async def test_the_newest_runs_cases_have_an_address_of_their_own(
    database_url: str, history: StoredHistory
) -> None:
    async with visitor(database_url) as client:
        found = (await client.get("/cases", headers=JSON)).json()
    assert found["run_id"] == history.run_ids[-1]


async def test_a_case_shows_replies_side_by_side_with_scores_and_attempts(
    database_url: str, history: StoredHistory
) -> None:
    async with visitor(database_url) as client:
        page = f"/cases/{history.case_id(0)}"
        plain = (await client.get(page, params={"model": "swift"})).text
        diff = (await client.get(page, params={"model": "swift", "diff": "words"})).text
    words = text_of(plain)
    assert "Where is order 0?" in words
    assert "The order leaves on Tuesday." in words
    assert "The order <b>ships</b> on Monday." in words
    assert "because it is so" in words
    assert "req_0" in words
    assert "<b>ships</b>" not in plain
    assert re.search(r"<del>Tuesday</del>", diff)
    assert re.search(r"<ins>Monday</ins>", diff)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
async def test_hostile_replies_are_text_and_nothing_else(database_url: str, number: int) -> None:
    history = StoredHistory(weeks=1, cases=5, replies=HOSTILE)
    history.store(database_url)
    async with visitor(database_url) as client:
        for query in ({}, {"diff": "words"}):
            response = await client.get(f"/cases/{history.case_id(number)}", params=query)
            assert response.status_code == 200
            html = response.text
            body = html.partition("<main")[2]
            assert "<script" not in body
            assert "<img" not in body
            assert "<style" not in body
            assert "javascript:alert(1)'>" not in body
            assert not set(body) & set("\u202e\u202c\u2066\u2069")
            assert len(html) < 200_000
        data = (await client.get(f"/cases/{history.case_id(number)}", headers=JSON)).json()
    shown = {reply["model"]: reply["text"] for reply in data["replies"]}["swift"]
    expected = {
        2: "pay [U+202E right-to-left override]gnp.exe",
        4: "long aaa",
    }.get(number, HOSTILE[number][:20])
    assert shown["text"].startswith(expected)
    note = "The first 20,000 of 1,000,005 characters are shown." if number == 4 else ""
    assert shown["note"] == note


async def test_hostile_names_and_searches_are_text_too(database_url: str) -> None:
    evil = '"><script>alert(1)</script>'
    history = StoredHistory(weeks=2, cases=5, models=("prime", evil), plan=evil)
    history.store(database_url)
    async with visitor(database_url) as client:
        for path in (
            *("/", "/trends", "/runs", f"/runs/{history.run_ids[-1]}"),
            f"/runs/{history.run_ids[-1]}/explain",
            f"/runs/{history.run_ids[-1]}/cases?q={evil}&model={evil}",
            f"/cases/{history.case_id(0)}",
        ):
            response = await client.get(path)
            assert response.status_code == 200
            assert "<script>alert" not in response.text


async def test_a_plan_that_stores_no_bodies_shows_none(
    database_url: str, history: StoredHistory
) -> None:
    plan = named(history.plan, Privacy(store_bodies="none"))
    async with visitor(database_url, [plan]) as client:
        html = (await client.get(f"/cases/{history.case_id(0)}")).text
        data = (await client.get(f"/cases/{history.case_id(0)}", headers=JSON)).json()
    assert "stores no prompts and replies" in html
    for told in (html, json.dumps(data)):
        assert "Where is order" not in told
        assert "leaves on Tuesday" not in told
        assert "because it is so" not in told


async def test_raw_bodies_that_wait_for_redaction_are_masked_when_shown(database_url: str) -> None:
    rule = {"privacy": {"store_bodies": "redacted", "redact": ["email"]}}
    history = StoredHistory(weeks=1, cases=4, config=rule)
    history.store(database_url)
    async with visitor(database_url) as client:
        html = (await client.get(f"/cases/{history.case_id(0)}")).text
    assert "Write to [email]." in html
    assert "jo@example.com" not in html


async def test_expired_bodies_say_that_they_expired_and_scores_stay(
    database_url: str, history: StoredHistory
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE switchwise.cases SET body = NULL")
        connection.execute("UPDATE switchwise.attempts SET reply = NULL")
    async with visitor(database_url) as client:
        words = text_of((await client.get(f"/cases/{history.case_id(0)}")).text)
    assert "have expired: they are kept for 30d" in words
    assert "judge by judge" in words


async def test_a_run_tells_its_funnel_its_calls_and_its_set_up(
    database_url: str, history: StoredHistory
) -> None:
    async with visitor(database_url) as client:
        response = await client.get(f"/runs/{history.run_ids[-1]}")
        data = (await client.get(f"/runs/{history.run_ids[-1]}", headers=JSON)).json()
    words = text_of(response.text)
    assert "900 logged rows in the window" in words
    assert "− 3 empty" in words
    assert data["funnel"]["models"][0] | {"losses": {}, "failures": {}} == {
        "model": "prime",
        "is_primary": True,
        "cases": 40,
        "anchors": 4,
        "replayed": 40,
        "successful": 40 - data["funnel"]["models"][0]["failures"].get("gate_failed", 0),
        "evaluated": 40,
        "paired": 40,
        "failures": {},
        "losses": {},
    }
    assert {(c["model_name"], c["purpose"], c["calls"]) for c in data["calls"]} == {
        *((name, "replay", 40) for name in history.models),
        ("judge", "judge", 120),
    }
    assert "quality_margin" in words


async def test_a_set_up_never_shows_what_stands_under_a_secrets_name(database_url: str) -> None:
    leaky = {
        "slack": {"token": "xoxb-very-secret", "channel": "C0"},
        "primary": {"name": "prime", "endpoint": {"api_key": "sk-very-secret"}},
        "sample": {"max_input_tokens": 32_000},
    }
    history = StoredHistory(weeks=1, cases=4, config=leaky)
    history.store(database_url)
    async with visitor(database_url) as client:
        for headers in ({}, JSON):
            told = (await client.get(f"/runs/{history.run_ids[0]}", headers=headers)).text
            assert "very-secret" not in told
            assert "32000" in told


async def test_links_of_the_messages_lead_somewhere(
    database_url: str, history: StoredHistory
) -> None:
    async with visitor(database_url) as client:
        for tail in ("", "/cases", "/explain"):
            response = await client.get(f"/runs/{history.run_ids[-1]}{tail}")
            assert response.status_code == 200


async def test_every_link_of_every_page_leads_somewhere(
    database_url: str, history: StoredHistory
) -> None:
    seen: set[str] = set()
    waiting = ["/"]
    async with visitor(database_url) as client:
        while waiting and len(seen) < 120:
            path = waiting.pop()
            if path in seen:
                continue
            seen.add(path)
            response = await client.get(path)
            assert response.status_code == 200, path
            links = re.findall(r'href="(/[^"#]*)', response.text)
            waiting += [unescape(link) for link in links]
    assert any(path.startswith("/cases/") for path in seen)


async def test_a_page_that_did_not_change_is_not_sent_again(
    database_url: str, history: StoredHistory
) -> None:
    async with visitor(database_url) as client:
        first = await client.get("/runs")
        again = await client.get("/runs", headers={"If-None-Match": first.headers["etag"]})
        other = await client.get("/runs", headers={"If-None-Match": '"x"', **JSON})
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200
    assert "private" in first.headers["cache-control"]


async def test_visits_change_nothing(database_url: str, history: StoredHistory) -> None:
    def written() -> object:
        with psycopg.connect(database_url) as connection:
            return connection.execute(
                "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
            ).fetchone()

    before = written()
    async with visitor(database_url) as client:
        for path in ("/", "/trends", "/cases", "/runs", f"/runs/{history.run_ids[-1]}"):
            await client.get(path)
        async with open_pages(database_url) as pages:
            with pytest.raises(StorageUnavailable, match="accepts no writes"):
                await pages._rows(text("DELETE FROM switchwise.runs RETURNING run_id"))
    assert written() == before


async def test_the_static_report_needs_nothing_else_and_holds_the_very_report(
    database_url: str, history: StoredHistory
) -> None:
    async with open_pages(database_url) as pages:
        html = await static_report(pages, history.plan, now=NOW)
        older = await static_report(pages, history.plan, now=NOW, run_id=history.run_ids[0])
    embedded = re.search(r'<script type="application/json" id="report">(.*?)</script>', html)
    assert embedded is not None
    assert json.loads(embedded[1]) == json.loads(json.dumps(history.document(history.weeks - 1)))
    assert history.run_ids[0] in older
    words = text_of(html)
    assert "Switch recommended: prime → swift" in words
    assert "Cases that got worse" in words
    assert "Where is order" not in html
    assert "leaves on Tuesday" not in html
    outside = re.findall(r'(?:src|href)="(?!#)[^"]*"', html)
    assert outside == []
    assert "://" not in html.replace("http://www.w3.org", "")


# --- the static report of a live run ------------------------------------------------------------

_NUMBER = re.compile(r"[−-]?\$?\d[\d,]*(?:\.\d+)?")


def table(html: str, label: str) -> list[list[str]]:
    """The words of every cell of the table in the region of that name, without the head."""
    region = html.partition(f'aria-label="{label}"')[2].partition("</table>")[0]
    body = region.partition("<tbody>")[2]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
    return [
        [text_of(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]


def shows(cell: str, *values: Any, scale: float = 1.0) -> bool:
    """Whether the cell begins with these figures, each right to its last printed digit."""
    printed = _NUMBER.findall(cell)
    if values[0] is None:
        return cell.startswith("–")
    return len(printed) >= len(values) and all(
        _is_rounded(text, float(value) * scale)
        for text, value in zip(printed, values, strict=False)
    )


def _is_rounded(text: str, value: float) -> bool:
    plain = text.replace("−", "-").replace("$", "").replace(",", "")
    digits = len(plain.partition(".")[2])
    return abs(float(plain) - value) <= 0.5 * 10.0**-digits + 1e-9


def ends(figure: Mapping[str, Any] | None) -> list[Any]:
    return [None] if figure is None else [figure[end] for end in ("value", "low", "high")]


def test_the_static_report_of_a_live_run_shows_the_figures_that_the_json_tells(
    database_url: str, tmp_path: Path
) -> None:
    simulate(database_url, tmp_path, JudgedWeeks(n=60, anchors=0, rows_per_week=200, weeks=2))
    file = tmp_path / "report.html"
    outputs = [
        switchwise("report", *how, cwd=tmp_path, env={"DATABASE_URL": database_url}, timeout_s=120)
        for how in (("--json",), ("--html", str(file)))
    ]
    assert [ended.returncode for ended in outputs] == [0, 0], outputs[1].stderr
    report = json.loads(outputs[0].stdout)
    html, _, embedded = file.read_text(encoding="utf-8").partition(
        '<script type="application/json" id="report">'
    )

    assert json.loads(embedded.partition("</script>")[0]) == report
    leaders = table(html, "Leaderboard")
    assert len(leaders) == len(report["models"]) == 2
    for cells, model in zip(leaders, report["models"], strict=True):
        assert cells[0].startswith(model["name"])
        ranges = model["intervals"]
        assert shows(cells[1], *ends(model["quality"]))
        assert shows(cells[2], *ends(ranges["success_rate"]), scale=100)
        assert shows(cells[3], *ends(ranges["cost_per_success_usd"]), scale=1000)
        assert shows(cells[4], *ends(model["cost_per_quality_usd"]), scale=1000)
        assert shows(cells[8], model["cases"], model["attempts"])
    compared = table(html, "Candidates against the primary")
    assert len(compared) == len(report["comparisons"]) == 1
    for cells, one in zip(compared, report["comparisons"], strict=True):
        assert cells[0] == one["candidate"]
        assert WORDINGS[one["verdict"]].label in cells[1]
        assert shows(cells[2], *ends(one["quality_delta"]))
        assert shows(cells[3], *ends(one["saving"]), scale=100)
        assert shows(cells[4], *ends(one["value_ratio"]))
        assert shows(cells[5], *ends(one["monthly_saving_usd"]))
        assert shows(cells[6], one["pairs"], one["window_weeks"], one["wins"], one["ties"])
    spend = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", html))
    assert shows(spend["This run"], report["spend"]["total_usd"])
    assert shows(spend["Models"], report["spend"]["models_usd"])
    assert shows(spend["Judge"], report["spend"]["judge_usd"])


# --- in a browser -------------------------------------------------------------------------------

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
HOW_TO_RUN = "`make check-pages` installs what drives a Chromium and runs this"
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    "--disable-background-networking",
)


@contextlib.contextmanager
def served(dsn: str, plans: Sequence[Plan] = (), token: str | None = None) -> Iterator[str]:
    """The pages on a real socket."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop: list[Callable[[], None]] = []
    ready = threading.Event()

    async def serve() -> None:
        async with open_pages(dsn) as pages:
            app = create_app(
                pages,
                plans=plans,
                token=Secret(token) if token else None,
                now=lambda: NOW,
                next_slot=lambda _plan: NEXT,
            )
            server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
            stop.append(lambda: setattr(server, "should_exit", True))
            ready.set()
            await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(30)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop[0]()
        thread.join(30)
        listener.close()


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A headless Chromium of the machine; tests that need one are skipped without it.

    One per test: the driver keeps an event loop in the main thread while it lives, in which no
    asynchronous test could run.
    """
    if CHROMIUM is None:
        pytest.skip(f"there is no Chromium on this machine: {HOW_TO_RUN}")
    api = pytest.importorskip("playwright.sync_api", reason=HOW_TO_RUN)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@contextlib.contextmanager
def tab(chromium: Any, **options: Any) -> Iterator[Any]:
    """A tab in which any console message, error or request to another host fails the test."""
    context = chromium.new_context(**options)
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: trouble.append(f"dialog {dialog.message}"))
    page.on(
        "request",
        lambda request: None if "//127.0.0.1:" in request.url[:20] else trouble.append(request.url),
    )
    yield page
    context.close()
    assert trouble == []


def addresses(history: StoredHistory) -> list[str]:
    run = f"/runs/{history.run_ids[-1]}"
    return [
        *("/", "/trends", f"{run}/cases", "/runs", run, f"{run}/explain"),
        f"/cases/{history.case_id(0)}?diff=words",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1240, 375])
def test_every_page_fits_its_window_and_breaks_no_rule_of_accessibility(
    database_url: str, history: StoredHistory, chromium: Any, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason=HOW_TO_RUN)
    source = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    rules = json.dumps(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"])
    check = (
        f"axe.run({{runOnly: {rules}}}).then(found =>"
        " JSON.stringify(found.violations.map(one => [one.id, one.nodes[0].html])))"
    )
    with (
        served(database_url, [named(history.plan)]) as site,
        tab(chromium, color_scheme=scheme, viewport={"width": width, "height": 800}) as page,
    ):
        debugger = page.context.new_cdp_session(page)
        for address in addresses(history):
            page.goto(site + address)
            overflow = "document.documentElement.scrollWidth - innerWidth"
            assert page.evaluate(overflow) <= 0, address
            debugger.send("Runtime.evaluate", {"expression": source})
            found = debugger.send(
                "Runtime.evaluate",
                {"expression": check, "awaitPromise": True, "returnByValue": True},
            )
            assert json.loads(found["result"]["value"]) == [], address


def test_a_visitor_filters_pages_compares_and_turns_the_lights_off(
    database_url: str, history: StoredHistory, chromium: Any
) -> None:
    with served(database_url) as site, tab(chromium) as page:
        page.goto(site)
        page.get_by_role("link", name="Cases", exact=True).click()
        page.get_by_role("link", name="Next").click()
        assert "page=2" in page.url
        page.get_by_label("Model").select_option("swift")
        page.wait_for_url("**/cases?model=swift*")
        page.get_by_label("Log row").fill("log-12")
        page.keyboard.press("Enter")
        page.wait_for_url("**q=log-12*")
        page.get_by_role("link", name="log-12", exact=True).click()
        page.get_by_role("link", name="Word by word").click()
        assert page.locator("ins", has_text="Monday").count() == 1
        page.get_by_role("button", name="Dark").click()
        page.goto(site + "/trends")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content"


def test_without_javascript_everything_is_still_there(
    database_url: str, history: StoredHistory, chromium: Any
) -> None:
    with served(database_url) as site, tab(chromium, java_script_enabled=False) as page:
        page.goto(f"{site}/runs/{history.run_ids[-1]}/cases")
        page.get_by_label("Model").select_option("mini")
        page.get_by_role("button", name="Apply").click()
        assert "model=mini" in page.url
        assert page.locator("tbody tr").count() == 40


def test_a_visitor_logs_in_once_and_out_again(
    database_url: str, history: StoredHistory, chromium: Any
) -> None:
    with served(database_url, token="a long token") as site:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(f"{site}/runs")
        page.get_by_label("Token").fill("a long token")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/runs")
        assert page.get_by_role("heading", name="Runs").is_visible()
        page.get_by_role("button", name="Log out").click()
        page.goto(f"{site}/runs")
        assert page.get_by_label("Token").is_visible()
        context.close()


def test_print_shows_the_figures_in_full_and_leaves_out_the_controls(
    database_url: str, history: StoredHistory, chromium: Any
) -> None:
    with served(database_url) as site, tab(chromium) as page:
        page.goto(site + "/trends")
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print", color_scheme="dark")
        assert page.locator("header.top").is_hidden()
        assert page.locator("details table").first.is_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert page.pdf().startswith(b"%PDF")


def _report(dsn: str, plan: str) -> str:
    """The static report, made in a thread: the browser's driver keeps a loop in this one."""

    async def made() -> str:
        async with open_pages(dsn) as pages:
            return await static_report(pages, plan, now=ENDS_AT)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, made()).result()


def test_the_static_report_opens_from_disk_without_a_word_of_complaint(
    database_url: str, history: StoredHistory, chromium: Any, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    file.write_text(_report(database_url, history.plan), encoding="utf-8")
    context = chromium.new_context(offline=True)
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on(
        "request",
        lambda request: None if request.url == file.as_uri() else trouble.append(request.url),
    )
    page.goto(file.as_uri())
    assert page.get_by_role("heading", name="Switch recommended: prime → swift").is_visible()
    background = page.evaluate("getComputedStyle(document.querySelector('.hero')).borderLeftWidth")
    assert background == "6px"  # the style sheet is in force under its own policy
    context.close()
    assert trouble == []
