"""Regular expressions from uploaded tokenizers, refused when a backtracking engine could run away.

The patterns of real tokenizers are alternations of short runs of character classes. Everything
beyond that shape is refused; the trial run under a time limit catches what this check cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from workers.formats.errors import FormatError

LONGEST_PATTERN = 4_000
DEEPEST_GROUPS = 8
MOST_REPEATS_IN_ALTERNATIVE = 4
LARGEST_COUNT = 1_000
GROUP_START = re.compile(r"\(\?(?:[imsx-]*:|=|!|<=|<!|>|[imsx-]+\))")
COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")
Refusal = Callable[[str], FormatError]


@dataclass
class Group:
    """What the scanner has seen inside one open group."""

    repeats: int = 0  # unbounded repeats in the current alternative
    varies: bool = False  # any repeat, option or alternation, so that it matches in many ways


def check_pattern(pattern: str, file: str, field: str) -> None:
    """Raise FormatError when the pattern is long, nested, or repeats what already repeats."""

    def refuse(rule: str) -> FormatError:
        return FormatError(file=file, field=field, rule=f"the regular expression {rule}")

    if len(pattern) > LONGEST_PATTERN:
        raise refuse(f"is longer than {LONGEST_PATTERN} characters")
    groups = [Group()]
    finished: Group | None = None  # the group that the last atom was, if it was one
    place = 0
    while place < len(pattern):
        character = pattern[place]
        if character == "\\":
            place = after_escape(pattern, place, refuse)
            finished = None
        elif character == "[":
            place = after_class(pattern, place, refuse)
            finished = None
        elif character == "(":
            place = after_group_start(pattern, place, groups, refuse)
            finished = None
        elif character == ")":
            finished = close_group(groups, refuse)
            place += 1
        elif character == "|":
            groups[-1].varies = True
            groups[-1].repeats = 0
            finished = None
            place += 1
        elif character in "*+?" or (character == "{" and COUNT.match(pattern, place)):
            place = after_repeat(pattern, place, groups, finished, refuse)
            finished = None
        else:
            finished = None
            place += 1
    if len(groups) != 1:
        raise refuse("has an open group")


def after_escape(pattern: str, place: int, refuse: Refusal) -> int:
    following = pattern[place + 1 : place + 2]
    if not following:
        raise refuse("ends in a backslash")
    if following in "123456789kgKGRX":
        raise refuse("refers back to another group, which is not allowed")
    if following in "pP" and pattern[place + 2 : place + 3] == "{":
        end = pattern.find("}", place)
        if end < 0:
            raise refuse("has an open character property")
        return end + 1
    return place + 2


def after_class(pattern: str, place: int, refuse: Refusal) -> int:
    depth = 0
    while place < len(pattern):
        character = pattern[place]
        if character == "\\":
            place += 2
            continue
        depth += {"[": 1, "]": -1}.get(character, 0)
        place += 1
        if depth == 0:
            return place
    raise refuse("has an open character class")


def after_group_start(pattern: str, place: int, groups: list[Group], refuse: Refusal) -> int:
    end = place + 1
    if pattern[end : end + 1] == "?":
        start = GROUP_START.match(pattern, place)
        if start is None:
            raise refuse("uses a kind of group that is not allowed")
        end = start.end()
        if start.group().endswith(")"):
            return end
    groups.append(Group())
    if len(groups) > DEEPEST_GROUPS:
        raise refuse(f"nests more than {DEEPEST_GROUPS} groups")
    return end


def close_group(groups: list[Group], refuse: Refusal) -> Group:
    if len(groups) == 1:
        raise refuse("closes a group that is not open")
    closed = groups.pop()
    outer = groups[-1]
    outer.varies = outer.varies or closed.varies
    outer.repeats += closed.repeats
    check_repeats(outer, refuse)
    return closed


def after_repeat(
    pattern: str, place: int, groups: list[Group], repeated: Group | None, refuse: Refusal
) -> int:
    bounded, end = pattern[place] == "?", place + 1
    if pattern[place] == "{":
        count = COUNT.match(pattern, place)
        assert count is not None
        lowest, comma, highest = count.groups()
        if any(len(number) > 4 or int(number or 0) > LARGEST_COUNT for number in (lowest, highest)):
            raise refuse(f"repeats more than {LARGEST_COUNT} times")
        bounded, end = not comma or bool(highest), count.end()
    if pattern[end : end + 1] in ("?", "+"):
        end += 1
    if pattern[place] != "?" and repeated is not None and repeated.varies:
        raise refuse("repeats a group that can match in many ways, which can take for ever")
    groups[-1].varies = True
    groups[-1].repeats += 0 if bounded else 1
    check_repeats(groups[-1], refuse)
    return end


def check_repeats(group: Group, refuse: Refusal) -> None:
    if group.repeats > MOST_REPEATS_IN_ALTERNATIVE:
        raise refuse(
            f"has more than {MOST_REPEATS_IN_ALTERNATIVE} unbounded repeats in one alternative"
        )
