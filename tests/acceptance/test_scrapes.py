"""What Prometheus scrapes of a service that was killed, and what its log lines carry."""

import json
import re
import signal
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.faults.rig import Rig, rig, weekly
from tests.processes import ROOT

SUNDAY = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)

Scrape = Mapping[str, Sequence[Sample]]


def scraped(made: Rig) -> Scrape:
    """What the service tells, as Prometheus's own client library reads it."""
    with urllib.request.urlopen(f"http://{made.plan['server']['bind']}/metrics", timeout=20) as got:
        families = text_string_to_metric_families(got.read().decode())
        return {family.name: family.samples for family in families}


def whole_scrape(made: Rig) -> Scrape:
    """The first scrape that reached the database: a busy machine may be too late for one."""
    whole: list[Scrape] = []

    def is_whole() -> bool:
        with suppress(OSError):
            found = scraped(made)
            if found["switchwise_database_up"][0].value == 1:
                whole.append(found)
        return bool(whole)

    made.until(is_whole, what="a scrape")
    return whole[0]


def values(scrape: Scrape, name: str, label: str) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in scrape[name]}


def test_after_a_kill_the_gauges_are_those_of_the_rows_from_the_first_scrape(
    tmp_path: Path, database_url: str
) -> None:
    with rig(tmp_path, database_url, n=30, ttft_ms=60.0, logs_end_at=SUNDAY) as made:
        weekly(made, SUNDAY + timedelta(minutes=1))
        killed = made.serve()
        made.until(lambda: made.received() >= 40, what="40 calls")
        killed.kill()
        settled = made.value("SELECT count(*) FROM switchwise.attempts WHERE state = 'settled'")

        second = made.serve()
        first = whole_scrape(made)
        assert values(first, "switchwise_runs", "status") in ({"running": 1.0}, {"done": 1.0})
        attempts = sum(sample.value for sample in first["switchwise_run_attempts"])
        assert attempts >= settled > 0

        made.until(lambda: made.statuses() == {"done": 1}, what="the run is done")
        made.until(lambda: len(made.messages()) == 1, what="its message")
        made.until(lambda: _waits(made) == 0, what="its receipt")
        last = whole_scrape(made)
        second.signal(signal.SIGTERM)
        assert made.finish(second, within_s=25) == 0

        rows = made.query(
            "SELECT model_name, quality::float8 AS quality, success_rate::float8 AS success"
            " FROM switchwise.model_results WHERE segment_name = 'all'"
        )
        assert values(last, "switchwise_runs", "status") == {"done": 1.0}
        assert values(last, "switchwise_success_rate", "model") == {
            row["model_name"]: row["success"] for row in rows
        }
        assert values(last, "switchwise_quality", "model") == {
            row["model_name"]: row["quality"] for row in rows if row["quality"] is not None
        }
        (success,) = last["switchwise_last_success_timestamp_seconds"]
        finished = made.value("SELECT extract(epoch FROM finished_at) FROM switchwise.runs")
        assert success.value == float(finished)
        assert last["switchwise_queue_depth"][0].value == 0
        assert last["switchwise_outbox_age_seconds"][0].value == 0
        told = sum(sample.value for sample in last["switchwise_run_attempts"])
        assert told == made.value("SELECT count(*) FROM switchwise.attempts")
        _assert_documented(last)

        run_id = made.run_id()
        for process in (killed, second):
            about_runs = _lines_about_runs(made.errors_of(process))
            assert about_runs, made.errors_of(process)
            for line in about_runs:
                assert (line.get("plan"), line.get("run_id")) == ("fault", run_id), line


def _waits(made: Rig) -> int:
    return int(made.value("SELECT count(*) FROM switchwise.outbox WHERE delivered_at IS NULL"))


def _assert_documented(scrape: Scrape) -> None:
    """Every metric of ours is in the table of the docs, with its labels, and none beside it."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(switchwise_\w+)` \| ([\w, ]*)\|", page, re.MULTILINE)
    documented = {name: {one.strip() for one in labels.split(",")} - {""} for name, labels in rows}
    ours = {name: samples for name, samples in scrape.items() if name.startswith("switchwise_")}
    assert set(ours) == set(documented)
    for name, samples in ours.items():
        assert all(set(sample.labels) == documented[name] for sample in samples), name


def _lines_about_runs(log: str) -> list[dict[str, object]]:
    """Lines of ours that tell of a run, a shard or a message; each whole line must be JSON."""
    lines = [json.loads(line) for line in log.splitlines(keepends=True) if line.endswith("\n")]
    of_the_service = ("serving", "stopping", "stopped", "pruned")
    return [
        line
        for line in lines
        if str(line["logger"]).startswith("app.") and line["event"] not in of_the_service
    ]
