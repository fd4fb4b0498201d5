"""Finds the delimited blocks of a judge's prompt, whatever the delimiters are called."""

import json
import re
from collections import Counter
from dataclasses import dataclass

_TAG = re.compile(r"<(/?)([A-Za-z_][\w:.\-]*)[^<>]{0,120}>")
_NONCE = re.compile(r"[A-Za-z0-9]{6,64}")
_HEADING = re.compile(
    r"^\s*(?:#{1,5}\s+(?P<a>[^\n]{2,60})|\*\*(?P<b>[^*\n]{2,60})\*\*:?|\[(?P<c>[^\]\n]{2,60})\]"
    r"|(?P<d>[A-Z][A-Za-z'() ]{2,40}):)\s*$",
    re.MULTILINE,
)
_REPLY_NAME = re.compile(r"reply|replies|response|answer|output|completion|candidate|assistant")
_NOT_REPLY = re.compile(
    r"reference|expected|gold|ideal|instruct|format|rubric|end|criteria|how|your"
)
_NOT_QUESTION = re.compile(r"\bend\b|rubric|criteria|instruct")
_QUESTION_NAME = re.compile(
    r"prompt|question|conversation|dialogue|task|user|customer|request|input|context|message"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A named piece of a text."""

    name: str
    body: str

    @property
    def is_reply(self) -> bool:
        """Whether the name speaks of a reply to be judged."""
        return bool(_REPLY_NAME.search(self.name)) and not _NOT_REPLY.search(self.name)

    @property
    def is_question(self) -> bool:
        """Whether the name speaks of what the reply answers."""
        if self.is_reply or _NOT_QUESTION.search(self.name):
            return False
        return bool(_QUESTION_NAME.search(self.name))


def find_blocks(text: str) -> list[Block]:
    """The blocks of the first kind of delimiter that marks a reply; empty when none does."""
    for finder in (_json_blocks, _tag_blocks, _nonce_blocks, _heading_blocks):
        blocks = finder(text)
        if any(block.is_reply for block in blocks):
            return blocks
    return []


def without_blocks(text: str) -> str:
    """The text around the blocks: what the judge is told to do."""
    for block in find_blocks(text):
        if (block.is_reply or block.is_question) and len(block.body) > 3:
            text = text.replace(block.body, " ")
    return text


def _json_blocks(text: str) -> list[Block]:
    """The members of the last JSON object in the text, if it has text members."""
    decoder = json.JSONDecoder()
    found: list[Block] = []
    start, tries = text.find("{"), 0
    while start >= 0 and tries < 12:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            start = text.find("{", start + 1)
            continue
        blocks = _members(value)
        if any(block.is_reply for block in blocks):
            found = blocks
        start = text.find("{", end)
    return found


def _members(value: object) -> list[Block]:
    if not isinstance(value, dict):
        return []
    return [
        Block(
            name=str(name).lower(),
            body=member if isinstance(member, str) else json.dumps(member, ensure_ascii=False),
        )
        for name, member in value.items()
        if isinstance(member, str | list | dict)
    ]


def _tag_blocks(text: str) -> list[Block]:
    """Elements such as <reply-1a2b> … </reply-1a2b>, inner ones before the outer."""
    opened: list[tuple[str, int]] = []
    blocks: list[Block] = []
    for tag in _TAG.finditer(text):
        is_end, name = tag.group(1) == "/", tag.group(2)
        if not is_end:
            opened.append((name, tag.end()))
            continue
        for index in range(len(opened) - 1, -1, -1):
            if opened[index][0] == name:
                body = text[opened[index][1] : tag.start()]
                blocks.append(Block(name=name.lower(), body=body.strip()))
                del opened[index:]
                break
    return blocks


def _nonce_blocks(text: str) -> list[Block]:
    """Pieces between short lines that share a random token, such as <<<REPLY 9f3a1c>>>."""
    lines = text.splitlines()
    short = [(i, line) for i, line in enumerate(lines) if 6 <= len(line) <= 160]
    counted = Counter(
        token for _, line in short for token in set(_NONCE.findall(line)) if _is_random(token)
    )
    nonce = next((token for token, count in counted.most_common(1) if count >= 2), None)
    if nonce is None:
        return []
    marks = [i for i, line in short if nonce in line]
    return [
        Block(
            name=lines[mark].replace(nonce, " ").lower(),
            body="\n".join(lines[mark + 1 : following]).strip(),
        )
        for mark, following in zip(marks, [*marks[1:], len(lines)], strict=True)
    ]


def _heading_blocks(text: str) -> list[Block]:
    """Pieces under headings such as "## Reply", "**Reply**" or "Reply:"."""
    marks = list(_HEADING.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)] if marks else []
    return [
        Block(
            name=next(group for group in mark.groups() if group).lower(),
            body=text[mark.end() : end].strip(),
        )
        for mark, end in zip(marks, ends, strict=True)
    ]


def _is_random(token: str) -> bool:
    return any(c.isdigit() for c in token) and any(c.isalpha() for c in token)
