"""What separates the columns of a CSV."""

import re

_SEPARATORS = (",", ";", "\t", "|")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def delimiter_of(text: str) -> str:
    """The likeliest separator, by the first line: a comma when nothing speaks for another.

    >>> delimiter_of('question;expected,or not;team'), delimiter_of('"a;b;c",d'), delimiter_of("a")
    (';', ',', ',')
    """
    header = next((line for line in text.splitlines() if line.strip()), "")
    bare = _QUOTED.sub("", header)
    return max(_SEPARATORS, key=bare.count)
