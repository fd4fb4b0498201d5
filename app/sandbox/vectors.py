"""Vectors of texts without a model: words and their parts, hashed to a few dimensions.

Texts that share words point the same way; the same text has the same vector in every process.
"""

import math
import re
from functools import lru_cache

from app.sandbox.draws import normal

DIMENSIONS = 64

_WORD = re.compile(r"\w+")


def vector_of(text: str) -> list[float]:
    """The vector of a text, of length 1."""
    total = [0.0] * DIMENSIONS
    for word in _WORD.findall(text.casefold()) or [text]:
        for number, value in enumerate(_direction(word)):
            total[number] += value
    length = math.hypot(*total) or 1.0
    return [round(value / length, 6) for value in total]


@lru_cache(maxsize=8192)
def _direction(word: str) -> tuple[float, ...]:
    return tuple(normal("vector", word, number) for number in range(DIMENSIONS))
