"""Strict YAML: plain values, each with the line it stands on and its references filled in.

Types are those of YAML 1.2, so that `no`, `on`, `012` and dates stay text. Duplicate keys, tags
other than the plain ones, and aliases that contain themselves are refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import yaml

from app.domain.errors import Problem
from app.plans.references import BrokenReference, Expansion

Place = tuple[str | int, ...]
Expand = Callable[[str], Expansion]

MOST_CHARACTERS = 1_000_000
MOST_VALUES = 20_000
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a file says.

    Attributes:
        expansions: The scalars that held references, by place.
    """

    file: str
    data: Mapping[str, object]
    lines: Mapping[Place, int]
    expansions: Mapping[Place, Expansion]

    def line(self, place: Place) -> int | None:
        """The line of the place, or of the nearest thing around it that the file mentions."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)


@dataclass(slots=True)
class Findings:
    """Problems met in one file; the first one of each place is kept."""

    file: str
    _by_place: dict[Place, Problem] = field(default_factory=dict)

    def add(self, place: Place, message: str, *, line: int | None) -> None:
        """Note a problem, unless the place already has one."""
        problem = Problem(message=message, file=self.file, line=line, key=dotted(place) or None)
        self._by_place.setdefault(place, problem)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, in the order of the file."""
        return tuple(
            sorted(
                self._by_place.values(),
                key=lambda problem: problem.line or 0,
            )
        )


def dotted(place: Place) -> str:
    """The place as people write it, e.g. `candidates[1].base_url`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_document(text: str, findings: Findings, expand: Expand) -> Document | None:
    """Parse a file, noting what is wrong; None when it is no mapping at all."""
    if len(text) > MOST_CHARACTERS:
        findings.add((), f"longer than {MOST_CHARACTERS:,} characters", line=None)
        return None
    try:
        root = yaml.compose(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = None if mark is None else mark.line + 1
        findings.add((), _syntax_message(error, text, line), line=line)
        return None
    except (yaml.YAMLError, RecursionError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else "is not YAML text"
        findings.add((), reason, line=None)
        return None
    if not isinstance(root, yaml.MappingNode):
        findings.add((), "must be a mapping of keys to values", line=1)
        return None
    reader = _Reader(findings, expand)
    data = reader.mapping(root, ())
    return Document(file=findings.file, data=data, lines=reader.lines, expansions=reader.expansions)


class _PlainLoader(yaml.SafeLoader):
    """Resolves the types of YAML 1.2."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the library's own way to declare them


for _name, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^[-+]?[0-9]+[eE][-+]?[0-9]+$", list("-+0123456789")),
    ("merge", r"^<<$", ["<"]),
):
    _PlainLoader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(_pattern), _first)


class _Reader:
    """Turns nodes into plain values."""

    def __init__(self, findings: Findings, expand: Expand) -> None:
        self.lines: dict[Place, int] = {(): 1}
        self.expansions: dict[Place, Expansion] = {}
        self._findings = findings
        self._expand = expand
        self._values = 0
        self._around: set[int] = set()

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        """The mapping's values by key; merged mappings stand behind its own keys."""
        values: dict[str, object] = {}
        own = [pair for pair in node.value if pair[0].tag != f"{_TAG}merge"]
        for key_node, value_node in own:
            key = self._key(key_node, place)
            if key is None:
                continue
            here = (*place, key)
            line = key_node.start_mark.line + 1
            if key in values:
                first = f"duplicate key, first on line {self.lines[here]}"
                self._findings.add(here, first, line=line)
                continue
            self.lines[here] = line
            values[key] = self._value(value_node, here)
        for key_node, value_node in self._merged_pairs(node, place):
            key = self._key(key_node, place)
            if key is not None and key not in values:
                values[key] = self._value(value_node, (*place, key))
        return values

    def _merged_pairs(
        self, node: yaml.MappingNode, place: Place
    ) -> list[tuple[yaml.Node, yaml.Node]]:
        pairs: list[tuple[yaml.Node, yaml.Node]] = []
        for key_node, value in node.value:
            if key_node.tag != f"{_TAG}merge":
                continue
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(source, yaml.MappingNode) and id(source) not in self._around:
                    pairs += [pair for pair in source.value if pair[0].tag != f"{_TAG}merge"]
                else:
                    line = key_node.start_mark.line + 1
                    self._findings.add((*place, "<<"), "can only merge mappings", line=line)
        return pairs

    def _key(self, node: yaml.Node, place: Place) -> str | None:
        if isinstance(node, yaml.ScalarNode) and self._is_plain(node, place):
            return str(node.value)
        line = node.start_mark.line + 1
        self._findings.add(place, "keys must be plain text", line=line)
        return None

    def _value(self, node: yaml.Node, place: Place) -> object:
        self._values += 1
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        if self._values > MOST_VALUES:
            self._findings.add((), f"holds more than {MOST_VALUES:,} values", line=line)
            return None
        if id(node) in self._around:
            self._findings.add(place, "is an alias of something around it", line=line)
            return None
        if not self._is_plain(node, place):
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        self._around.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, place)
            return [self._value(item, (*place, index)) for index, item in enumerate(node.value)]
        finally:
            self._around.discard(id(node))

    def _is_plain(self, node: yaml.Node, place: Place) -> bool:
        name = str(node.tag).removeprefix(_TAG)
        if name in {"null", "bool", "int", "float", "str", "seq", "map", "merge"}:
            return True
        shown = str(node.tag).replace(_TAG, "!!")
        self._findings.add(
            place,
            f"tag {shown} is not allowed: a plan holds plain values only",
            line=node.start_mark.line + 1,
        )
        return False

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> object:
        text = str(node.value)
        line = node.start_mark.line + 1
        if "${" in text:
            try:
                expansion = self._expand(text)
            except BrokenReference as error:
                self._findings.add(place, str(error), line=line)
                return ""
            if expansion.references:
                self.expansions[place] = expansion
            return expansion.text
        try:
            return _typed(text, str(node.tag).removeprefix(_TAG))
        except ValueError:
            self._findings.add(place, f"is not of the type {node.tag} says", line=line)
            return None


def _typed(text: str, kind: str) -> object:
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text)
        case "float":
            return float(text)
        case _:
            return text


def _syntax_message(error: yaml.MarkedYAMLError, text: str, line: int | None) -> str:
    message = f"not valid YAML: {error.problem or error.context}"
    source = text.splitlines()[line - 1] if line and line <= len(text.splitlines()) else ""
    if "${" in source and "{" in source.replace("${", ""):
        return f'{message}; inside {{ }} put references in quotes: "${{VAR}}"'
    if "\t" in source[: len(source) - len(source.lstrip())]:
        return f"{message}; indent with spaces, not tabs"
    return message
