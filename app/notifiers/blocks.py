"""An Alert as Slack blocks: escaped, within Block Kit's limits, without buttons or emoji."""

import re

from app.domain.alerts import Alert

HEADER_LIMIT = 150
SECTION_LIMIT = 3000
FIELDS_LIMIT = 10
TEXT_LIMIT = 3000
MESSAGE_LIMIT = 13_000
"""A whole message may hold about this many characters: the shares below stay within it."""

_LEAD_SHARE = 2500
_LABEL_SHARE = 60
_FIELD_SHARE = 300
_LINES_SHARE = 4000
_LINKS = 4
_CONTEXT_SHARE = 1000
_ELLIPSIS = "…"
_LABELLED = re.compile(r"(?s)([A-Za-z0-9][^:`.\n]{0,39}): (.+)")

Block = dict[str, object]


def blocks_of(alert: Alert, *, public_url: str = "", mention: str = "") -> list[Block]:
    """The alert as Block Kit blocks: header, lead, fields, lines, links, context.

    Args:
        alert: What to say; its texts are plain, with literals in backticks.
        public_url: Where links lead; without one links are left out.
        mention: Ready-made mention such as `<!here>`, put before the lead.
    """
    lead = escaped(alert.lead, _LEAD_SHARE)
    blocks: list[Block] = [
        {"type": "header", "text": _plain(alert.title)},
        {"type": "section", "text": _markdown(f"{mention} {lead}".strip())},
    ]
    if alert.fields:
        fields = [
            _markdown(f"*{escaped(label, _LABEL_SHARE)}*\n{escaped(value, _FIELD_SHARE)}")
            for label, value in alert.fields[:FIELDS_LIMIT]
        ]
        blocks.append({"type": "section", "fields": fields})
    blocks += [{"type": "section", "text": _markdown(text)} for text in _sections(alert.lines)]
    if public_url and alert.links:
        links = " · ".join(_link(public_url, label, path) for label, path in alert.links[:_LINKS])
        blocks.append({"type": "section", "text": _markdown(links)})
    if alert.context:
        text = escaped(" | ".join(alert.context), _CONTEXT_SHARE)
        blocks.append({"type": "context", "elements": [_markdown(text)]})
    return blocks


def fallback_text(alert: Alert) -> str:
    """Header and lead: what notifications and screen readers show."""
    return escaped(f"{alert.title}: {alert.lead}", TEXT_LIMIT)


def escaped(text: str, limit: int) -> str:
    """The text with Slack's three control characters escaped, cut to a limit afterwards."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if len(safe) <= limit:
        return safe
    cut = safe[: limit - 1]
    entity = cut.rfind("&")
    if entity > len(cut) - 5 and ";" not in cut[entity:]:
        cut = cut[:entity]
    return cut + _ELLIPSIS


def _sections(lines: tuple[str, ...]) -> list[str]:
    """Lines joined into as few sections as fit."""
    sections: list[str] = []
    used = 0
    for line in lines:
        text = "• " + _labelled(line)
        used += len(text)
        if used > _LINES_SHARE:
            sections.append(f"• {_ELLIPSIS} and more in the report")
            break
        if sections and len(sections[-1]) + len(text) + 1 <= SECTION_LIMIT:
            sections[-1] += "\n" + text
        else:
            sections.append(text)
    return sections


def _labelled(line: str) -> str:
    """A line with what stands before its first colon in bold."""
    found = _LABELLED.fullmatch(line)
    if found is None:
        return escaped(line, SECTION_LIMIT - 2)
    label = escaped(found[1], SECTION_LIMIT)
    return f"*{label}:* {escaped(found[2], SECTION_LIMIT - 6 - len(label))}"


def _plain(text: str) -> Block:
    cut = text if len(text) <= HEADER_LIMIT else text[: HEADER_LIMIT - 1] + _ELLIPSIS
    return {"type": "plain_text", "text": cut, "emoji": False}


def _markdown(text: str) -> Block:
    return {"type": "mrkdwn", "text": text or " ", "verbatim": True}


def _link(public_url: str, label: str, path: str) -> str:
    return f"<{public_url.rstrip('/')}{path}|{escaped(label, 100)}>"
