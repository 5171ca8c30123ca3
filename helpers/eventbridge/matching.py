"""Whether an event matches a pattern, decided as AWS's engine decides it.

The engine builds one machine of all alternatives of a pattern and walks it along the sorted paths. So, beside the
documented rules (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html):

- The values that pass must come from the same element of each array (array consistency). `exists: false` asks only
  about the element found so far, that is by the paths that sort before it.
- A field with a numeric test reads numbers as numbers in all its tests, and then never addresses.
- A field with an address test reads every address as one, so a prefix or an exact string in the same list misses it.
- Alternatives that begin with the same path share that path's tests: each changes how the others read values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any

from helpers.eventbridge import events, patterns, values
from helpers.eventbridge.events import InvalidEvent, Value
from helpers.eventbridge.patterns import Pattern, Test

Check = Callable[
    [bytes, bool], bool
]  # (the value as the engine holds it, whether that is a number) -> whether it passes
Key = tuple[Any, ...]  # what makes two tests the same to the engine
_ABSENT: Key = ("absent",)
_LARGEST = 1.7976931348623157e308  # the largest double, where the engine's ranges end
_NESTED = ("anything-but-prefix", "anything-but-suffix", "anything-but-equals-ignore-case", "anything-but-wildcard")


def matches(pattern: str | bytes | Mapping[str, Any], event: str | bytes | Mapping[str, Any]) -> bool:
    """True where EventBridge would deliver the event by a rule with this pattern.

    Both are JSON text or Python objects; text is exact, since it keeps number literals and repeated keys. Raises
    `InvalidPattern` with AWS's text and `InvalidEvent`. What only the service refuses (too many wildcards) is refused
    for events with EventBridge's envelope; a bare object, which TestEventPattern does not take, is left to the engine.
    """
    text = patterns.as_text(pattern)
    parsed = patterns.parse(text, limits=False)
    found = events.tree(events.as_text(event))
    if events.has_envelope(found):
        patterns.parse(text)
    machine = _machine(parsed.text)
    return machine.accepts(events.fields(found, machine.steps))


def accepts(pattern: Pattern, found: Mapping[str, list[Value]]) -> bool:
    """True where an event with these scalars by dotted path matches a parsed pattern."""
    return _Machine(pattern).accepts(found)


def dropped(pattern: Pattern) -> list[int]:
    """The alternatives, counted from 0, that the engine takes for an earlier one, with which they share a value of each path."""
    return _Machine(pattern).dropped


@dataclass
class _Field:
    """The tests of one path in one state, by key, each with the state that it leads to."""

    tests: dict[Key, tuple[Check, _State]] = field(default_factory=dict)
    has_number: bool = False
    has_address: bool = False

    def passed(self, text: str) -> list[tuple[Key, _State]]:
        value, is_number = self._read(text)
        return [(key, state) for key, (check, state) in self.tests.items() if check(value, is_number)]

    def _read(self, text: str) -> tuple[bytes, bool]:
        """A value as this field's tests see it."""
        if self.has_number:
            if text[0] in "-0123456789" and (number := values.number(text)) is not None:
                return values.comparable(number), True
        elif self.has_address and (digits := values.digits(text[1:-1] if text[0] == '"' else text)) is not None:
            return digits.encode(), False
        return _bytes(text), False


@dataclass(eq=False)
class _State:
    """What has been matched so far: the paths to look at next, and which alternatives a test that led here belongs to."""

    fields: dict[str, _Field] = field(default_factory=dict)
    absent: dict[str, _State] = field(default_factory=dict)
    complete: dict[Key, set[int]] = field(default_factory=dict)
    partial: dict[Key, set[int]] = field(default_factory=dict)


class _Machine:
    """The engine's machine for one pattern."""

    def __init__(self, pattern: Pattern) -> None:
        self.start = _State()
        self.fails = ""
        self.dropped: list[int] = []
        self.paths = {path for rule in pattern.alternatives for path in rule}
        self.steps = {step for path in self.paths for step in events.split(path)}
        for number, rule in enumerate(pattern.alternatives):
            paths = [
                (path, [one for test in rule[path] for one in _compiled(test)]) for path in sorted(rule, key=java_order)
            ]
            reached: list[list[_State]] = [[] for _ in paths]
            if self._add(self.start, paths, 0, reached):
                self.dropped.append(number)
            else:
                self._register(number, paths, reached)

    def _add(
        self, state: _State, paths: list[tuple[str, list[tuple[Key, Check]]]], at: int, reached: list[list[_State]]
    ) -> set[int]:
        """Add the tests from path `at` on. Returns the alternatives that the engine takes for the same: then it adds no other."""
        path, tests = paths[at]
        following: list[_State] = []
        then: _State | None = None
        for key, check in tests:
            then = self._transition(state, path, key, check, then)
            if then not in following:
                following.append(then)
        reached[at].extend(one for one in following if one not in reached[at])
        same: set[int] = set()
        here: set[int] | None = None
        for one in following:
            if at == len(paths) - 1:
                same = set().union(*(one.complete.get(key, ()) for key, _ in tests))
                continue
            same = self._add(one, paths, at + 1, reached)
            if same:
                here = (here or set()).union(*(one.partial.get(key, ()) for key, _ in tests))
        return same if at == len(paths) - 1 else same & (here or set())

    def _transition(self, state: _State, path: str, key: Key, check: Check, then: _State | None) -> _State:
        """The state behind a test: the one that it leads to already, else the one of the tests before it, else a new one."""
        if key == _ABSENT:
            return state.absent.setdefault(path, then or _State())
        tests = state.fields.setdefault(path, _Field())
        if key[0] in _NESTED and not key[1] and then is None and key not in tests.tests:
            self.fails = key[0]
        tests.has_number |= key[0] in ("number", "range", "anything-but-number")
        tests.has_address |= key[0] == "address"
        return tests.tests.setdefault(key, (check, then or _State()))[1]

    def _register(
        self, number: int, paths: list[tuple[str, list[tuple[Key, Check]]]], reached: list[list[_State]]
    ) -> None:
        for at, (_, tests) in enumerate(paths):
            for state in reached[at]:
                for key, _ in tests:
                    (state.complete if at == len(paths) - 1 else state.partial).setdefault(key, set()).add(number)

    def accepts(self, found: Mapping[str, list[Value]]) -> bool:
        """True where a walk over the event's values ends an alternative. Raises `InvalidEvent` where the engine would fail."""
        if self.fails:
            raise InvalidEvent(
                f"AWS's engine fails on every event with this pattern: its {self.fails} list is empty.",
                "Name a value in the list.",
            )
        indexed = {path: _Values(found[path]) for path in self.paths if path in found}
        waiting: list[tuple[_State, dict[int, int], frozenset[int]]] = [(self.start, {}, frozenset())]
        seen: set[Any] = set()
        read: dict[tuple[int, str], list[tuple[Key, _State]]] = {}
        while waiting:
            state, places, numbers = waiting.pop()
            for key, then, now in _steps(state, places, indexed, read):
                complete = then.complete.get(key)
                if complete and (not numbers or numbers & complete):
                    return True
                partial = frozenset(then.partial.get(key, ()))
                left = numbers & partial if numbers else partial
                mark = (id(then), frozenset(now.items()), left)
                if left and mark not in seen:
                    seen.add(mark)
                    waiting.append((then, now, left))
        return False


class _Values:
    """The values of a path, found by the element of an array that they stand in.

    The engine looks for a value in the elements found so far, and no further where the path has values in such an array. So a
    value beside the array, which a repeated or a dotted key can put there, counts only towards `exists: false`.
    """

    def __init__(self, listed: list[Value]) -> None:
        self.listed = listed
        self._elements: dict[int, dict[int, list[Value]]] | None = None
        self._outside: dict[int, list[Value]] = {}

    def beside(self, places: dict[int, int]) -> Iterator[tuple[Value, dict[int, int]]]:
        """The values to test after these places, each with the places joined."""
        array = self._array(places)
        for value in self.listed if array is None else self._inside(array, places):
            if _fits(value, places):
                yield value, {**places, **dict(value.places)} if value.places else places

    def are_absent(self, places: dict[int, int]) -> bool:
        """True where no value stands in these places, or beside their arrays."""
        array = self._array(places)
        if array is None:
            return not any(_fits(value, places) for value in self.listed)
        if array not in self._outside:
            self._outside[array] = [value for value in self.listed if array not in dict(value.places)]
        return not any(_fits(value, places) for value in chain(self._inside(array, places), self._outside[array]))

    def _array(self, places: dict[int, int]) -> int | None:
        """The first of the arrays of these places in which any of the values stands."""
        if not places:
            return None
        if self._elements is None:
            self._elements = {}
            for value in self.listed:
                for array, index in value.places:
                    self._elements.setdefault(array, {}).setdefault(index, []).append(value)
        return next((array for array in places if array in self._elements), None)

    def _inside(self, array: int, places: dict[int, int]) -> list[Value]:
        return (self._elements or {})[array].get(places[array], [])


def _fits(value: Value, places: dict[int, int]) -> bool:
    """True of a value that stands in no other element of an array than these places."""
    return all(places.get(array, index) == index for array, index in value.places)


_NONE = _Values([])


def _steps(
    state: _State,
    places: dict[int, int],
    found: Mapping[str, _Values],
    read: dict[tuple[int, str], list[tuple[Key, _State]]],
) -> Iterator[tuple[Key, _State, dict[int, int]]]:
    """The ways on from a state: (the test passed, the state behind it, the places in arrays from then on)."""
    for path, then in state.absent.items():
        if found.get(path, _NONE).are_absent(places):
            yield _ABSENT, then, places
    for path, tests in state.fields.items():
        for value, now in found.get(path, _NONE).beside(places):
            mark = (id(tests), value.text)
            if mark not in read:
                read[mark] = tests.passed(value.text)
            for key, then in read[mark]:
                yield key, then, now


def java_order(path: str) -> bytes:
    """What sorts paths as the engine does, by UTF-16 units."""
    return path.encode("utf-16-be", "surrogatepass")


@lru_cache(maxsize=256)
def _machine(text: str) -> _Machine:
    return _Machine(patterns.parse(text, limits=False))


def _compiled(test: Test) -> list[tuple[Key, Check]]:
    """A test as the engine's own: a number is tried as a number and as it is written."""
    kind, value = test.kind, test.value
    if kind == "exists":
        return [(("exists",), lambda held, is_number: True) if value else (_ABSENT, lambda held, is_number: False)]
    if kind == "number":
        number = values.number(value)
        return ([_number(number)] if number is not None else []) + [_exact(value)]
    if kind == "numeric":
        return [_numeric(value)]
    if kind in ("address", "cidr"):
        held_by = values.address(value) if kind == "address" else values.cidr(value)
        return [(("address", held_by), lambda held, is_number: not is_number and held_by.holds(held.decode("latin-1")))]
    if kind == "exact":
        return [_exact(events.held(value))]
    if kind.startswith("anything-but"):
        return [_anything_but(kind, value)]
    return [((kind, value), _text_check(kind, value))]


def _bytes(text: str) -> bytes:
    """A text as the engine's UTF-8, where a lone surrogate is a `?`."""
    return text.encode(errors="replace")


def _exact(held_text: str) -> tuple[Key, Check]:
    wanted = _bytes(held_text)
    return ("exact", held_text), lambda held, is_number: held == wanted


def _number(number: float) -> tuple[Key, Check]:
    wanted = values.comparable(number)
    return ("number", number), lambda held, is_number: is_number and held == wanted


def _numeric(comparisons: tuple[tuple[str, str], ...]) -> tuple[Key, Check]:
    """A comparison or range as the engine's range, whose ends are the largest doubles where none is written."""
    if comparisons[0][0] == "=":
        return _number(values.number(comparisons[0][1]))
    ends = {">": (-_LARGEST, False), "<": (_LARGEST, False)}
    for operator, literal in comparisons:
        ends[operator[0]] = (values.number(literal), len(operator) == 1)
    (low, open_low), (high, open_high) = ends[">"], ends["<"]
    bottom, top = values.comparable(low), values.comparable(high)

    def check(held: bytes, is_number: bool) -> bool:
        return (
            is_number
            and (bottom < held or (held == bottom and not open_low))
            and (held < top or (held == top and not open_high))
        )

    return ("range", low, open_low, high, open_high), check


def _anything_but(kind: str, listed: tuple[str, ...]) -> tuple[Key, Check]:
    if kind == "anything-but-number":
        numbers = frozenset(values.comparable(values.number(one)) for one in listed)
        return (kind, numbers), lambda held, is_number: not (is_number and held in numbers)
    if kind == "anything-but":
        texts = frozenset(_bytes(f'"{one}"') for one in listed)
        return (kind, texts), lambda held, is_number: is_number or held not in texts
    checks = [_text_check(kind.removeprefix("anything-but-"), one) for one in listed]
    return (kind, frozenset(listed)), lambda held, is_number: not any(check(held, is_number) for check in checks)


def _text_check(kind: str, text: str) -> Check:
    """A test of text, on the bytes of the value with its quotes."""
    quoted = _bytes(text)
    if kind == "prefix":
        return lambda held, is_number: held.startswith(b'"' + quoted)
    if kind == "suffix":
        return lambda held, is_number: held.endswith(quoted + b'"')
    if kind == "wildcard":
        return _wildcard(text)
    folded = _any_case(text)
    if kind == "prefix-equals-ignore-case":
        begins = re.compile(b'"' + folded, re.DOTALL)
        return lambda held, is_number: begins.match(held) is not None
    if kind == "suffix-equals-ignore-case":
        ends = re.compile(folded + b'"\\Z', re.DOTALL)
        return lambda held, is_number: ends.search(held) is not None
    equals = re.compile(b'"' + folded + b'"', re.DOTALL)
    return lambda held, is_number: equals.fullmatch(held) is not None


def _any_case(text: str) -> bytes:
    """A regular expression for the text in either case, each UTF-16 unit folded alone, as Java does.

    A character beyond the basic plane is two units that have no bytes of their own: the engine holds a `?` for each.
    """
    units = text.encode("utf-16-be", "surrogatepass")
    characters = [chr(int.from_bytes(units[at : at + 2], "big")) for at in range(0, len(units), 2)]
    return b"".join(
        b"(?:" + b"|".join(sorted({re.escape(_bytes(one)) for one in (char.lower(), char.upper())})) + b")"
        for char in characters
    )


def _wildcard(text: str) -> Check:
    """A wildcard on bytes, its parts found one after the other."""
    parts: list[bytes] = [b'"']
    for found in re.finditer(rb"\\([*\\])|(\*)|([^\\*]+)", _bytes(text)):
        if found.group(2):
            parts.append(b"")
        else:
            parts[-1] += found.group(1) or found.group(3)
    parts[-1] += b'"'
    first, last, between = parts[0], parts[-1], parts[1:-1]

    def check(held: bytes, is_number: bool) -> bool:
        if len(parts) == 1:
            return held == first
        at, end = len(first), len(held) - len(last)
        if not held.startswith(first) or not held.endswith(last) or at > end:
            return False
        for part in between:
            at = held.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return check
