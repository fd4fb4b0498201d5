"""OpenAI chat completions of any compatible server, through the openai SDK.

The SDK builds and sends the request; the reply's bytes are read here, for the same reasons as in
`app.providers.anthropic`.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from app.domain.attempts import Completion, Failure, FailureClass
from app.domain.models import Endpoint
from app.ports import Clock, ModelRequest
from app.providers.messages import NotMappable, answer_format, chat_params, chat_tool, to_chat
from app.providers.model_names import REPORTED_MODEL
from app.providers.openai_reply import OpenAIReply

_NEW_LIMIT, _OLD_LIMIT = "max_completion_tokens", "max_tokens"
#: Decided by the request, never by parameters.
_RESERVED = (
    "model",
    "messages",
    "system",
    "stream",
    "stream_options",
    "tools",
    "n",
    REPORTED_MODEL,
    _NEW_LIMIT,
    _OLD_LIMIT,
)
#: Words of the Messages API that a model's own `params` may use as well.
_TRANSLATED = ("stop_sequences", "tool_choice", "output_config")


class OpenAIProvider:
    """Sends requests to one endpoint that speaks chat completions; its base URL includes `/v1`."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        from app.providers.openai_client import OpenAIClient

        self._client = OpenAIClient(endpoint, clock)

    async def send(self, request: ModelRequest) -> Completion | Failure:
        """Make exactly one HTTP call and validate what came back, within the deadline.

        A prompt that chat completions cannot say is a Failure without a call.
        """
        try:
            body = body_of(request)
        except NotMappable as error:
            return Failure(failure_class=FailureClass.BAD_REQUEST, message=f"not sent: {error}")
        reply = OpenAIReply(request.model)
        return await self._client.run(body, reply, deadline_s=request.deadline_s)

    async def close(self) -> None:
        """Give back connections."""
        await self._client.close()


def body_of(request: ModelRequest) -> dict[str, object]:
    """The body of the request.

    Raises:
        NotMappable: If the prompt holds something that chat completions cannot say.
    """
    chat = to_chat(request.prompt)
    params = _params(request.prompt.params, request.model.params)
    tools = list(chat.tools)
    if request.answer_tool is not None:
        tools = [chat_tool(request.answer_tool)]
        name = request.answer_tool["name"]
        params["tool_choice"] = {"type": "function", "function": {"name": name}}
    if request.answer_schema is not None:
        params["response_format"] = answer_format(request.answer_schema)
    if not tools:
        params.pop("tool_choice", None)
        params.pop("parallel_tool_calls", None)
    return {
        **params,
        "model": request.model.model,
        "messages": list(chat.messages),
        "stream": request.stream,
        _limit_name(request): request.max_tokens,
        **({"stream_options": {"include_usage": True}} if request.stream else {}),
        **({"tools": tools} if tools else {}),
    }


def _params(logged: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
    """The logged parameters, mapped, under the model's own, which may speak either vocabulary."""
    kept = {key: value for key, value in logged.items() if key not in own and value is not None}
    params = chat_params(kept)
    for name, value in own.items():
        if value is None:
            params.pop(name, None)
        elif name in _TRANSLATED:
            params.update(chat_params({name: value}))
        else:
            params[name] = value
    for name in _RESERVED:
        params.pop(name, None)
    return params


def _limit_name(request: ModelRequest) -> str:
    """OpenAI's own models refuse the old name of the limit; other servers know no other.

    A model whose `params` name `max_completion_tokens` is asked by that name anywhere.
    """
    own = request.model.params
    if own.get(_NEW_LIMIT) is not None:
        return _NEW_LIMIT
    host = urlsplit(request.model.endpoint.base_url).hostname or ""
    is_openai = host == "openai.com" or host.endswith((".openai.com", ".openai.azure.com"))
    return _NEW_LIMIT if is_openai else _OLD_LIMIT
