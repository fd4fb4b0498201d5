import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from app.sandbox.gateway import Gateway, gateway_app
from app.sandbox.runner import main, running, running_process
from app.sandbox.world import Fault, FaultKind, World, load_world
from app.sandbox.worlds import PRICES, PRIME, named_world, world_names

ROOT = Path(__file__).resolve().parents[3]


def ask(**more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "What is 17 + 25?"}]
    return {"model": PRIME, "max_tokens": 100, "messages": messages, **more}


def test_a_process_serves_gateway_and_slack_with_one_clock_file_and_log(tmp_path: Path) -> None:
    log, clock, world = tmp_path / "calls", tmp_path / "clock", tmp_path / "world.json"
    clock.write_text("2026-02-03T00:00:00+00:00")
    world.write_text(json.dumps(named_world("calm", seed=9).to_json()))
    arguments = ("--world", str(world), "--call-log", str(log), "--clock-file", str(clock))
    with running_process(*arguments, "--api-key", "k") as ready:
        response = httpx.post(f"{ready['url']}/v1/messages", json=ask(), headers={"x-api-key": "k"})
        assert response.status_code == 200
        assert httpx.post(f"{ready['url']}/v1/messages", json=ask()).status_code == 401
        posted = httpx.post(
            f"{ready['slack_url']}chat.postMessage",
            json={"channel": "C1", "text": "x"},
            headers={"authorization": "Bearer xoxb-1"},
        )
        assert posted.json()["ok"]
        assert httpx.get(f"{ready['url']}/_sandbox/clock").json()["week"] == 5
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(row["week"], row["status"]) for row in rows] == [(5, 200)]


def test_sigterm_ends_the_process_cleanly_even_while_a_call_hangs(tmp_path: Path) -> None:
    world = World(
        models={PRIME: named_world("calm").models[PRIME]}, faults=(Fault(kind=FaultKind.HANG),)
    )
    path, log = tmp_path / "world.json", tmp_path / "calls"
    path.write_text(json.dumps(world.to_json()))
    process = subprocess.Popen(
        [sys.executable, "-m", "app.sandbox", "--world", str(path), "--call-log", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{ready['url']}/v1/messages", json=ask(), timeout=0.2)

    async def hang_and_kill() -> None:
        async with httpx.AsyncClient(timeout=10) as http:
            call = asyncio.ensure_future(http.post(f"{ready['url']}/v1/messages", json=ask()))
            while (await http.get(f"{ready['url']}/_sandbox/calls")).json()["in_flight"] < 1:
                assert not call.done()
            os.kill(int(ready["pid"]), signal.SIGTERM)
            with pytest.raises(httpx.TransportError):
                await call

    asyncio.run(hang_and_kill())
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert errors == ""
    assert [json.loads(line)["outcome"] for line in log.read_text().splitlines()] == ["hang"] * 2


async def test_a_server_in_this_loop_stops_while_calls_are_open() -> None:
    world = World(models={PRIME: named_world("slow").models[PRIME]})
    async with running(gateway_app(Gateway(world))) as url, httpx.AsyncClient() as http:
        call = asyncio.ensure_future(http.post(f"{url}/v1/messages", json=ask()))
        while (await http.get(f"{url}/_sandbox/calls")).json()["in_flight"] < 1:
            assert not call.done()
    with pytest.raises(httpx.TransportError):
        await call


def test_a_bad_world_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "world.json"
    bad.write_text('{"models": {"a": {"qualty": 0.5}}}')
    assert main(["--world", str(bad)]) == 2
    assert "qualty" in capsys.readouterr().err
    assert main(["--world", str(tmp_path / "none.json")]) == 2


@pytest.mark.parametrize("name", world_names())
def test_every_named_world_survives_a_trip_through_json(name: str, tmp_path: Path) -> None:
    starts_at = datetime(2026, 4, 6, tzinfo=UTC)
    world = named_world(name, seed=4, starts_at=starts_at)
    path = tmp_path / "world.json"
    path.write_text(json.dumps(world.to_json()))
    assert load_world(path) == world
    assert set(PRICES) == set(world.models)
    assert world.week(starts_at) == 1
