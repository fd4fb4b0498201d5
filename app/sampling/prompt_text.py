"""What can be told of a prompt from its text alone: size in tokens, encoding, binary content."""

import json
import math
import re
from collections.abc import Iterator, Mapping

from app.domain.cases import Prompt
from app.domain.json_values import canonical
from app.sampling.logged_values import as_items

#: Vendors charge an image of ordinary size about this much.
IMAGE_TOKENS = 1_600
#: English text and code run at about four characters a token in today's vocabularies.
ASCII_CHARACTERS_PER_TOKEN = 4
#: More odd characters than this, and the text is somebody's binary.
_BINARY_SHARE = 0.1
_ODD = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f\ufffd\ufffe\uffff]")
_NON_ASCII = re.compile("[^\x00-\x7f]")


def estimated_tokens(prompt: Prompt) -> int:
    """About how many input tokens the prompt has.

    One token per four ASCII characters, one per other character (Chinese and emoji need that
    many, Cyrillic half), a flat amount per image. Errs high for most text but digits and symbols,
    by at most about a third either way.
    """
    bodies = [prompt.system or "", *(canonical(tool) for tool in prompt.tools)]
    images = 0
    for message in prompt.messages:
        for text in _texts(message.to_json()):
            if text is None:
                images += 1
            else:
                bodies.append(text)
    others = sum(len(_NON_ASCII.findall(body)) for body in bodies)
    plain = sum(map(len, bodies)) - others
    return math.ceil(plain / ASCII_CHARACTERS_PER_TOKEN) + others + images * IMAGE_TOKENS


def is_encodable(prompt: Prompt) -> bool:
    """Whether all of it can travel as JSON in UTF-8 (a lone surrogate and NaN cannot)."""
    try:
        json.dumps(prompt.to_json(), ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (UnicodeEncodeError, TypeError, ValueError):
        return False
    return True


def is_binary(prompt: Prompt) -> bool:
    """Whether some text of it is binary: a NUL, or one odd character in ten."""
    texts = [prompt.system or ""]
    for message in prompt.messages:
        texts += [text for text in _texts(message.to_json()) if text is not None]
    return any(
        "\x00" in text or len(_ODD.findall(text)) > _BINARY_SHARE * len(text) for text in texts
    )


def _texts(value: object) -> Iterator[str | None]:
    """Every text inside a message; None stands for an image."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        if value.get("type") == "image":
            yield None
        else:
            for inner in value.values():
                yield from _texts(inner)
    else:
        for inner in as_items(value) or ():
            yield from _texts(inner)
