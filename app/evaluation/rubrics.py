"""The built-in rubric, and what a rubric must have."""

import re

DEFAULT_RUBRIC = """\
# How well does the reply serve the user?

Judge the reply as the person who sent the last message would, had they the time and the knowledge
to check it. What the system prompt and earlier messages ask for binds the reply too.

Criteria, the weightier first:

1. Right: what it states is true and follows from what was given; nothing is invented.
2. Complete: it does all that was asked, in the form that was asked for.
3. Useful: the user can act on it at once; it is clear, and as long as it needs to be.
4. Fitting: tone and language suit the situation.

Levels:

- 5: Right, complete and fitting. An expert would send it as it is.
- 4: Right and useful, with a small gap or blemish that costs the user nothing.
- 3: Useful in part: something that was asked for is missing, or a minor point is wrong.
- 2: Mostly unhelpful: a main point is wrong or missing, or the asked-for form is ignored.
- 1: Useless or harmful: wrong, off the subject, empty talk, or no attempt at the task.

A longer reply is not a better one. A declined request earns a 1, unless declining is what a
careful expert would do.
"""
"""The same text as config/rubrics/default.md."""

_LEVEL = re.compile(r"^[\s>*#|-]*\**(?:level\s+|score\s+)?([1-5])\b", re.IGNORECASE | re.MULTILINE)
_LONGEST_CHARACTERS = 20_000


def rubric_problems(text: str) -> tuple[str, ...]:
    """What would make a judge guess: sentences for `check`, none for a good rubric."""
    if not text.strip():
        return ("the rubric is empty",)
    problems = []
    levels = set(_LEVEL.findall(text))
    missing = [level for level in "12345" if level not in levels]
    if missing:
        problems.append(
            f"the rubric does not say what level {', '.join(missing)} means: begin a line with "
            "each level from 1 to 5"
        )
    if len(text) > _LONGEST_CHARACTERS:
        problems.append(
            f"the rubric has {len(text)} characters and is paid for with every judged reply"
        )
    return tuple(problems)
