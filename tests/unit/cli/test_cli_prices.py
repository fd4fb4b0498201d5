import json
from decimal import Decimal
from pathlib import Path

from app.alerting.phrases import bill_warnings
from app.domain.prices import CostCheck
from tests.processes import switchwise

PLAN = """\
name: support-bot
primary: {name: prod, model: claude-sonnet-4-5}
candidates:
  - {name: own, model: house-model}
  - {name: batch, model: claude-haiku-4-5, price_as: claude-haiku-4-5@batch}
logs: {table: public.ai_logs}
"""


def check(computed: str, reported: str) -> CostCheck:
    return CostCheck(
        model_name="haiku",
        calls=40,
        computed_usd=Decimal(computed),
        reported_usd=Decimal(reported),
    )


def test_a_bill_that_differs_is_told_with_both_figures_and_what_to_mend() -> None:
    (warning,) = bill_warnings([check("1.00", "1.05"), check("1.00", "1.01")])
    for words in ("haiku", "$1.05", "$1.00", "+5.0 %", "40 calls", "price_as"):
        assert words in warning


def test_prices_tell_every_rate_its_source_and_the_age_of_the_list(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "prices.yaml").write_text(
        "prices: {house-model: {since: 2026-01-01, input: 2, output: 9, per_request_usd: 0.005}}"
    )
    env = {"LLM_API_KEY": "k" * 12, "SWITCHWISE_HOME": str(tmp_path / "home")}
    shown = switchwise("prices", "--config", "plan.yaml", cwd=tmp_path, env=env)
    assert shown.returncode == 0, shown.stderr
    for words in ("prices.yaml since 2026-01-01", "0.005", "above 200,000", "days ago", ", batch"):
        assert words in shown.stdout
    assert not (tmp_path / "home").exists()


def test_a_model_without_a_price_ends_with_code_2_and_names_that_look_alike(
    tmp_path: Path,
) -> None:
    shown = switchwise("prices", "claude-haiku-4-55", "--json", cwd=tmp_path)
    assert shown.returncode == 0  # the list knows families by their beginning
    shown = switchwise("prices", "claud-haiku-4-5", "--json", cwd=tmp_path)
    assert shown.returncode == 2
    (line,) = json.loads(shown.stdout)["prices"]
    assert line["price"] is None
    assert "claude-haiku-4-5" in line["nearest_known"]
