"""What the pages about logs, models and safety show must work, and the tests they name must exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from app.plans import load_plans
from app.providers.prices import parse_overrides
from tests.processes import ROOT

DOCS = ROOT / "docs"
PLAN = """
name: from-the-page
primary: {name: a, model: claude-sonnet-4-5}
candidates: [{name: b, model: claude-haiku-4-5}]
"""
KEYS = (
    "LLM_API_KEY",
    "LANGFUSE_PUBLIC_KEY",
    "LANGFUSE_SECRET_KEY",
    "HELICONE_API_KEY",
    "OPENAI_API_KEY",
)


def blocks(page: str, language: str) -> Iterator[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    for found in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield found[1]


@pytest.mark.parametrize("block", list(blocks("log-sources.md", "yaml")))
def test_every_shown_log_section_is_taken(tmp_path: Path, block: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN + block)
    (plan,) = load_plans(path, dict.fromkeys(KEYS, "k" * 12))
    assert plan.logs.preset == yaml.safe_load(block)["logs"].get("preset", "generic")


def test_every_shown_model_and_price_is_taken(tmp_path: Path) -> None:
    models, prices = blocks("models-and-prices.md", "yaml")
    assert set(parse_overrides(prices)) == {"qwen3-235b", "house-model"}
    path = tmp_path / "plan.yaml"
    candidates = "\n".join(f"  {line}" for line in models.splitlines())
    path.write_text(
        f"{PLAN.partition('candidates')[0]}candidates:\n{candidates}\nlogs: {{table: t}}\n"
    )
    (plan,) = load_plans(path, dict.fromkeys(KEYS, "k" * 12))
    assert [model.params["reported_model"] for model in plan.candidates] == [
        "claude-sonnet-4-5",
        ["gpt-4.1", "gpt-4.1-mini"],
        "*",
    ]


def test_every_test_that_is_named_as_proof_exists() -> None:
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", text))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_line_of_the_owasp_list_is_answered() -> None:
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    assert [number for number in range(1, 11) if f"| LLM{number:02d} " not in text] == []
