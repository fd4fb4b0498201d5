"""The environment: the only place that reads it."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.domain.errors import ConfigError, Problem
from app.domain.models import Secret

_POSTGRES_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_PROMPT_PRINTERS = ("ANTHROPIC_LOG", "OPENAI_LOG")


def _secret(value: object) -> object:
    return value if isinstance(value, Secret) else Secret(str(value))


_Secret = Annotated[Secret, BeforeValidator(_secret), PlainSerializer(str)]
_Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class Settings(BaseSettings):
    """What the environment says; an empty variable counts as unset.

    Attributes:
        database_url: The results database; None starts the embedded Postgres.
        config: The plan file, or a directory of plan files.
        home: Where the embedded Postgres and other local state live.
        clock_file: A file that tells all processes the time, for demonstrations and tests.
    """

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        arbitrary_types_allowed=True,
        ignored_types=(cached_property,),
    )

    database_url: _Secret | None = Field(default=None, validation_alias="DATABASE_URL")
    logs_database_url: _Secret | None = Field(default=None, validation_alias="LOGS_DATABASE_URL")
    llm_base_url: str | None = Field(default=None, validation_alias="LLM_BASE_URL")
    llm_api_key: _Secret | None = Field(default=None, validation_alias="LLM_API_KEY")
    slack_bot_token: _Secret | None = Field(default=None, validation_alias="SLACK_BOT_TOKEN")
    config: Path = Field(
        default=Path("config/switchwise.yaml"), validation_alias="SWITCHWISE_CONFIG"
    )
    home: Path = Field(default=Path(".switchwise"), validation_alias="SWITCHWISE_HOME")
    clock_file: Path | None = Field(default=None, validation_alias="SWITCHWISE_CLOCK_FILE")
    log_format: Literal["console", "json"] = Field(default="console", validation_alias="LOG_FORMAT")
    log_level: _Level = Field(default="INFO", validation_alias="LOG_LEVEL")

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("database_url", "logs_database_url")
    @classmethod
    def _is_postgres(cls, value: Secret | None) -> Secret | None:
        if value is not None and not value.reveal().startswith(_POSTGRES_SCHEMES):
            raise ValueError("must start with postgresql://")
        return value

    @cached_property
    def variables(self) -> Mapping[str, str]:
        """Every variable of the environment, for the references of plan files."""
        return dict(os.environ)


def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        ConfigError: If a variable is malformed, or tells a vendor's SDK to print prompts.
    """
    problems = [_printing(name) for name in _PROMPT_PRINTERS if _is_debug(os.environ.get(name))]
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [
            Problem(key=str(detail["loc"][0]), message=_message(detail["msg"]))
            for detail in error.errors(include_input=False, include_url=False)
        ]
    if problems:
        raise ConfigError(problems)
    return settings


def _is_debug(value: str | None) -> bool:
    return (value or "").strip().lower() == "debug"


def _printing(name: str) -> Problem:
    return Problem(key=name, message="`debug` prints prompts into the logs: unset it")


def _message(text: str) -> str:
    return text.removeprefix("Value error, ").removeprefix("Input should be ")
