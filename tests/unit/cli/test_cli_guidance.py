import json
from pathlib import Path

import pytest

from app.cli.guidance import guide
from app.domain.errors import ConfigError, LogSourceError
from app.domain.models import Secret
from app.plans import load_plans
from app.settings import Settings

UNSET = Settings.model_construct(
    logs_database_url=None, database_url=None, llm_api_key=None, llm_base_url=None
)


def test_without_a_database_the_example_is_written_and_what_is_missing_is_told(
    tmp_path: Path,
) -> None:
    told = guide(tmp_path / "plan.yaml", UNSET, file=None, table=None)
    text = "\n".join(told)
    assert "LOGS_DATABASE_URL is not set" in told[0]
    for word in ("LLM_API_KEY", "check --online", "switchwise plan", "switchwise run --n 10"):
        assert word in text


def test_nothing_is_looked_for_where_a_plan_exists(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        guide(path, UNSET, file=tmp_path / "absent.jsonl", table=None)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["suite.jsonl", "suite.json", "suite.csv"])
def test_a_file_of_prompts_becomes_the_log(tmp_path: Path, name: str) -> None:
    rows = [{"question": f"What is {n}?", "expected": str(n), "model": "gpt-4.1"} for n in range(9)]
    file = tmp_path / name
    match file.suffix:
        case ".jsonl":
            file.write_text("\n".join(map(json.dumps, rows)))
        case ".json":
            file.write_text(json.dumps(rows, indent=1))
        case _:
            lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
            file.write_text("\n".join(lines))
    guide(tmp_path / "plan.yaml", UNSET, file=file, table=None)
    (plan,) = load_plans(tmp_path / "plan.yaml", {"LLM_API_KEY": "k"})
    assert plan.logs.preset == "file"
    assert plan.logs.path == str(file)
    assert plan.logs.columns == {"prompt": "question", "reference": "expected"}
    assert plan.primary.model == "gpt-4.1"


def test_a_set_key_is_not_asked_for(tmp_path: Path) -> None:
    settings = UNSET.model_copy(update={"llm_api_key": Secret("k")})
    told = guide(tmp_path / "plan.yaml", settings, file=None, table=None)
    assert not any("LLM_API_KEY" in line for line in told)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("plain words", "neither CSV"), ('{"a": 1}', "neither prompts nor messages"), ("", "neither")],
)
def test_a_file_without_prompts_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_text(text)
    with pytest.raises(LogSourceError, match=problem):
        guide(tmp_path / "plan.yaml", UNSET, file=file, table=None)
    assert not (tmp_path / "plan.yaml").exists()
