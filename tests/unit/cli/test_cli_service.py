from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.cli.service import server_of
from app.cli.statuses import is_overdue
from app.domain.errors import ConfigError
from app.domain.models import Secret
from app.domain.plans import Plan, Schedule, Server
from app.domain.runs import Run, RunStatus, Slot
from tests.fakes.small_plans import plan, run

WEEKLY = Schedule(cron="0 6 * * sun", timezone=ZoneInfo("UTC"))
SUNDAY = datetime(2026, 3, 29, 6, 0, tzinfo=UTC)


def with_server(server: Server) -> Plan:
    return replace(plan("haiku"), server=server)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.4", "example.com"])
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.token"):
        server_of([with_server(Server(host=host))])
    assert server_of([with_server(Server(host=host, token=Secret("t")))]).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert server_of([with_server(Server(host=host))]).host == host


def test_plans_that_contradict_each_other_are_refused() -> None:
    plans = [with_server(Server(port=1)), with_server(Server(port=2))]
    with pytest.raises(ConfigError, match="different addresses"):
        server_of(plans)
    assert server_of([with_server(Server(port=1)), plan("x")]).port == 1


def scheduled(weeks_ago: int, status: RunStatus) -> Run:
    at = SUNDAY - timedelta(weeks=weeks_ago)
    return replace(run(), slot=Slot(key=f"{at:%Y-%m-%dT%H:%M}", at=at), status=status)


class TestOverdue:
    def overdue(self, runs: list[Run], now: datetime) -> bool:
        success = next((one for one in runs if one.status is RunStatus.DONE), None)
        return is_overdue(WEEKLY, runs, success, now)

    def test_a_slot_without_a_complete_run_is_overdue_once_its_grace_has_passed(self) -> None:
        runs = [scheduled(0, RunStatus.FAILED), scheduled(1, RunStatus.DONE)]
        assert not self.overdue(runs, SUNDAY + timedelta(hours=5))
        assert self.overdue(runs, SUNDAY + timedelta(hours=7))

    def test_a_daemon_that_stopped_is_noticed_without_any_row_for_the_slot(self) -> None:
        runs = [scheduled(1, RunStatus.DONE)]
        assert self.overdue(runs, SUNDAY + timedelta(hours=7))

    def test_a_complete_run_of_the_newest_slot_is_not(self) -> None:
        assert not self.overdue([scheduled(0, RunStatus.DONE)], SUNDAY + timedelta(days=3))

    def test_slots_before_the_first_run_are_not_held_against_it(self) -> None:
        assert not self.overdue([], SUNDAY + timedelta(days=3))
        first = [replace(scheduled(0, RunStatus.DUE), slot=Slot(key="x", at=SUNDAY))]
        assert not self.overdue(first, SUNDAY + timedelta(hours=1))

    def test_a_plan_without_a_schedule_never_is(self) -> None:
        assert not is_overdue(None, [scheduled(9, RunStatus.FAILED)], None, SUNDAY)
