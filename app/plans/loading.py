"""Reads plan files: one, or a directory of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from app.domain.errors import ConfigError, Problem
from app.domain.plans import Plan
from app.plans.assembly import Assembly
from app.plans.documents import Document, Findings, read_document
from app.plans.publishing import config_hash
from app.plans.references import References, reason_of
from app.plans.sections import PlanFile
from app.plans.validation import validate

PRICES_FILE = "prices.yaml"
_ENDINGS = {".yaml", ".yml"}

Read = Callable[[Path], str]


def read_text(path: Path) -> str:
    """The text of a file."""
    return path.read_text(encoding="utf-8-sig")


def load_plans(
    path: Path, variables: Mapping[str, str], *, read: Read = read_text
) -> tuple[Plan, ...]:
    """Read every plan of a file or directory.

    Args:
        path: A plan file, or a directory whose `*.yaml` files are plans (`prices.yaml` excepted).
        variables: What `${VAR}` refers to.
        read: Reads a text file.

    Raises:
        ConfigError: With everything that is wrong in any file, each with file, line and key.
    """
    problems: list[Problem] = []
    plans: list[Plan] = []
    for file in _files(path):
        findings = Findings(str(file))
        plan = _load(file, variables, read, findings)
        problems += findings.problems
        if plan is not None:
            plans.append(plan)
    problems += _name_clashes(plans)
    if problems:
        raise ConfigError(problems)
    return tuple(plans)


def _load(file: Path, variables: Mapping[str, str], read: Read, findings: Findings) -> Plan | None:
    references = References(variables=variables, read=read, folder=file.parent)
    document = _document(file, references, findings)
    if document is None:
        return None
    sections = validate(PlanFile, document, findings)
    if sections is None:
        return None
    plan = Assembly(
        file=sections,
        document=document,
        findings=findings,
        references=references,
    ).plan()
    return None if findings.problems else replace(plan, config_hash=config_hash(plan))


def _document(file: Path, references: References, findings: Findings) -> Document | None:
    try:
        text = references.read(file)
    except (OSError, UnicodeDecodeError) as error:
        findings.add((), f"cannot be read: {reason_of(error)}", line=None)
        return None
    return read_document(text, findings, references.expand)


def _files(path: Path) -> tuple[Path, ...]:
    if not path.is_dir():
        if not path.exists():
            raise ConfigError(
                Problem(
                    file=str(path),
                    message="there is no such plan; `switchwise init` writes one, "
                    "--config PATH or SWITCHWISE_CONFIG names another",
                )
            )
        return (path,)
    files = tuple(
        file
        for file in sorted(path.iterdir())
        if file.suffix in _ENDINGS and file.name != PRICES_FILE and not file.name.startswith(".")
    )
    if not files:
        raise ConfigError(Problem(file=str(path), message="holds no plan (*.yaml)"))
    return files


def _name_clashes(plans: list[Plan]) -> list[Problem]:
    first: dict[str, str | None] = {}
    clashes = []
    for plan in plans:
        if plan.name in first:
            clashes.append(
                Problem(
                    file=plan.source_file,
                    key="name",
                    message=f"plan {plan.name!r} is already in {first[plan.name]}",
                )
            )
        first.setdefault(plan.name, plan.source_file)
    return clashes
