"""Tells the demonstration: progress, this week's report, the message, where to look next."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from rich.console import Console
from rich.text import Text

from app.cli.demonstration import Demonstration, Week, demonstrate
from app.cli.output import console, print_json, progress, tell
from app.cli.reports import print_report
from app.settings import Settings

_SWITCH = "Switch recommended"


def show_demo(settings: Settings, *, weeks: int, serve: bool, as_json: bool) -> None:
    """Run the demonstration and show what came of it."""
    switched: list[Week] = []

    def told(week: Week) -> None:
        if not switched and _recommends(week.document):
            switched.append(week)
        if not sys.stderr.isatty():
            tell(_week_line(week))

    def shown(demo: Demonstration) -> None:
        bars.close()
        if as_json:
            print_json(demo.document)
        else:
            _show(demo, switched[0] if switched else None, settings, console())
        if serve:
            from app.cli.service import serve_plans

            tell(f"serving on http://{demo.plan.server.host}:{demo.plan.server.port}, Ctrl-C ends")
            serve_plans(demo.settings, [demo.plan], _dsn(demo))

    with ExitStack() as bars:
        bar = bars.enter_context(progress(f"{weeks} simulated weeks"))
        bar(0, weeks)

        def advance(week: Week) -> None:
            bar(week.number, week.of)
            told(week)

        demonstrate(settings, tell=advance, then=shown, weeks=weeks)


def _show(demo: Demonstration, switched: Week | None, settings: Settings, out: Console) -> None:
    print_report(demo.document, out)
    for heading, message in slack_story(demo.messages, switched):
        out.print()
        out.print(Text(heading, style="bold"))
        out.print(Text(message_text(message)))
    out.print()
    home = "" if settings.database_url else f"SWITCHWISE_HOME={settings.home / 'demo'} "
    out.print(Text("Look further", style="bold"))
    for command, what in (
        ("report --html report.html", "this report as a page"),
        ("explain", "every test behind the verdicts"),
        ("history", "the trend of every model"),
        ("cases", "pairs that got worse"),
        ("report --json", "this report as one JSON object"),
        ("db psql", "SQL: SELECT * FROM switchwise_bi.leaderboard"),
    ):
        out.print(Text(f"  {what}:"))
        out.print(Text(f"    {home}switchwise {command}"), soft_wrap=True)
    out.print(Text("  the pages in a browser, after another run of the weeks:"))
    out.print(Text("    switchwise demo --serve"))


def slack_story(
    messages: Sequence[Mapping[str, Any]], switched: Week | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The message that first recommended a switch, and the latest one, each with a heading.

    Reminders rewrite the message they are about: it is told as it was before them.
    """
    first = next((one for one in map(_as_first_posted, messages) if _is_switch(one)), None)
    if first is not None:
        when = f", week {switched.number} of {switched.of}" if switched else ""
        yield f"What Slack was told when the switch was first recommended{when}", first
    if messages and messages[-1] is not first:
        yield "What Slack was told after the last week", messages[-1]


def _as_first_posted(message: Mapping[str, Any]) -> Mapping[str, Any]:
    history = message.get("history")
    return {**message, **history[0]} if history else message


def _is_switch(message: Mapping[str, Any]) -> bool:
    return str(message.get("text") or "").startswith(_SWITCH)


def _recommends(document: Mapping[str, Any]) -> bool:
    return any(str(alert["title"]).startswith(_SWITCH) for alert in document["alerts"])


def message_text(message: Mapping[str, Any]) -> str:
    """The words of a Slack message: its blocks as plain lines."""
    lines: list[str] = []
    for block in message.get("blocks") or ():
        lines += _block_lines(block)
    return "\n".join(lines) or str(message.get("text") or "")


def _block_lines(block: Mapping[str, Any]) -> list[str]:
    texts = [block.get("text"), *(block.get("fields") or ()), *(block.get("elements") or ())]
    found = [str(text["text"]) for text in texts if isinstance(text, Mapping) and "text" in text]
    return [_plain(text) for text in found]


def _plain(text: str) -> str:
    for mark, plain in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"), ("*", "")):
        text = text.replace(mark, plain)
    return text.replace("\n", ": ", 1) if text.count("\n") == 1 else text


def _week_line(week: Week) -> str:
    document: Any = week.document
    verdicts = ", ".join(f"{one['candidate']} {one['verdict']}" for one in document["comparisons"])
    return f"week {week.number} of {week.of}: {document['status']}; {verdicts}"


def _dsn(demo: Demonstration) -> str:
    url = demo.settings.database_url
    return url.reveal() if url else ""
