import json

import pytest

from app.domain.json_values import MOST_LEVELS, is_deep


def nested(levels: int) -> object:
    return json.loads('{"a":[' * (levels // 2) + "1" + "]}" * (levels // 2))


@pytest.mark.parametrize("value", ["x", 1, None, {}, [], {"a": [1, {"b": "c"}]}])
def test_ordinary_values_are_not_deep(value: object) -> None:
    assert not is_deep(value)


def test_the_limit_is_counted_in_objects_and_lists() -> None:
    assert not is_deep(nested(MOST_LEVELS))
    assert is_deep(nested(MOST_LEVELS + 2))
