"""Which names of a model are the same model."""

import pytest

from app.providers.model_names import is_same_model


@pytest.mark.parametrize(
    ("requested", "reported"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4o", "openai/gpt-4o"),
        ("openai/gpt-4o", "gpt-4o-2024-08-06"),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
        ("haiku-4-5", "claude-haiku-4-5-20251001"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet-20241022"),
        ("claude-3-5-sonnet", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("deepseek/deepseek-chat", "deepseek/deepseek-chat:free"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b-instruct"),
        ("mistral-large-latest", "mistral-large-2407"),
        ("gemini-1.5-pro", "models/gemini-1.5-pro-002"),
        ("gpt-4", "gpt-4-0613"),
    ],
)
def test_prefixes_dates_and_revisions_name_the_same_model(requested: str, reported: str) -> None:
    assert is_same_model(requested, reported)
    assert is_same_model(reported, requested)


@pytest.mark.parametrize(
    ("requested", "reported"),
    [
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4", "gpt-4.1"),
        ("gpt-4", "gpt-4-32k"),
        ("claude-sonnet-4", "claude-sonnet-4-5"),
        ("claude-3-5-sonnet-20240620", "claude-3-5-sonnet-20241022"),
        ("claude-sonnet-4-5", "claude-haiku-4-5"),
        ("llama-3.1-70b", "llama-3.1-8b"),
        ("gpt-4o", ""),
        ("", "gpt-4o"),
        ("default", "latest"),
        ("qwen3-235b", "deepseek-chat"),
    ],
)
def test_another_size_version_or_family_is_another_model(requested: str, reported: str) -> None:
    assert not is_same_model(requested, reported)
    assert not is_same_model(reported, requested)
