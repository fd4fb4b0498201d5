"""Plans and Runs small enough to read in a test."""

from datetime import UTC, datetime
from decimal import Decimal

from app.domain.cases import Case, Message, Prompt, Sample, Window
from app.domain.models import Role
from app.domain.plans import (
    EvaluatorSettings,
    JudgeSettings,
    LogSettings,
    Plan,
    Policy,
    SampleSettings,
)
from app.domain.prices import Price, Rates
from app.domain.runs import Run, RunStatus, Slot, Trigger
from tests.fakes.case_results import model

NOW = datetime(2026, 3, 29, 6, 30, tzinfo=UTC)


def plan(
    *candidates: str,
    policy: Policy | None = None,
    bias_allowance: float = 0.0,
    rubric: str = "Grade it.",
    adaptive: bool = True,
) -> Plan:
    """A plan with a judge; the primary is `p`."""
    return Plan(
        name="support-bot",
        primary=model("p", Role.PRIMARY),
        candidates=tuple(model(name) for name in candidates),
        logs=LogSettings(table="public.ai_logs"),
        sample=SampleSettings(n=100, adaptive=adaptive),
        evaluators=(EvaluatorSettings(type="judge"),),
        judge=JudgeSettings(
            models=(model("judge", Role.JUDGE),), rubric=rubric, bias_allowance=bias_allowance
        ),
        policy=policy or Policy(),
    )


def price(input_usd: str = "3", output_usd: str = "15", source: str = "plan") -> Price:
    """A price per million tokens."""
    return Price(rates=Rates(input=Decimal(input_usd), output=Decimal(output_usd)), source=source)


def run(trigger: Trigger = Trigger.SCHEDULE) -> Run:
    """A Run of the slot at the end of ISO week 13."""
    return Run(
        run_id="run-1",
        plan_name="support-bot",
        trigger=trigger,
        status=RunStatus.RUNNING,
        slot=Slot(key="2026-03-29T06:00", at=datetime(2026, 3, 29, 5, 0, tzinfo=UTC)),
        seed=7,
        created_at=NOW,
    )


def sample(n: int = 4, text: str = "What is the weather like?") -> Sample:
    """A Sample of short prompts from a week of 700 rows."""
    return Sample(
        window=Window(
            start=datetime(2026, 3, 22, 5, 0, tzinfo=UTC),
            end=datetime(2026, 3, 29, 5, 0, tzinfo=UTC),
        ),
        seed=7,
        frame=700,
        requested=n,
        drawn=n,
        cases=tuple(
            Case(
                case_id=f"r1-{i}",
                source_id=f"row-{i}",
                ordinal=i,
                prompt=Prompt(messages=(Message(role="user", content=text),)),
                weight=1.0 / n,
                block=i // 20,
            )
            for i in range(n)
        ),
        skipped={"empty": 2},
        mean_logged_output_tokens=200.0,
    )
