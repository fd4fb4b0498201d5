"""Tool definitions and the choice of a tool: OpenAI or Anthropic shape to Anthropic's."""

from app.domain.json_values import JsonObject
from app.sampling.logged_values import as_items, as_object, json_of
from app.sampling.refusals import unsupported

_CHOICES = {"auto": "auto", "required": "any", "any": "any", "none": "none"}


def tool_definitions(logged: object) -> tuple[JsonObject, ...]:
    """The tools a request offered.

    Raises:
        NotReplayable: If a tool runs at the vendor (search, code execution) or is malformed.
    """
    value = json_of(logged)
    if value is None or value == {}:
        return ()
    items = as_items(value)
    if items is None:
        raise unsupported()
    return tuple(_definition(item) for item in items)


def tool_choice(logged: object, *, parallel: object = None) -> JsonObject | None:
    """How the model had to choose among the tools, None when it was left to it.

    Raises:
        NotReplayable: If the choice is of a kind nobody else knows.
    """
    choice = _choice(logged)
    if parallel is False and (choice is None or choice["type"] != "none"):
        return {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return choice


def _definition(item: object) -> JsonObject:
    tool = as_object(item)
    if tool is None:
        raise unsupported()
    kind = tool.get("type")
    inner = as_object(tool.get("function"))
    if inner is None:
        if kind not in {None, "custom", "function"}:
            raise unsupported()
        inner = tool
    name = inner.get("name")
    schema = inner.get("input_schema", inner.get("parameters"))
    if not isinstance(name, str) or not (schema is None or as_object(schema) is not None):
        raise unsupported()
    definition: dict[str, object] = {"name": name}
    if isinstance(inner.get("description"), str):
        definition["description"] = inner["description"]
    definition["input_schema"] = schema or {"type": "object", "properties": {}}
    return {**definition, "strict": True} if inner.get("strict") is True else definition


def _choice(logged: object) -> dict[str, object] | None:
    if logged is None:
        return None
    if isinstance(logged, str):
        if logged not in _CHOICES:
            raise unsupported()
        return {"type": _CHOICES[logged]}
    choice = as_object(logged)
    if choice is None:
        raise unsupported()
    if choice.get("type") == "function":
        name = (as_object(choice.get("function")) or choice).get("name")
        if not isinstance(name, str):
            raise unsupported()
        return {"type": "tool", "name": name}
    if choice.get("type") not in {"auto", "any", "none", "tool"}:
        raise unsupported()
    return dict(choice)
