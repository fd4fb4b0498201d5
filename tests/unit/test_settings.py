"""The environment is read once, strictly and without showing secrets."""

from pathlib import Path

import pytest

from app.domain.errors import ConfigError
from app.domain.models import Secret
from app.settings import Settings, load_settings

NAMES = (
    "DATABASE_URL",
    "LOGS_DATABASE_URL",
    "LLM_BASE_URL",
    "LLM_API_KEY",
    "SLACK_BOT_TOKEN",
    "SWITCHWISE_CONFIG",
    "SWITCHWISE_HOME",
    "SWITCHWISE_CLOCK_FILE",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "ANTHROPIC_LOG",
    "OPENAI_LOG",
)


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_nothing_needs_to_be_set() -> None:
    settings = load_settings()
    assert settings.database_url is None
    assert settings.config == Path("config/switchwise.yaml")
    assert settings.home == Path(".switchwise")
    assert (settings.log_format, settings.log_level) == ("console", "INFO")
    assert settings.clock_file is None


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("LOG_FORMAT", "")
    settings = load_settings()
    assert settings.database_url is None
    assert settings.log_format == "console"


def test_variables_are_read_and_secrets_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter2@db/x")
    monkeypatch.setenv("LLM_API_KEY", "sk-1")
    monkeypatch.setenv("SWITCHWISE_CLOCK_FILE", "/tmp/clock")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    settings = load_settings()
    assert settings.database_url == Secret("postgresql://u:hunter2@db/x")
    assert settings.clock_file == Path("/tmp/clock")
    assert settings.log_level == "DEBUG"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


def test_plans_can_refer_to_any_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", "k")
    assert load_settings().variables["TEAM_KEY"] == "k"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "LOUD"),
        ("DATABASE_URL", "mysql://u:hunter2@db/x"),
        ("ANTHROPIC_LOG", "debug"),
        ("OPENAI_LOG", "DEBUG"),
    ],
)
def test_a_wrong_variable_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert name in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.log_format = "json"  # type: ignore[misc]
