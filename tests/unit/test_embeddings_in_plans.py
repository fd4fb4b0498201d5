"""The `embeddings` section of a plan file, and the evaluators that need it."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest
import yaml

from app.domain.errors import ConfigError
from app.domain.models import ModelSpec, Role
from app.domain.plans import Plan
from app.plans import config_hash, load_plans, plan_json_schema, public_config, secrets_of

KEYS = {"LLM_API_KEY": "sk-secret-1", "EMBED_KEY": "sk-secret-2"}
PLAN = """\
name: support-bot
gateway: {{base_url: {gateway}, api: {api}}}
primary: {{name: prod, model: claude-sonnet-4-5}}
candidates:
  - {{name: haiku, model: claude-haiku-4-5}}
logs: {{table: public.ai_logs}}
evaluators:
  - {{type: similarity, measure: embeddings, reference: logged}}
{embeddings}
"""


def load(
    folder: Path,
    embeddings: str,
    *,
    gateway: str = "https://gateway.example",
    api: str = "anthropic",
) -> Plan:
    file = folder / "plan.yaml"
    file.write_text(PLAN.format(gateway=gateway, api=api, embeddings=embeddings), encoding="utf-8")
    (made,) = load_plans(file, KEYS)
    return made


def embedder(made: Plan) -> ModelSpec:
    assert made.embedder is not None
    return made.embedder


def wrong(folder: Path, embeddings: str, **changes: str) -> tuple[str | None, str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, embeddings, **changes)
    (problem,) = caught.value.problems
    return problem.key, problem.message


@pytest.mark.parametrize(
    ("gateway", "api", "expected"),
    [
        ("https://gateway.example", "anthropic", "https://gateway.example/v1"),
        ("https://gateway.example/llm/", "anthropic", "https://gateway.example/llm/v1"),
        ("https://gateway.example/v1", "openai", "https://gateway.example/v1"),
    ],
)
def test_without_an_address_the_gateway_embeds(
    tmp_path: Path, gateway: str, api: str, expected: str
) -> None:
    made = embedder(load(tmp_path, "embeddings: {model: embed-3}", gateway=gateway, api=api))

    assert (made.name, made.model, made.role) == ("embeddings", "embed-3", Role.EMBEDDER)
    assert made.endpoint.base_url == expected
    assert made.endpoint.api == "embeddings"
    assert made.endpoint.api_key.reveal() == "sk-secret-1"


def test_an_endpoint_of_its_own_has_key_price_and_parameters_of_its_own(tmp_path: Path) -> None:
    text = """\
embeddings:
  name: near
  model: embed-3
  base_url: https://embed.example/v1
  api_key: ${EMBED_KEY}
  concurrency: 2
  params: {dimensions: 256}
  price: {input: 0.02}
"""
    made = embedder(load(tmp_path, text))

    assert made.endpoint.base_url == "https://embed.example/v1"
    assert made.endpoint.api_key.reveal() == "sk-secret-2"
    assert made.endpoint.concurrency == 2
    assert made.params == {"dimensions": 256}
    assert made.price is not None
    assert (made.price.rates.input, made.price.rates.output) == (Decimal("0.02"), Decimal(0))


@pytest.mark.parametrize(
    ("text", "changes", "key", "words"),
    [
        ("", {}, "evaluators[0].measure", "needs an `embeddings` section"),
        (
            "embeddings: {model: e, base_url: 'https://embed.example/v1'}",
            {},
            "embeddings.api_key",
            "is required beside a base_url on another host",
        ),
        (
            "embeddings: {model: e, base_url: 'http://embed.example/v1', api_key: ''}",
            {},
            "embeddings.base_url",
            "must be https",
        ),
        (
            "embeddings: {model: e, api_key: sk-literal}",
            {},
            "embeddings.api_key",
            "literal keys are refused",
        ),
        ("embeddings: {model: e, api: anthropic}", {}, "embeddings.api", "must be openai"),
        ("embeddings: {model: e, name: prod}", {}, "embeddings.name", "already named"),
        ("embeddings: {modl: e, model: e}", {}, "embeddings.modl", "model"),
        (
            "embeddings: {model: e}",
            {"gateway": "https://api.anthropic.com"},
            "embeddings.base_url",
            "Anthropic serves no embeddings",
        ),
        (
            "embeddings: {model: e, base_url: 'https://embed.example/v1', api_key: ''}\nprivacy: {egress_allow: [gateway.example]}",
            {},
            "embeddings.base_url",
            "no prompt may go there",
        ),
    ],
)
def test_what_is_wrong_is_named_by_key(
    tmp_path: Path, text: str, changes: Mapping[str, str], key: str, words: str
) -> None:
    found = wrong(tmp_path, text, **changes)

    assert found[0] == key
    assert words in found[1]


def test_its_host_may_receive_texts_unless_the_plan_says_which_may(tmp_path: Path) -> None:
    made = load(
        tmp_path, "embeddings: {model: e, base_url: 'https://embed.example/v1', api_key: ''}"
    )

    assert made.privacy.egress_allow == ("embed.example", "gateway.example")


def test_its_key_is_shown_nowhere(tmp_path: Path) -> None:
    made = load(tmp_path, "embeddings: {model: e, api_key: '${EMBED_KEY}'}")

    assert "sk-secret-2" not in str(public_config(made))
    assert "sk-secret-2" in secrets_of(made)


def test_another_embedding_model_breaks_trends(tmp_path: Path) -> None:
    first = load(tmp_path, "embeddings: {model: embed-3}")
    second = load(tmp_path, "embeddings: {model: embed-4}")

    assert config_hash(first) != config_hash(second)


def test_editors_know_the_section(tmp_path: Path) -> None:
    load(tmp_path, "embeddings: {model: embed-3}")
    document = yaml.safe_load((tmp_path / "plan.yaml").read_text(encoding="utf-8"))

    jsonschema.validate(document, plan_json_schema())
    document["embeddings"]["modl"] = "x"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, plan_json_schema())
