"""References in plan files: `${VAR}`, `${VAR:-default}` and `${file:/run/secrets/x}`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Read = Callable[[Path], str]

_TOKEN = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class BrokenReference(Exception):
    """A reference that cannot be filled in; the message names it and never shows a value."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """A text with its references filled in.

    Attributes:
        references: What was referred to, by name.
        skeleton: The text with defaults in place of references: what the file itself discloses.
        has_default: Whether a reference brings a default that is not empty.
    """

    text: str = field(repr=False)
    references: tuple[str, ...] = ()
    skeleton: str = ""
    has_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Fills references in from variables and files.

    Attributes:
        folder: Where relative files are looked for.
    """

    variables: Mapping[str, str]
    read: Read
    folder: Path

    def expand(self, text: str) -> Expansion:
        """Fill in every reference; `$${` stands for a literal `${`.

        Raises:
            BrokenReference: If a variable is unset, a file unreadable or a reference malformed.
        """
        values: list[str] = []
        skeleton: list[str] = []
        names: list[str] = []
        has_default = False
        end = 0
        for found in _TOKEN.finditer(text):
            literal = text[end : found.start()]
            end = found.end()
            if found[0] == "$${":
                value = default = "${"
            else:
                name, default, value = self._resolve(found)
                names.append(name)
                has_default = has_default or bool(default)
            values += [literal, value]
            skeleton += [literal, default]
        values.append(text[end:])
        skeleton.append(text[end:])
        return Expansion("".join(values), tuple(names), "".join(skeleton), has_default)

    def _resolve(self, found: re.Match[str]) -> tuple[str, str, str]:
        inner = found[1]
        if inner is not None and inner.startswith("file:"):
            return inner, "", self._file(inner.removeprefix("file:"))
        named = _NAME.fullmatch(inner or "")
        if named is None:
            raise BrokenReference(
                "malformed reference: write ${VAR}, ${VAR:-default} or ${file:/path}, "
                "or $${ for a literal ${"
            )
        name, default = named[1], named[2]
        value = self.variables.get(name)
        if value:
            return name, default or "", value
        if default is None:
            state = "not set" if value is None else "empty"
            raise BrokenReference(
                f"environment variable {name} is {state}; set it, or write ${{{name}:-default}}"
            )
        return name, default, default

    def _file(self, path: str) -> str:
        try:
            return self.read(self.folder / path).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BrokenReference(f"file {path} cannot be read: {reason_of(error)}") from error


def reason_of(error: OSError | UnicodeDecodeError) -> str:
    """Why a file could not be read, without its content."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not UTF-8 text"
