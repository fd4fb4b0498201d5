import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
import typer

from app.__main__ import main
from app.cli.commands import build_app
from tests.processes import switchwise

PLAN = """\
name: support-bot
primary: {name: prod, model: claude-sonnet-4-5}
candidates: [{name: haiku, model: claude-haiku-4-5}]
logs: {table: public.ai_logs}
"""
Call = Callable[..., int]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Call]:
    """Runs a command in this process and gives its exit code."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for name in ("DATABASE_URL", "LOGS_DATABASE_URL", "SWITCHWISE_CONFIG", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SWITCHWISE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLM_API_KEY", "k" * 12)

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["switchwise", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    yield call
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_every_command_is_explained_in_the_help() -> None:
    shown = switchwise("--help")
    assert shown.returncode == 0
    commands = getattr(typer.main.get_command(build_app()), "commands", {})
    assert len(commands) > 10
    for name in commands:
        assert re.search(rf"^  {name} +\S", shown.stdout, re.MULTILINE), name


@pytest.mark.parametrize("command", ["check", "plan", "run", "serve"])
def test_a_wrong_plan_ends_with_code_2_and_one_clear_message(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN + "smaple: {n: 3}\n")
    assert call(command, "--config", str(path)) == 2
    shown = capsys.readouterr()
    assert shown.err == (f"switchwise: {path}:5: smaple: unknown key; did you mean `sample`?\n")
    assert shown.out == ""
    assert not (tmp_path / "home").exists()


def test_each_of_several_mistakes_has_a_line(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN + "smaple: {n: 3}\nheartbeat_url: ${NOT_SET}\n")
    assert call("check", "--config", str(path)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[2] for line in lines] == ["5", "6"]


def test_the_schema_command_prints_a_json_schema(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("schema") == 0
    assert json.loads(capsys.readouterr().out)["properties"]["candidates"]["type"] == "array"


def test_init_writes_a_plan_once(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "switchwise.yaml"
    assert call("init", str(path)) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    assert call("init", str(path)) == 2


@pytest.mark.parametrize("command", ["report", "history", "explain", "cases", "status"])
def test_reading_from_an_empty_home_makes_nothing_and_says_what_to_do(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert call(command, "--json") == 3
    assert "switchwise run" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "--json", "--csv"),
        ("run", "--fail-on", "rain"),
        ("run", "--max-usd", "much"),
        ("run", "--n", "0"),
        ("ack", "x/switch:y"),
        ("nonsense",),
    ],
)
def test_wrong_usage_ends_with_code_2(call: Call, arguments: tuple[str, ...]) -> None:
    assert call(*arguments) == 2


def test_a_variable_that_makes_a_vendors_kit_print_prompts_is_refused(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTHROPIC_LOG", "debug")
    assert call("check") == 2
    assert "ANTHROPIC_LOG" in capsys.readouterr().err
