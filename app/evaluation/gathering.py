"""Waiting for several paid calls at once."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def gathered(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error is raised only once every coroutine has ended.

    A paid call in flight is never abandoned because another one failed.
    """
    ended = await asyncio.gather(*coroutines, return_exceptions=True)
    results: list[T] = []
    for end in ended:
        if isinstance(end, BaseException):
            raise end
        results.append(end)
    return results
