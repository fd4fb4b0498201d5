"""Whether a Run may go on under the set-up it finds: halves of two plans compare nothing."""

from collections.abc import Mapping, Sequence

from app.domain.json_values import JsonObject

_MEASURED = ("primary", "candidates", "evaluators", "judge", "embedder", "policy", "replay")
"""Parts of a plan that can move a figure; what a Run may spend or where it is told may change."""


def changed_parts(begun: JsonObject, now: JsonObject) -> Sequence[str]:
    """Name the parts of the set-up that are not what the Run was begun with.

    A newer program may freeze more than an older one did: only what was frozen is compared.

    Args:
        begun: The set-up frozen with the Sample; empty before that.
        now: The set-up of the plan as it is.
    """
    before, after = begun.get("config"), now.get("config")
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return ()
    parts = [name for name in _MEASURED if name in before and _differs(before[name], after[name])]
    versions = begun.get("evaluator_versions"), now.get("evaluator_versions")
    if _differs(*versions) and "evaluators" not in parts:
        parts.append("evaluators")
    return parts


def _differs(before: object, after: object) -> bool:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return any(key not in after or _differs(before[key], after[key]) for key in before)
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        pairs = zip(before, after, strict=False)
        return len(before) != len(after) or any(_differs(*pair) for pair in pairs)
    return before != after
