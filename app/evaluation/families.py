"""Model families: a judge may favour its own."""

import re
from collections.abc import Sequence

from app.domain.models import ModelSpec

_KNOWN = (
    ("claude", r"claude"),
    ("gpt", r"gpt|chatgpt|davinci|^o[1-9](?:$|-)"),
    ("gemini", r"gemini|palm-|bison"),
    ("gemma", r"gemma"),
    ("llama", r"llama"),
    ("mistral", r"mi[sx]tral|ministral|codestral|magistral|pixtral|devstral"),
    ("qwen", r"qwen|qwq"),
    ("deepseek", r"deepseek"),
    ("grok", r"grok"),
    ("command", r"command-"),
    ("nova", r"nova-"),
    ("phi", r"phi-?\d"),
    ("glm", r"glm"),
    ("kimi", r"kimi|moonshot"),
    ("yi", r"^yi-"),
)
_PATTERNS = tuple((family, re.compile(pattern)) for family, pattern in _KNOWN)
_WORD = re.compile(r"[a-z]+")
_GENERIC = frozenset(
    {"ai", "chat", "custom", "ft", "llm", "local", "model", "my", "prod", "sandbox", "test", "the"}
)
"""Words that begin the names of unrelated models."""


def family_of(model: str) -> str | None:
    """The family a model id belongs to, by what it is called; None when its name says nothing.

    >>> family_of("anthropic/claude-haiku-4-5"), family_of("openai/o3-mini"), family_of("42")
    ('claude', 'gpt', None)
    """
    name = model.lower().rsplit("/", 1)[-1]
    for family, pattern in _PATTERNS:
        if pattern.search(name):
            return family
    return next((word for word in _WORD.findall(name) if word not in _GENERIC), None)


def family_warnings(judges: Sequence[ModelSpec], contestants: Sequence[ModelSpec]) -> list[str]:
    """One sentence per judge that shares a family with some, but maybe not all, contestants."""
    warnings = []
    for judge in judges:
        family = family_of(judge.model)
        own = [model.name for model in contestants if family_of(model.model) == family]
        if family is not None and own:
            warnings.append(
                f"judge {judge.name} is of the same family ({family}) as {', '.join(own)} and may "
                "favour it: label pairs by hand to correct for it, or set judge.bias_allowance"
            )
    return warnings
