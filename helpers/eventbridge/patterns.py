"""Event patterns: parsed exactly as AWS's engine parses them, refused with its text.

Sources: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html and
https://github.com/aws/event-ruler (2.0.1), the engine that EventBridge runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from helpers.aws import RunbookError
from helpers.eventbridge import values
from helpers.eventbridge.complexity import complexity
from helpers.eventbridge.corrections import guesses
from helpers.eventbridge.tokens import (
    ARRAY,
    END_ARRAY,
    END_OBJECT,
    FALSE,
    NAME,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    TRUE,
    BadJson,
    Tokens,
)

MAX_PATTERN = 4_096  # characters; botocore, EventPattern of PutRule
MAX_ALTERNATIVES = (
    1_000  # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html, $or
)
MAX_FIELDS = 256  # of one alternative; event-ruler's GenericMachine
MAX_COMPLEXITY = 10  # event-ruler's README; AWS was seen to accept 7 and to refuse 11
RESERVED = frozenset(
    "exactly equals-ignore-case prefix suffix anything-but exists wildcard numeric cidr html = < <= > >= regex not-wildcard "
    "not-equals-ignore-case date-after date-on-or-after date-before date-on-or-before in-date-range ip-address-in-range "
    "ip-address-not-in-range".split()
)
TOO_COMPLEX = "Rule is too complex - try using fewer wildcard characters or fewer repeating character sequences after a wildcard character"
_NESTED = ("equals-ignore-case", "prefix", "suffix", "wildcard")
_NEWER = ("prefix", "suffix", "wildcard")  # the engine that takes `$or` for a field knows the first two with one string only
_SIMPLE = {  # the operators over one string, and what AWS says of another value
    "exactly": ("exact", "exact match pattern must be a string"),
    "prefix": ("prefix", "prefix match pattern must be a string"),
    "suffix": ("suffix", "suffix match pattern must be a string"),
    "cidr": ("cidr", "prefix match pattern must be a string"),
    "equals-ignore-case": ("equals-ignore-case", "equals-ignore-case match pattern must be a string"),
    "wildcard": ("wildcard", "wildcard match pattern must be a string"),
}
_NOT_IN_LIST = {
    "equals-ignore-case": "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported.",
    "wildcard": "wildcard match pattern must be a string",
    "prefix": "prefix/suffix match pattern must be a string",
    "suffix": "prefix/suffix match pattern must be a string",
}
_OPERATORS = "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html"
_NO_JSON = "The pattern is not JSON: look for a missing quote, comma or bracket."
_REMEDIES = (
    ("must be an object or an array", 'Put the value into a list: {"source": ["aws.amplify"]}.'),
    ("Empty arrays", "Name at least one value, or leave the field out."),
    ("Empty objects", "Name at least one field, or leave the object out."),
    (
        "Unrecognized match type",
        "The operators are prefix, suffix, equals-ignore-case, wildcard, anything-but, exists, numeric, cidr and $or.",
    ),
    ("Only one key allowed", "Write one object an operator: [{...}, {...}] passes if any of them does."),
    ("at least 2 Objects", "Write the two alternatives, or leave $or out."),
    ("Rule is too complex", "Use fewer *, or a prefix or a suffix."),
    (
        "Cannot compare number",
        "A double must hold the number; match a long number as it is written, without `numeric`.",
    ),
    ("Consecutive wildcard", r"Write one *; a literal asterisk is \\* in JSON."),
    ("Invalid escape", r"In JSON, a literal asterisk is \\* and a literal backslash \\\\."),
    *((part, _NO_JSON) for part in ("Unexpected", "Unrecognized", "Illegal", "Non-standard", "Invalid numeric value")),
)


class InvalidPattern(RunbookError):
    """A pattern that EventBridge refuses.

    `what` is AWS's text, `corrected` the valid pattern (a Python object) that is probably meant, or None.
    """

    def __init__(self, what: str, remedy: str = "", request_id: str = "", *, corrected: Any = None) -> None:
        found = remedy or next((text for part, text in _REMEDIES if part in what), f"{_OPERATORS} lists what may stand there.")
        super().__init__(what, found, request_id)
        self.corrected = corrected


@dataclass(frozen=True)
class Test:
    """One test of a field's value. `kind` and `value`:

    | kind | value | passes |
    |---|---|---|
    | exact | str, True, False or None | that string, boolean or null |
    | number | the literal, a str (`300`, `3.0e2`) | the same number; where a double cannot hold it, the same literal |
    | address | str that is an IP address | a string that is the same address |
    | cidr | str | a string that is an address in the block |
    | prefix, suffix, equals-ignore-case, prefix-equals-ignore-case, suffix-equals-ignore-case, wildcard | str | such a string |
    | exists | True or False | a scalar is there; none is |
    | numeric | ((operator, literal), ...), one or two | a number that all of them hold for |
    | anything-but | tuple of str | any scalar but these strings |
    | anything-but-number | tuple of literals | any scalar but these numbers |
    | anything-but-prefix, -suffix, -equals-ignore-case, -wildcard | tuple of str | any scalar but such strings |

    A field's tests also change each other: see `helpers.eventbridge.matching`.
    """

    __test__ = False  # no pytest class
    kind: str
    value: Any

    @property
    def source(self) -> str:
        """The test as it is written in a pattern."""
        return _source(self.kind, self.value)


@dataclass(frozen=True)
class Pattern:
    """A parsed pattern: its text, and the alternatives that `$or` makes of it, each the tests of its dotted paths.

    An event matches if in one alternative every path has a value that one of its tests passes. `overwritten` are the paths
    that are written more than once, of which the last counts. `or_fault` says why the engine takes `$or` for the name of a
    field, where it does.
    """

    text: str
    alternatives: tuple[Mapping[str, tuple[Test, ...]], ...]
    overwritten: tuple[str, ...] = ()
    or_fault: str = ""


def parse(pattern: str | bytes | Mapping[str, Any], *, limits: bool = True) -> Pattern:
    """A pattern, JSON text or object, as the tests of its paths. Raises `InvalidPattern` with AWS's text.

    `limits` includes what the service refuses beyond its engine: too many wildcards. Text behind the closing brace
    does not matter to the engine; of a key given twice the last counts.
    """
    text = as_text(pattern)
    parsed = _parse(text)
    if limits and _is_too_complex(text):
        raise InvalidPattern(TOO_COMPLEX)
    return parsed


@lru_cache(maxsize=256)
def _is_too_complex(text: str) -> bool:
    """True where the wildcards that one machine holds are too many: those of a field, and of every alternative that has the
    same tests before it."""
    machines: dict[Any, dict[Test, None]] = {}
    for rule in _parse(text).alternatives:
        before: tuple[Any, ...] = ()
        for path in sorted(rule):
            machines.setdefault((path, before), {}).update(dict.fromkeys(rule[path]))
            before = (*before, path, rule[path])
    return any(complexity(wildcards(tests)) > MAX_COMPLEXITY for tests in machines.values())


def wildcards(tests: Iterable[Test]) -> list[tuple[str, ...]]:
    """The wildcards of each test that has any: one, or those of an anything-but."""
    return [
        (test.value,) if test.kind == "wildcard" else test.value
        for test in tests
        if test.kind in ("wildcard", "anything-but-wildcard")
    ]


def as_text(pattern: str | bytes | Mapping[str, Any]) -> str:
    """The JSON text of a pattern. Raises `InvalidPattern` where it has none."""
    if isinstance(pattern, bytes | bytearray):
        try:
            return bytes(pattern).decode()
        except UnicodeDecodeError as error:
            raise InvalidPattern(
                f"The pattern is not UTF-8: {error.reason} at byte {error.start}.", "Save it as UTF-8."
            ) from error
    if isinstance(pattern, str):
        return pattern
    try:
        return json.dumps(pattern, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPattern(
            f"The pattern cannot be written as JSON: {error}.", "Use dicts, lists, strings, numbers, booleans and None."
        ) from error


@lru_cache(maxsize=256)
def _parse(text: str) -> Pattern:
    if len(text) > MAX_PATTERN:
        raise InvalidPattern(
            f"The pattern has {len(text):,} characters; EventBridge takes {MAX_PATTERN:,}.",
            "Split it into several rules.",
        )
    try:
        parsed = _Parser(text).pattern()
    except _Refused as refused:
        try:
            parsed = replace(_Parser(text, with_or=False).pattern(), or_fault=str(refused))
        except _Refused:
            corrected = _corrected(text)
            remedy = f"Write {_json(corrected)}" if corrected is not None else ""
            raise InvalidPattern(str(refused), remedy, corrected=corrected) from None
    if (fields := max(map(len, parsed.alternatives))) > MAX_FIELDS:
        raise InvalidPattern(f"The pattern tests {fields} fields; AWS's engine takes {MAX_FIELDS}.", "Split it into several rules.")
    return parsed


def _corrected(text: str) -> Any:
    """The first valid pattern that an invalid one may mean, as an object; None where there is none."""
    for guess in guesses(text):
        try:
            _Parser(_json(guess)).pattern()
        except (_Refused, InvalidPattern, ValueError, RecursionError, TypeError):
            continue
        return guess
    return None


class _Refused(ValueError):
    """The engine refuses the pattern, with this text."""


@dataclass
class _Frame:
    """An object of the pattern, or the list of an `$or` (`before` is then what the alternatives were)."""

    rules: list[dict[str, tuple[Test, ...]]]
    in_or: bool
    named: bool = False
    before: list[dict[str, tuple[Test, ...]]] | None = None
    members: int = 0


class _Parser:
    """One reading of a pattern. Without `with_or`, `$or` is a field like any other: how the engine's older compiler reads what
    its newer one refuses."""

    def __init__(self, text: str, with_or: bool = True) -> None:
        self.text, self.tokens, self.with_or = text, Tokens(text), with_or
        self.overwritten: dict[str, None] = {}
        self.path: list[str] = []
        self.frames: list[_Frame] = []

    def pattern(self) -> Pattern:
        """The pattern. Raises `_Refused`."""
        rules: list[dict[str, tuple[Test, ...]]] = []
        try:
            self._need(self.tokens.advance() == OBJECT, "Filter is not an object")
            self.frames.append(_Frame(rules, in_or=False))
            while self.frames:
                frame = self.frames[-1]
                (self._member if frame.before is None else self._branch)(frame)
        except BadJson as error:
            raise _Refused(str(error)) from None
        return Pattern(self.text, tuple(rules), tuple(self.overwritten))

    def _member(self, frame: _Frame) -> None:
        """The next field of an object, or its end."""
        if self.tokens.advance() == END_OBJECT:
            self._need(frame.members > 0, "Empty objects are not allowed")
            self._leave(frame)
            return
        frame.members += 1
        name = self.tokens.text
        if name == "$or" and self.with_or:
            before = [dict(rule) for rule in frame.rules]
            frame.rules.clear()
            self._need(self.tokens.advance() == ARRAY, "It must be an Array followed with $or.")
            self.frames.append(_Frame(frame.rules, in_or=True, before=before))
            return
        self._need(
            not (frame.in_or and name in RESERVED),
            f"{name} is Ruler reserved fieldName which cannot be used inside $or.",
        )
        kind = self.tokens.advance()
        self._need(kind in (OBJECT, ARRAY), f'"{name}" must be an object or an array')
        if kind == OBJECT:
            self.path.append(name)
            self.frames.append(_Frame(frame.rules, frame.in_or, named=True))
        else:
            self._write(frame.rules, name)

    def _leave(self, frame: _Frame) -> None:
        self.frames.pop()
        if frame.named:
            self.path.pop()
        elif self.frames:
            self.frames[-1].rules.extend(frame.rules)

    def _branch(self, frame: _Frame) -> None:
        """The next object of an `$or` list, or its end."""
        kind = self.tokens.advance()
        if kind == END_ARRAY:
            self._need(frame.members > 1, "There must have at least 2 Objects in $or relationship.")
            self.frames.pop()
            return
        self._need(kind == OBJECT, "Only JSON object is allowed in array of $or relationship.")
        frame.members += 1
        if len(frame.rules) + len(frame.before or ()) > MAX_ALTERNATIVES:
            raise InvalidPattern(
                f"The pattern's $or make more than {MAX_ALTERNATIVES:,} combinations.", "Split it into several rules."
            )
        self.frames.append(_Frame([dict(rule) for rule in frame.before or ()] or [{}], in_or=True))

    def _write(self, rules: list[dict[str, tuple[Test, ...]]], name: str) -> None:
        """Give the field its tests in every alternative so far; the last list written for a path counts."""
        found: list[Test] = []
        while (kind := self.tokens.advance()) != END_ARRAY:
            found.append(self._expression() if kind == OBJECT else self._scalar(kind))
        self._need(bool(found), "Empty arrays are not allowed")
        base = ".".join(self.path)
        path = f"{base}.{name}" if base else name
        if not rules:
            rules.append({})
        for rule in rules:
            if path in rule:
                self.overwritten[path] = None
            rule[path] = tuple(found)

    def _scalar(self, kind: str) -> Test:
        if kind == STRING:
            text = self.tokens.text
            return Test("address" if values.address(text) else "exact", text)
        if kind == NUMBER:
            return Test("number", self.tokens.text)
        self._need(kind in (TRUE, FALSE, NULL), "Match value must be String, number, true, false, or null")
        return Test("exact", {TRUE: True, FALSE: False, NULL: None}[kind])

    def _expression(self) -> Test:
        """The test inside the braces of `{"prefix": "a"}`."""
        self._need(self.tokens.advance() == NAME, "Match expression name not found")
        operator = self.tokens.text
        if operator in _SIMPLE:
            return self._string(operator)
        if operator == "numeric":
            self._need(self.tokens.advance() == ARRAY, "Value of numeric must be an array.")
            return self._closed(Test("numeric", self._numeric()), "Too many elements in numeric expression")
        if operator == "anything-but":
            return self._anything_but()
        self._need(operator == "exists", f"Unrecognized match type {operator}")
        kind = self.tokens.advance()
        self._need(kind in (TRUE, FALSE), "exists match pattern must be either true or false.")
        return self._closed(Test("exists", kind == TRUE))

    def _string(self, operator: str) -> Test:
        kind, message = _SIMPLE[operator]
        token = self.tokens.advance()
        if token == OBJECT and operator in ("prefix", "suffix"):
            self._need(self.tokens.advance() == NAME, f"{operator.title()} expression name not found")
            self._need(self.tokens.text == "equals-ignore-case", f"Unsupported {operator} pattern: {self.tokens.text}")
            self._need(self.tokens.advance() == STRING, _SIMPLE["equals-ignore-case"][1])
            return self._closed(self._closed(Test(f"{operator}-equals-ignore-case", self.tokens.text)))
        self._need(token == STRING, message)
        text = self.tokens.text
        if kind == "cidr":
            try:
                values.cidr(text)
            except ValueError as error:
                raise _Refused(str(error)) from None
        if kind == "wildcard":
            self._check_wildcard(text)
        return self._closed(Test(kind, text))

    def _check_wildcard(self, text: str) -> None:
        """Positions are bytes of the value with its opening quote, as the engine keeps it."""
        value = f'"{text}"'.encode(errors="replace")
        at = 0
        while at < len(value):
            one, pair = value[at : at + 1], value[at : at + 2]
            self._need(pair != b"**", f"Consecutive wildcard characters at pos {at}")
            self._need(one != b"\\" or pair in (b"\\*", b"\\\\"), f"Invalid escape character at pos {at}")
            at += 2 if one == b"\\" else 1

    def _anything_but(self) -> Test:
        nested = ""
        token = self.tokens.advance()
        if token == OBJECT:
            self._need(self.tokens.advance() == NAME, "Anything-But expression name not found")
            nested = self.tokens.text
            self._need(nested in _NESTED, f"Unsupported anything-but pattern: {nested}")
            token = self.tokens.advance()
            self._need(self.with_or or nested not in _NEWER or (token == STRING and nested != "wildcard"), f"Unsupported anything-but pattern: {nested}")
        self._need(
            token in (ARRAY, STRING, NUMBER), "Value of anything-but must be an array or single string/number value."
        )
        test = self._nested_anything_but(nested, token) if nested else self._plain_anything_but(token)
        many = "Too many elements in numeric expression"
        return self._closed(self._closed(test, many), many) if nested else self._closed(test, many)

    def _plain_anything_but(self, token: str) -> Test:
        found: dict[str, list[str]] = {STRING: [], NUMBER: []}
        for kind in self._items(token):
            self._need(kind in found, "Inside anything but list, start|null|boolean is not supported.")
            text = self.tokens.text
            if kind == NUMBER:
                self._comparable(text)
            found[kind].append(text)
        mixed = "Inside anything but list, either all values are number or string, mixed type is not supported"
        self._need(bool(found[STRING]) != bool(found[NUMBER]), mixed)
        return (
            Test("anything-but", tuple(found[STRING]))
            if found[STRING]
            else Test("anything-but-number", tuple(found[NUMBER]))
        )

    def _nested_anything_but(self, nested: str, token: str) -> Test:
        found: list[str] = []
        for kind in self._items(token):
            self._need(kind == STRING, _NOT_IN_LIST[nested])
            found.append(self.tokens.text)
            self._need(bool(found[-1]) or nested not in ("prefix", "suffix"), "Null prefix/suffix not allowed")
        for text in found if nested == "wildcard" else ():
            self._check_wildcard(text)
        return Test(f"anything-but-{nested}", tuple(found))

    def _items(self, token: str) -> Iterator[str]:
        """The kinds of the tokens of a list, or the one token of a single value."""
        if token != ARRAY:
            yield token
            return
        while (kind := self.tokens.advance()) != END_ARRAY:
            yield kind

    def _numeric(self) -> tuple[tuple[str, str], ...]:
        """The comparisons of a numeric list: one, or a lower bound and then an upper bound."""
        token = self.tokens.advance()
        self._need(token == STRING, f"Invalid member in numeric match: {self.tokens.text}")
        operator = self.tokens.text
        token = self.tokens.advance()
        self._need(operator in ("=", "<", "<=", ">", ">="), f"Unrecognized numeric range operator: {operator}")
        self._need(token == NUMBER, f"Value of {'equals' if operator == '=' else operator} must be numeric")
        literal = self.tokens.text
        token = self.tokens.advance()
        if token == END_ARRAY:
            self._check_range(operator, literal)
            return ((operator, literal),)
        self._need(operator in (">", ">="), "Too many elements in numeric expression")
        self._need(token == STRING, f"Bad value in numeric range: {self.tokens.text}")
        upper = self.tokens.text
        self._need(upper in ("<", "<="), f"Bad numeric range operator: {upper}")
        self._need(self.tokens.advance() == NUMBER, f"Value of {upper} must be numeric")
        top = self.tokens.text
        self._need(self.tokens.advance() == END_ARRAY, "Too many terms in numeric range expression")
        self._need(self._comparable(literal) < self._comparable(top), "Bottom must be less than top")
        return ((operator, literal), (upper, top))

    def _check_range(self, operator: str, literal: str) -> None:
        """Ranges end at the largest double, so nothing is above it and nothing below its negative."""
        value, largest = self._comparable(literal), 1.7976931348623157e308
        self._need(
            operator == "=" or (value > -largest if "<" in operator else value < largest),
            "Bottom must be less than top",
        )

    def _comparable(self, literal: str) -> float:
        value = values.number(literal)
        if value is None:
            raise _Refused("value exceeds limits" if values.exceeds(literal) else f"Cannot compare number : {literal}")
        return value

    def _closed(self, test: Test, message: str = "Only one key allowed in match expression") -> Test:
        self._need(self.tokens.advance() == END_OBJECT, message)
        return test

    def _need(self, holds: bool, message: str) -> None:
        if not holds:
            raise _Refused(message)


def _source(kind: str, value: Any) -> str:
    """A test in the language of patterns."""
    if kind == "number":
        return value
    if kind in ("exact", "address"):
        return _json(value)
    if kind == "numeric":
        return '{"numeric": [' + ", ".join(f'"{operator}", {literal}' for operator, literal in value) + "]}"
    if kind.startswith("anything-but"):
        quoted = list(value) if kind == "anything-but-number" else [_json(one) for one in value]
        listed = quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"
        nested = kind.removeprefix("anything-but").lstrip("-")
        return (
            f'{{"anything-but": {{"{nested}": {listed}}}}}'
            if nested and nested != "number"
            else f'{{"anything-but": {listed}}}'
        )
    operator, _, nested = (
        kind.partition("-equals-ignore-case") if kind.startswith(("prefix", "suffix")) else (kind, "", "")
    )
    inner = f'{{"equals-ignore-case": {_json(value)}}}' if operator != kind else _json(value)
    return f'{{"{operator}": {inner}}}'


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
