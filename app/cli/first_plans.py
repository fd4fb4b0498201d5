"""The plan that `init` writes: the commented example, with what was found in its place."""

import json
import re
from collections.abc import Mapping, Sequence

from app.ports import FoundLog

_PROPOSED: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    # primary begins with: vendor, cheaper candidates, judge
    "claude-opus": ("anthropic", ("claude-sonnet-4-5", "claude-haiku-4-5"), "claude-opus-4-5"),
    "claude": ("anthropic", ("claude-haiku-4-5",), "claude-opus-4-5"),
    "gpt-4.1-mini": ("openai", ("gpt-4.1-nano",), "gpt-5"),
    "gpt": ("openai", ("gpt-4.1-mini", "gpt-4.1-nano"), "gpt-5"),
    "o3": ("openai", ("gpt-4.1-mini",), "gpt-5"),
    "o4": ("openai", ("gpt-4.1-mini",), "gpt-5"),
}
_VENDORS = {
    "anthropic": ("https://api.anthropic.com", "anthropic"),
    "openai": ("https://api.openai.com/v1", "openai"),
}
_MOST_CANDIDATES = 3
_SEGMENTS_SHOWN: Mapping[str, str] = {
    "litellm": '{team: team_id, tag: "request_tags->>0"}',
    "phoenix": "{route: \"attributes->'metadata'->>'route'\"}",
    "langfuse": "{route: metadata.route, environment: environment}",
    "helicone": "{feature: properties.feature}",
    "openai": "{route: metadata.route}",
}


def plan_text(example: str, log: FoundLog | None) -> str:
    """The example with the log that was found, and models that suit those in it."""
    if log is None:
        return example
    text = _with_block(example, "logs", _file_block(log) if log.preset == "file" else _block(log))
    if log.segments:
        text = text.replace("  # by: route  ", f"  # by: {next(iter(log.segments))}  ", 1)
    if log.preset == "litellm":
        text = _with_block(text, "gateway", _proxy_block())
    return _with_models(text, log.models, is_proxied=log.preset == "litellm")


def _with_models(text: str, models: Sequence[str], *, is_proxied: bool) -> str:
    if not models:
        return text
    primary = models[0]
    vendor, cheaper, judge = _proposal(primary)
    if vendor == "openai" and not is_proxied:
        text = _with_block(text, "gateway", _vendor_block(vendor))
    others = [name for name in (*models[1:], *cheaper) if name != primary]
    candidates = list(dict.fromkeys(others))[:_MOST_CANDIDATES]
    text = _with_line(text, "primary", f"primary: {_model(primary)}     # most used in the log")
    rows = "\n".join(f"  - {_model(name)}" for name in candidates)
    text = text.replace("  - {name: haiku, model: claude-haiku-4-5}", rows, 1)
    return text.replace("[{name: judge, model: claude-opus-4-5}]", f"[{_model(judge, 'judge')}]", 1)


def _proposal(primary: str) -> tuple[str, tuple[str, ...], str]:
    bare = primary.rpartition("/")[2].lower()
    fitting = [start for start in _PROPOSED if bare.startswith(start)]
    return _PROPOSED[max(fitting, key=len)] if fitting else _PROPOSED["claude"]


def _model(model: str, name: str | None = None) -> str:
    label = name or re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-._")[:63] or "model"
    return f"{{name: {_scalar(label)}, model: {_scalar(model)}}}"


def _block(log: FoundLog) -> str:
    lines = [
        "logs:",
        f"  preset: {log.preset}",
        "  dsn: ${LOGS_DATABASE_URL:-}       # a SELECT-only role; empty: the results database",
    ]
    if log.options:
        lines = ["logs:", f"  preset: {log.preset}", "  options:"]
        lines += [f"    {name}: {_scalar(value)}" for name, value in log.options.items()]
    elif log.query:
        lines += [f"  query: {_scalar(log.query)}"]
    else:
        lines += [f"  table: {_scalar(log.table)}"]
    if log.columns:
        lines += ["  columns:                          # our name: your column"]
        lines += [f"    {ours}: {_scalar(theirs)}" for ours, theirs in log.columns.items()]
    if not log.options:
        lines += ["  # where: \"status = 'success'\""]
    if log.segments:
        listed = ", ".join(f"{name}: {_scalar(column)}" for name, column in log.segments.items())
        lines += [f"  segments: {{{listed}}}       # parts of the traffic to look at apart"]
    elif log.preset in _SEGMENTS_SHOWN:
        lines += [f"  # segments: {_SEGMENTS_SHOWN[log.preset]}"]
    else:
        lines += ["  # segments: {team: \"metadata->>'team'\"}"]
    return "\n".join(lines) + "\n\n"


def _file_block(log: FoundLog) -> str:
    lines = ["logs:", "  preset: file", f"  path: {_scalar(log.table)}"]
    if log.columns:
        listed = ", ".join(f"{ours}: {_scalar(theirs)}" for ours, theirs in log.columns.items())
        lines += [f"  columns: {{{listed}}}"]
    if log.segments:
        listed = ", ".join(f"{name}: {_scalar(column)}" for name, column in log.segments.items())
        lines += [f"  segments: {{{listed}}}"]
    return "\n".join(lines) + "\n\n"


def _proxy_block() -> str:
    return (
        "gateway:                            # the LiteLLM proxy whose logs are read\n"
        "  base_url: ${LLM_BASE_URL}         # its address, without /v1\n"
        "  api_key: ${LLM_API_KEY}           # one of its keys\n"
        "  api: anthropic\n"
        "  concurrency: 8                    # most calls in flight\n"
        "  timeout: 120s                     # total deadline of one call\n\n"
    )


def _vendor_block(vendor: str) -> str:
    url, api = _VENDORS[vendor]
    return (
        "gateway:                            # a model may name its own\n"
        f"  base_url: ${{LLM_BASE_URL:-{url}}}\n"
        "  api_key: ${LLM_API_KEY}\n"
        f"  api: {api}\n"
        "  concurrency: 8                    # most calls in flight\n"
        "  timeout: 120s                     # total deadline of one call\n\n"
    )


def _with_block(text: str, key: str, block: str) -> str:
    """The text with the block of a top-level key, up to the next one, replaced."""
    found = re.search(rf"^{key}:.*\n(?:[ ].*\n|\n)*", text, re.MULTILINE)
    return text if found is None else text[: found.start()] + block + text[found.end() :]


def _with_line(text: str, key: str, line: str) -> str:
    return re.sub(rf"^{key}:.*$", lambda _: line, text, count=1, flags=re.MULTILINE)


def _scalar(text: str) -> str:
    """The text as a YAML scalar: in quotes where it needs them."""
    is_plain = re.fullmatch(r"[A-Za-z_][\w./-]*", text) is not None
    return (
        text
        if is_plain and text.lower() not in {"null", "true", "false", "yes", "no"}
        else (json.dumps(text, ensure_ascii=False))
    )
