"""The Anthropic Messages API of any vendor or gateway, through the anthropic SDK.

The SDK builds and sends the request; the reply's bytes are read here, because the SDK's own event
objects cost more CPU than the rest of the call and take broken streams at their word.
"""

from collections.abc import Mapping

from app.domain.attempts import Completion, Failure
from app.domain.models import Endpoint
from app.ports import Clock, ModelRequest
from app.providers.anthropic_reply import AnthropicReply
from app.providers.model_names import params_to_send

#: What the SDK takes by name; everything else travels in `extra_body`.
_TYPED = ("stop_sequences", "tool_choice", "thinking", "metadata", "output_config", "service_tier")
#: Decided by the request, never by parameters.
_RESERVED = ("model", "messages", "system", "max_tokens", "stream", "tools")


class AnthropicProvider:
    """Sends requests to one endpoint that speaks the Messages API."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        from app.providers.anthropic_client import AnthropicClient

        self._client = AnthropicClient(endpoint, clock)

    async def send(self, request: ModelRequest) -> Completion | Failure:
        """Make exactly one HTTP call and validate what came back, within the deadline."""
        reply = AnthropicReply(request.model)
        return await self._client.run(arguments(request), reply, deadline_s=request.deadline_s)

    async def close(self) -> None:
        """Give back connections."""
        await self._client.close()


def arguments(request: ModelRequest) -> dict[str, object]:
    """What `messages.create` is called with."""
    prompt = request.prompt
    params = params_to_send(prompt.params, request.model.params)
    for name in _RESERVED:
        params.pop(name, None)
    tools = list(prompt.tools)
    if request.answer_tool is not None:
        tools = [request.answer_tool]
        params["tool_choice"] = {"type": "tool", "name": request.answer_tool["name"]}
    if request.answer_schema is not None:
        params["output_config"] = _with_format(params.get("output_config"), request.answer_schema)
    if not tools:
        params.pop("tool_choice", None)
    typed = {name: params.pop(name) for name in _TYPED if name in params}
    return {
        "model": request.model.model,
        "max_tokens": request.max_tokens,
        "messages": [message.to_json() for message in prompt.messages],
        "stream": request.stream,
        **({"system": prompt.system} if prompt.system else {}),
        **({"tools": tools} if tools else {}),
        **typed,
        **({"extra_body": params} if params else {}),
    }


def _with_format(config: object, schema: Mapping[str, object]) -> dict[str, object]:
    own = dict(config) if isinstance(config, Mapping) else {}
    return {**own, "format": {"type": "json_schema", "schema": dict(schema)}}
