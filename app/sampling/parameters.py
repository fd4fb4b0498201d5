"""Parameters of a logged request, under the names of the Anthropic Messages API.

Kept: what shapes the reply and has a name there. Left out: transport (stream, user, metadata,
tier), the seed, `reasoning_effort` (a matter of each model's own parameters) and OpenAI's JSON
mode, whose instruction the prompt repeats by that API's own rule. Penalties and token biases other
than their defaults shape the reply and have no counterpart: such rows are refused.
"""

from collections.abc import Mapping

from app.domain.json_values import JsonObject
from app.sampling.logged_values import as_items, as_object, number_of
from app.sampling.refusals import unsupported
from app.sampling.tools import tool_choice

_SAME = ("temperature", "top_p", "top_k", "thinking")
_LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_NO_COUNTERPART = ("presence_penalty", "frequency_penalty", "logit_bias")


def replay_params(logged: Mapping[str, object]) -> JsonObject:
    """The parameters to replay with.

    Raises:
        NotReplayable: If one shapes the reply and cannot be sent.
    """
    if any(_is_set(logged.get(name)) for name in _NO_COUNTERPART) or _number_above(logged, "n", 1):
        raise unsupported()
    params: dict[str, object] = {
        name: logged[name] for name in _SAME if logged.get(name) is not None
    }
    for name in _LENGTHS:
        length = number_of(logged.get(name))
        if length is not None and length >= 1:
            params["max_tokens"] = int(length)
    if stops := _stop_sequences(logged.get("stop_sequences", logged.get("stop"))):
        params["stop_sequences"] = stops
    choice = tool_choice(
        logged.get("tool_choice", logged.get("function_call")),
        parallel=logged.get("parallel_tool_calls"),
    )
    if choice is not None:
        params["tool_choice"] = choice
    if config := _output_config(logged):
        params["output_config"] = config
    return params


def _is_set(value: object) -> bool:
    return bool(value) and number_of(value) != 0


def _number_above(logged: Mapping[str, object], name: str, most: float) -> bool:
    number = number_of(logged.get(name))
    return number is not None and number > most


def _stop_sequences(value: object) -> list[str]:
    stops = [value] if isinstance(value, str) else list(as_items(value) or ())
    return [stop for stop in stops if isinstance(stop, str) and stop]


def _output_config(logged: Mapping[str, object]) -> JsonObject | None:
    if config := as_object(logged.get("output_config")):
        return config
    format_ = as_object(logged.get("response_format")) or as_object(
        (as_object(logged.get("text")) or {}).get("format")
    )
    if format_ is None or format_.get("type") != "json_schema":
        return None
    schema = as_object((as_object(format_.get("json_schema")) or format_).get("schema"))
    return None if schema is None else {"format": {"type": "json_schema", "schema": schema}}
