"""What the pages read, as a Protocol. Nothing behind it can write."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from app.domain.results import CaseResult

Row = Mapping[str, Any]
"""A row of the results database by column name."""


class Pages(Protocol):
    """Reads for people. Text of prompts and replies comes from `case` and `attempts` alone."""

    async def plan_names(self) -> Sequence[str]:
        """Every plan that ever had a Run, in order of name."""

    async def newest_run(self, plan_name: str, *, is_verdict: bool) -> Row | None:
        """The plan's newest Run that ended, with `document`; None without one.

        Args:
            plan_name: The plan.
            is_verdict: Only a complete Run of a slot will do.
        """

    async def run(self, run_id: str) -> Row | None:
        """One Run with `frozen` and `document` (None before it ended)."""

    async def runs(self, plan_name: str, *, limit: int, offset: int = 0) -> Sequence[Row]:
        """The plan's Runs, newest first, each with `verdicts` {candidate: verdict}."""

    async def open_alerts(self, plan_name: str) -> Sequence[Row]:
        """Alerts that are open, acknowledged ones included, oldest first."""

    async def spend_since(self, plan_name: str, since: datetime) -> Decimal:
        """What the plan's ended Runs of slots since then spent."""

    async def history(self, plan_name: str, *, limit: int) -> Sequence[Row]:
        """Every model's figures in the newest complete Runs of slots, oldest first."""

    async def epochs(self, plan_name: str, *, limit: int) -> Sequence[Row]:
        """Epoch and verdict of every candidate in the same Runs, oldest first."""

    async def identities(self, plan_name: str) -> Mapping[str, Row]:
        """What each epoch of the plan covers, by its digest."""

    async def configurations(self, run_ids: Sequence[str]) -> Mapping[str, Row]:
        """The frozen set-up of these Runs."""

    async def case_results(self, run_id: str, *, is_final: bool) -> Sequence[CaseResult]:
        """What every model did on every Case of the Run, which may be remembered once final."""

    async def evaluator_scores(self, run_id: str, evaluator: str) -> Sequence[Row]:
        """One Evaluator's score of every reply of the Run, judges averaged."""

    async def calls(self, run_id: str) -> Sequence[Row]:
        """The Run's Attempts counted by model, purpose, state and failure class."""

    async def pulse(self, run_id: str, *, buckets: int) -> Sequence[Row]:
        """The Run's Attempts counted over its duration, by bucket and purpose."""

    async def case(self, case_id: str) -> Row | None:
        """One Case with its `body` and the facts of its Run."""

    async def attempts(self, run_id: str, case_id: str) -> Sequence[Row]:
        """Every Attempt for a Case with its reply, in order."""

    async def scores(self, run_id: str, case_id: str) -> Sequence[Row]:
        """Every score of a Case with its reason."""
