"""`report`, `history`, `explain`, `cases`: what is stored, without calling anything."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, PlanOption, RunArgument


def report(
    *,
    run: RunArgument = None,
    config: ConfigOption = None,
    plan: PlanOption = None,
    as_json: JsonOption = False,
    as_markdown: Annotated[bool, typer.Option("--md", help="Print Markdown.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one CSV line per model.")] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write one self-contained HTML file.", show_default=False),
    ] = None,
) -> None:
    """Show a run: leaderboard with intervals, comparisons, verdicts in words."""
    from app.cli.output import console, print_json, print_text
    from app.cli.reports import print_report, report_csv, report_markdown
    from app.cli.stored import read_stored, stored_document
    from app.domain.errors import ConfigError

    if sum((as_json, as_markdown, as_csv, html is not None)) > 1:
        raise ConfigError("choose one of --json, --md, --csv and --html")
    if html is not None:
        _write_html(run, config, plan, html)
        return
    document = read_stored(config, plan, lambda storage, name: stored_document(storage, name, run))
    if as_json:
        print_json(document)
    elif as_markdown:
        print_text(report_markdown(document))
    elif as_csv:
        print_text(report_csv(document))
    else:
        print_report(document, console())


def _write_html(run: str | None, config: Path | None, plan: str | None, file: Path) -> None:
    from app.cli.output import tell
    from app.cli.stored import read_stored, stored_document
    from app.clocks import SystemClock
    from app.domain.errors import ConfigError
    from app.web.static_report import static_report
    from app.wiring import Storage, open_pages

    async def written(storage: Storage, name: str) -> str:
        run_id = str((await stored_document(storage, name, run))["run_id"])
        async with open_pages(storage.dsn) as pages:
            return await static_report(pages, name, now=SystemClock().now(), run_id=run_id)

    page = read_stored(config, plan, written)
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html {file}: {error.strerror}") from error
    tell(f"wrote {file}")


def history(
    *,
    config: ConfigOption = None,
    plan: PlanOption = None,
    weeks: Annotated[int, typer.Option("--last", min=1, max=520, help="Runs to show.")] = 12,
    model: Annotated[
        str | None, typer.Option("--model", help="One model only.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show the trend of every model over the latest scheduled runs."""
    from app.cli.histories import history_csv, history_rows, print_history
    from app.cli.output import console, print_json, print_text
    from app.cli.stored import read_stored, stored_documents

    documents = read_stored(
        config, plan, lambda storage, name: stored_documents(storage, name, weeks)
    )
    rows = history_rows(documents, model=model)
    if as_json:
        print_json({"plan": documents[-1]["plan"] if documents else plan, "history": rows})
    elif as_csv:
        print_text(history_csv(rows))
    else:
        print_history(rows, console())


def explain(
    *,
    run: RunArgument = None,
    config: ConfigOption = None,
    plan: PlanOption = None,
    case: Annotated[
        str | None,
        typer.Option(
            "--case", help="Explain the scores of one case (or its beginning).", show_default=False
        ),
    ] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="With --case: show prompt, replies and reasons.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Explain the verdicts of a run: every test of the policy with its numbers."""
    from app.cli.explanations import explanation, print_explanation
    from app.cli.output import console, print_json
    from app.cli.stored import read_stored, stored_document

    if case is not None:
        _explain_case(run, case, config, plan, texts=texts, as_json=as_json)
        return
    document = read_stored(config, plan, lambda storage, name: stored_document(storage, name, run))
    if as_json:
        print_json(explanation(document))
    else:
        print_explanation(document, console())


def _explain_case(
    run: str | None,
    case_id: str,
    config: Path | None,
    plan: str | None,
    *,
    texts: bool,
    as_json: bool,
) -> None:
    from app.cli.case_explanations import explained_case, print_case, without_texts
    from app.cli.output import console, print_json
    from app.cli.stored import read_stored

    found = read_stored(
        config, plan, lambda storage, name: explained_case(storage, name, run, case_id)
    )
    if as_json:
        print_json(found if texts else without_texts(found))
    else:
        print_case(found if texts else without_texts(found), console(), with_texts=texts)


def cases(
    *,
    run: RunArgument = None,
    config: ConfigOption = None,
    plan: PlanOption = None,
    candidate: Annotated[
        str | None, typer.Option("--candidate", help="One candidate only.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Pairs to show.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the pairs that got worse, worst first; shows no prompt text."""
    from app.cli.output import console, print_json
    from app.cli.stored import read_stored
    from app.cli.worst_cases import print_worst, worst_cases

    found = read_stored(
        config,
        plan,
        lambda storage, name: worst_cases(storage, name, run, candidate=candidate, limit=limit),
    )
    if as_json:
        print_json(found)
    else:
        print_worst(found, console())
