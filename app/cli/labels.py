"""`labels`: pairs of replies for people to score, and their scores read back."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, PlanOption


def labels_app() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="Human labels, to calibrate the judge.", no_args_is_help=True)
    app.command("export")(export_labels)
    app.command("import")(import_labels)
    return app


def export_labels(
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write: .html for a page to score in, else CSV (default: CSV on stdout).",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", "-n", min=1, help="Pairs a candidate.")] = 220,
    candidate: Annotated[
        str | None, typer.Option("--candidate", help="One candidate only.", show_default=False)
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Latest runs to draw from.")] = 4,
    config: ConfigOption = None,
    plan: PlanOption = None,
) -> None:
    """Write blind pairs of replies to score from 1 to 5; they hold prompts and replies."""
    from app.cli.labelling import exported_pairs, public_url_of, sheet_of
    from app.cli.output import print_text, tell
    from app.cli.stored import read_stored

    drawn = read_stored(
        config,
        plan,
        lambda storage, name: exported_pairs(
            storage, name, candidate=candidate, wanted=pairs, runs=runs
        ),
    )
    form = "html" if out is not None and out.suffix.lower() in {".html", ".htm"} else "csv"
    text = sheet_of(drawn, form=form, public_url=public_url_of(config))
    if out is None:
        print_text(text)
    else:
        out.write_text(text, encoding="utf-8", errors="replace", newline="")
        out.chmod(0o600)
    tell(f"{len(drawn.pairs)} pairs to label{f' in {out}' if out else ''}; they hold prompt text")


def import_labels(
    sheet: Annotated[
        Path, typer.Argument(help="The filled CSV.", exists=True, dir_okay=False, readable=True)
    ],
    *,
    labelled_by: Annotated[
        str | None,
        typer.Option("--by", help="Who scored, where the sheet does not say.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    plan: PlanOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the scores of a sheet; the next run tells how far the judge agrees with them."""
    from app.cli.labelling import imported
    from app.cli.output import print_json, print_text
    from app.cli.session import open_session
    from app.cli.stored import read_stored
    from app.evaluation.label_sheets import read_sheet
    from app.wiring import clock_for

    scores = read_sheet(sheet.read_text(encoding="utf-8-sig"), labelled_by=labelled_by)
    clock = clock_for(open_session(None, with_plans=False).settings)
    found = read_stored(
        config, plan, lambda storage, name: imported(storage, name, scores, at=clock.now())
    )
    if as_json:
        print_json(found)
        return
    print_text(f"{found['labels']} labels of {found['pairs']} pairs are stored")
    print_text(found["agreement"])
