import json
from pathlib import Path

import pytest

from app.cli.templates import write_plan
from app.domain.errors import ConfigError
from app.plans import load_plans


def test_the_written_plan_loads_where_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "conf" / "bot.yaml"
    written = write_plan(path)
    assert written == (
        path,
        tmp_path / "conf" / "rubrics" / "default.md",
        tmp_path / "conf" / "switchwise.schema.json",
    )
    (plan,) = load_plans(path, {"LLM_API_KEY": "k"})
    assert plan.judge is not None
    assert "Levels" in plan.judge.rubric
    assert json.loads(written[2].read_text())["title"] == "Switchwise plan"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "bot.yaml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        write_plan(path)
    assert path.read_text() == "mine"
    rubric = tmp_path / "rubrics" / "default.md"
    rubric.parent.mkdir()
    rubric.write_text("my rubric")
    assert rubric not in write_plan(tmp_path / "other.yaml")
    assert rubric.read_text() == "my rubric"
