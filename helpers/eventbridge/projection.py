"""Match many events fast: read only the fields that patterns name, and walk a tree of their values.

A tree asks for one field after another, in the patterns' order; what a value decides is asked of the exact matcher once
and remembered. Events are read in one of two ways: in machine code (`helpers.eventbridge.reader`), which numbers the values
and walks the tree by their numbers, or where that is not at hand by msgspec, into Structs made of the patterns' paths, so
that no other field becomes a Python object. Whatever those cannot settle for certain is left to
`helpers.eventbridge.matching`; of msgspec's that is:

- the line is no event for msgspec, a field on a path is an array, an object at its end, a fraction or a long number;
- a name could be written with an escape (`\\u00..`), or occurs in the line where the decoded fields do not explain it: a
  key given twice (AWS matches any of its values, msgspec keeps the last), or one with dots (AWS takes it as nesting).
"""

from __future__ import annotations

import array
import io
import operator
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import orjson
from msgspec import UNSET

from helpers.eventbridge.events import MAX_NAME, InvalidEvent
from helpers.eventbridge.matching import matches
from helpers.eventbridge.patterns import InvalidPattern, Pattern, Test, parse
from helpers.eventbridge.reader import BEYOND_ASCII, STUCK, UNSURE, Reader
from helpers.eventbridge.sources import events_in
from helpers.eventbridge.tokens import MAX_DEPTH, MAX_NUMBER

MAX_REMEMBERED = 100_000  # values a node of the tree; memory stays flat
MAX_TERMINALS = 50_000
SAFE_INTEGER = 2**53  # a double holds every integer below exactly
COMBINATION = "(combination)"  # each field passes alone, but not all in the same element of an array

_NAME = re.compile(r"[A-Za-z0-9_: -]+")
_SPACE = b" \t\r\n"  # JSON's; bytes.strip takes more
_WORDS = {b"true": True, b"false": False, b"null": None}
_SAFE_INTEGER = re.compile(rb"-?[1-9][0-9]{0,14}")
_COMPARE = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SCALAR = str | int | float | bool | None | msgspec.UnsetType
# Look for a name in the whole block where more of its lines depend on it: two bytes of it are found faster than all.
_BY_PAIRS, _BY_WORDS = 0.125, 0.5
# msgspec stops at Python's recursion limit, which lets nothing pass that is too deep for AWS: until 3.12 moved it
_DEEPER = sys.version_info >= (3, 12) or sys.getrecursionlimit() > MAX_DEPTH
_IS_NUMBER = np.array([chr(code) in "+-.0123456789eE" for code in range(256)])


@dataclass
class Tally:
    """What was counted: events by the patterns (their places) that match them, rejections by pattern and field, bad lines."""

    outcomes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    rejected: Counter[tuple[int, str]] = field(default_factory=Counter)
    kept: dict[tuple[int, ...], list[bytes]] = field(default_factory=dict)
    bad: int = 0
    bad_lines: list[tuple[str, str]] = field(default_factory=list)
    exact: int = 0

    def add(self, other: Tally, keep: int, keep_bad: int) -> None:
        """Count what `other` has counted, and keep its lines up to the bounds."""
        self.outcomes.update(other.outcomes)
        self.rejected.update(other.rejected)
        for outcome, lines in other.kept.items():
            mine = self.kept.setdefault(outcome, [])
            mine.extend(lines[: keep - len(mine)])
        self.bad += other.bad
        self.exact += other.exact
        self.bad_lines.extend(other.bad_lines[: keep_bad - len(self.bad_lines)])


@dataclass(frozen=True)
class Terminal:
    """Where the tree ends: the patterns that match, the field at which each other one was rejected, and `depends`: the
    fields (their places) whose other values, if the event has any, could change that."""

    matched: tuple[int, ...]
    lost: tuple[tuple[int, str], ...]
    depends: tuple[int, ...]


NOTHING = Terminal((), (), ())


class Node(dict[Any, Any]):
    """A field to be asked for, and what each value leads to: the next node, or the number of a terminal."""

    def __init__(self, tree: Projection, place: int, live: frozenset[int], matched: frozenset[int], lost: tuple[tuple[int, str], ...], depends: tuple[int, ...]) -> None:
        super().__init__()
        self.tree, self.place, self.live, self.matched, self.lost, self.depends = tree, place, live, matched, lost, depends
        self.number = len(tree.nodes)
        tree.nodes.append(self)
        self.get = operator.attrgetter(tree.attributes[place])
        self.children: dict[frozenset[int], Any] = {}

    def __missing__(self, value: Any) -> Any:
        child = self.tree.child(self, value)
        # 1, 1.0 and True are the same key: only what no other type equals is remembered
        if child is not UNSURE and (type(value) is str or value is None or value is UNSET):
            if len(self) >= MAX_REMEMBERED:
                self.clear()
            self[value] = child
        return child


class Projection:
    """The tree of some patterns and the decoder of their fields; `hard` are the patterns (their places) that need the exact matcher.

    Keeps up to `keep` lines of each outcome (the patterns that match) and `keep_bad` of the bad lines. `compiled`: read
    events in machine code.
    """

    def __init__(self, patterns: Sequence[Pattern], keep: int = 0, keep_bad: int = 0, *, compiled: bool = False) -> None:
        self.patterns, self.keep, self.keep_bad = patterns, keep, keep_bad
        self.tally, self.counts = Tally(), Counter[int]()
        self.hard = _hard(patterns)
        self.alternatives = [(number, dict(one)) for number, pattern in enumerate(patterns) if number not in self.hard for one in pattern.alternatives]
        self.paths = list(dict.fromkeys(path for _, tests in self.alternatives for path in tests))
        self.order = list(dict.fromkeys(path for pattern in patterns for one in pattern.alternatives for path in one))
        if self.paths:
            struct, self.attributes = _struct(self.paths)
            self.decode = msgspec.json.Decoder(struct).decode
            self.tokens = list(map(_Token, self.paths, self.attributes))
            self.answers: dict[tuple[int, Any], bool] = {}
            numbers: dict[tuple[Test, ...], int] = {}
            self.tests = {(one, path): numbers.setdefault(tests, len(numbers)) for one, (_, fields) in enumerate(self.alternatives) for path, tests in fields.items()}
            self.distinct = list(numbers)
            self.listed, self.ranges = list(map(_listed, numbers)), list(map(_ranges, numbers))
            self.reader = Reader(self.paths) if compiled else None
            self._plant()

    def _plant(self) -> None:
        """Begin the tree anew: memory stays bounded."""
        self.terminals: list[Terminal] = [NOTHING]
        self.nodes: list[Node | None] = [None]
        if self.reader is not None:
            self.reader.clear()
        self.root = self._follow(-1, frozenset(range(len(self.alternatives))), frozenset(), (), ())
        self.walk = self._chain() if len(self.alternatives) == 1 else self._walk

    def child(self, node: Node, value: Any) -> Any:
        """What a value of the node's field leads to; `UNSURE` where the value's text matters and is not given (as bytes)."""
        if type(value) is float or (type(value) is int and not 0 < abs(value) < SAFE_INTEGER):
            return UNSURE  # it may have been written in several ways
        path = self.paths[node.place]
        passed = frozenset(one for one in node.live if path not in self.alternatives[one][1] or self._answer(self.tests[one, path], value))
        if passed not in node.children:
            node.children[passed] = self._next(node, passed)
        return node.children[passed]

    def _answer(self, number: int, value: Any) -> bool:
        """Whether the tests of that number pass a value: texts are asked once for all nodes and patterns that share them."""
        if type(value) is str and (listed := self.listed[number]) is not None:
            return value in listed
        if type(value) is int and (ranges := self.ranges[number]) is not None:
            return any([all([compare(value, end) for compare, end in one]) for one in ranges])
        if type(value) in (int, bool):
            return _passes(self.distinct[number], value)
        if (number, value) not in self.answers:
            if len(self.answers) >= MAX_REMEMBERED:
                self.answers.clear()
            self.answers[number, value] = _passes(self.distinct[number], value)
        return self.answers[number, value]

    def _next(self, node: Node, passed: frozenset[int]) -> Any:
        """What follows a node where these of its alternatives pass."""
        path = self.paths[node.place]
        gone = {self.alternatives[one][0] for one in node.live - passed} - {self.alternatives[one][0] for one in passed} - node.matched
        lost = node.lost + tuple((number, path) for number in sorted(gone))
        # more values can only make more tests pass, but for `exists: false`
        absent = any(test.kind == "exists" and not test.value for one in passed for test in self.alternatives[one][1].get(path, ()))
        return self._follow(node.place, passed, node.matched, lost, (*node.depends, node.place) if absent or passed != node.live else node.depends)

    def _follow(self, place: int, live: frozenset[int], matched: frozenset[int], lost: tuple[tuple[int, str], ...], depends: tuple[int, ...]) -> Any:
        """The next node for the alternatives that are left, or a terminal where none has a field to ask for."""
        ahead = {one: [at for at in range(place + 1, len(self.paths)) if self.paths[at] in self.alternatives[one][1]] for one in live}
        matched |= {self.alternatives[one][0] for one, places in ahead.items() if not places}
        live = frozenset(one for one, places in ahead.items() if places and self.alternatives[one][0] not in matched)
        if live:
            return Node(self, min(ahead[one][0] for one in live), live, matched, lost, depends)
        self.terminals.append(Terminal(tuple(sorted(matched)), lost, depends))
        return len(self.terminals) - 1

    def _walk(self, structs: list[Any]) -> list[int]:
        """The terminals of decoded events. Raises `AttributeError` where one has no object on a path."""
        found = []
        root = self.root
        for struct in structs:
            node = root
            while node.__class__ is Node:
                node = node[node.get(struct)]
            found.append(node)
        return found

    def _chain(self) -> Callable[[list[Any]], list[int]]:
        """`_walk` for one alternative, written out: the nodes are a chain, each value leads on or to a terminal."""
        nodes = [self.root]
        while len(nodes) < len(self.paths):
            passed = nodes[-1].live
            nodes.append(nodes[-1].children.setdefault(passed, self._next(nodes[-1], passed)))
        names: dict[str, Any] = {f"n{at}": node for at, node in enumerate(nodes)}
        text = f"n{len(nodes) - 1}[s.{self.attributes[nodes[-1].place]}]"
        for at in reversed(range(len(nodes) - 1)):
            value = f"s.{self.attributes[nodes[at].place]}"
            listed = self.listed[self.tests[0, self.paths[nodes[at].place]]]
            if listed and len(listed) == 1:
                (names[f"c{at}"],) = listed  # comparing with the one value is faster than looking it up
                text = f"({text} if {value} == c{at} else n{at}[{value}])"
            else:
                text = f"(v if (v := n{at}[{value}]) is not n{at + 1} else {text})"
        return eval(f"lambda structs: [{text} for s in structs]", names)

    # -- lines ------------------------------------------------------------------------------------------------

    def scan(self, block: bytes) -> None:
        """Count the events of a block of whole lines."""
        if not self.paths:
            self._exactly(io.BytesIO(block).readlines())
        elif self.reader is not None:
            self._scan_compiled(self.reader, block if block.endswith(b"\n") else block + b"\n")
        else:
            lines, structs, doubtful = self._decoded(block, io.BytesIO(block).readlines())
            codes = np.array(array.array("i", self._codes(structs)))
            for at in self._unproven(block, lines, structs, codes):
                codes[at] = UNSURE
            self._count(codes, lines.__getitem__)
            self._exactly(doubtful)

    def _scan_compiled(self, reader: Reader, block: bytes) -> None:
        if reader.is_full:
            self._sum_up()
            self._plant()
        rows, bounds, states = reader.read(block)
        if (states == BEYOND_ASCII).any() and not _is_utf8(block):
            states[states == BEYOND_ASCII] = UNSURE
        codes, nodes = np.zeros(len(rows), np.int32), np.full(len(rows), self.root.number, np.int32)
        while True:
            places = np.array([0, *(node.place for node in self.nodes[1:])])
            reader.walk(rows, states, places, codes, nodes)
            stuck = np.flatnonzero(codes == STUCK)
            if not len(stuck):
                break
            steps = set(zip(nodes[stuck].tolist(), rows[stuck, places[nodes[stuck]]].tolist(), strict=True))
            if not reader.learn([(at, value, self._step(reader, at, value)) for at, value in steps]):
                codes[stuck] = UNSURE
                break
        self._count(codes, lambda at: block[bounds[at, 0] : bounds[at, 1]])

    def _step(self, reader: Reader, at: int, number: int) -> int:
        """Where the value of that number leads from a node, as the reader counts: to a node, or to a terminal below zero."""
        text = reader.text(number)
        value: Any = text
        if not text:
            value = UNSET
        elif text in _WORDS:
            value = _WORDS[text]
        elif _SAFE_INTEGER.fullmatch(text):
            value = int(text)
        elif text.startswith(b'"') and b"\\" not in text:
            value = text[1:-1].decode()
        child = self.child(self.nodes[at], value)
        return child.number if isinstance(child, Node) else -child

    def _count(self, codes: Any, line: Callable[[int], bytes]) -> None:
        """Count lines by their terminals; `line` gives the one at a place."""
        counts = np.bincount(codes, minlength=1)
        for code in np.flatnonzero(counts).tolist():
            if self.hard and code != UNSURE:
                self._exactly((line(at) for at in np.flatnonzero(codes == code)), self.terminals[code])
                continue
            self.counts[code] += int(counts[code])
            if self.keep and self.terminals[code].matched:
                kept = self.tally.kept.setdefault(self.terminals[code].matched, [])
                if len(kept) < self.keep:
                    kept.extend(line(at).strip() for at in np.flatnonzero(codes == code)[: self.keep - len(kept)])
        if counts[UNSURE]:
            self._exactly(line(at) for at in np.flatnonzero(codes == UNSURE))
        if len(self.terminals) + len(self.nodes) > MAX_TERMINALS:
            self._sum_up()
            self._plant()

    def take(self) -> Tally:
        """What was counted since the last call."""
        if self.paths:
            self._sum_up()
        taken, self.tally = self.tally, Tally()
        return taken

    def _sum_up(self) -> None:
        for code, count in self.counts.items():
            if code != UNSURE:
                self.tally.outcomes[self.terminals[code].matched] += count
                for lost in self.terminals[code].lost:
                    self.tally.rejected[lost] += count
        self.counts.clear()

    def _decoded(self, block: bytes, lines: list[bytes]) -> tuple[list[bytes], list[Any], list[bytes]]:
        """The lines that decode, their Structs, and the lines that do not."""
        if _is_plain(block, max(map(len, lines), default=0)):
            try:
                return lines, list(map(self.decode, lines)), []
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass
        good, structs, doubtful = [], [], []
        for line in lines:
            try:
                if not _is_plain(line, len(line)):
                    raise msgspec.DecodeError
                structs.append(self.decode(line))
                good.append(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                if line.strip(_SPACE):
                    doubtful.append(line)
        return good, structs, doubtful

    def _codes(self, structs: list[Any]) -> list[int]:
        """The terminals of decoded events; `UNSURE` where one has a scalar in place of an object on a path."""
        try:
            return self.walk(structs)
        except AttributeError:
            codes: list[int] = []
            for struct in structs:
                try:
                    codes += self.walk([struct])
                except AttributeError:
                    codes.append(UNSURE)
            return codes

    def _unproven(self, block: bytes, lines: list[bytes], structs: list[Any], codes: Any) -> set[int]:
        """The places of lines whose result could be another: a field may be given twice, or by a name with dots or escapes."""
        unproven = {at for at, line in enumerate(lines) if b"\\u00" in line} if b"\\" in block and _has_escaped_ascii(block) else set()
        depends = [terminal.depends for terminal in self.terminals]
        counts = np.bincount(codes, minlength=len(depends))
        present = np.flatnonzero(counts).tolist()
        for place in sorted({place for code in present for place in depends[code]}):
            token, depending = self.tokens[place], [code for code in present if place in depends[code]]
            if counts[depending].sum() > len(lines) * (_BY_PAIRS if token.pairs else _BY_WORDS) and token.is_explained(block, structs):
                continue
            listed = np.zeros(len(depends), dtype=bool)
            listed[depending] = True
            for at in np.flatnonzero(listed[codes]).tolist():
                if at not in unproven and not token.is_explained_by(lines[at], structs[at]) and not self._is_canonical(lines[at]):
                    unproven.add(at)
        return unproven

    def _is_canonical(self, line: bytes) -> bool:
        """True where the line is exactly what its dictionary is written as: no key was given twice, and none on a path has dots."""
        try:
            compact = line.rstrip() if b": " not in line else msgspec.json.format(line, indent=-1)
            return orjson.dumps(orjson.loads(compact)) == compact and not self._dotted(compact)
        except (orjson.JSONDecodeError, msgspec.MsgspecError, RecursionError):
            return False

    def _dotted(self, line: bytes) -> bool:
        return any(b"." + part.encode() + b'"' in line for path in self.paths for part in path.split(".")[1:])

    def _exactly(self, lines: Iterable[bytes], known: Terminal = NOTHING) -> None:
        """Count lines with the exact matcher; `known` is what the tree has settled, all but the hard patterns."""
        tally, numbers = self.tally, range(len(self.patterns)) if known is NOTHING else self.hard
        for line in (one for whole in filter(None, (line.strip(_SPACE) for line in lines)) for one in events_in(whole)):
            tally.exact += 1
            try:
                matched = tuple(sorted([*known.matched, *(number for number in numbers if matches(self.patterns[number].text, line))]))
            except InvalidEvent as error:
                tally.bad += 1
                if len(tally.bad_lines) < self.keep_bad:
                    tally.bad_lines.append((line[:200].decode(errors="replace"), str(error)))
                continue
            tally.outcomes[matched] += 1
            tally.rejected.update(known.lost)
            tally.rejected.update((number, self._lost_at(self.patterns[number], line)) for number in numbers if number not in matched)
            if matched and self.keep and len(kept := tally.kept.setdefault(matched, [])) < self.keep:
                kept.append(line)

    def _lost_at(self, pattern: Pattern, line: bytes) -> str:
        """The field, in the tree's order, at which the last alternative of a pattern rejects the event."""
        try:
            failing = [(at for at, path in enumerate(self.order) if path in one and not matches(_written(path, one[path]), line)) for one in pattern.alternatives]
            last = max((next(places, len(self.order)) for places in failing), default=len(self.order))
        except InvalidPattern:  # a field alone is refused where it is the engine's own word, such as $or
            return COMBINATION
        return self.order[last] if last < len(self.order) else COMBINATION


class _Token:
    """The end of a field's name with its closing quote, looked for in lines to find the name where it is not explained."""

    def __init__(self, path: str, attribute: str) -> None:
        self.token = path.rpartition(".")[2].encode() + b'"'
        self.get = operator.attrgetter(attribute)
        self.having: Callable[[list[Any]], int] = eval(f"lambda structs: len([1 for s in structs if s.{attribute} is not UNSET])", {"UNSET": UNSET})
        self.pairs: list[bytes] | None = [self.token[at : at + 2] for at in range(len(self.token) - 1)]

    def is_explained(self, block: bytes, structs: list[Any]) -> bool:
        """True where the name occurs in the block once for each event that has the field, hence once in each, and nowhere else."""
        has = self._having(structs)
        if self.pairs:  # two of its bytes are found faster; where they occur just as often, so does the name
            self.pairs = self.pairs if len(self.pairs) == 1 else [min(self.pairs, key=lambda pair: _count(block, pair))]
            if _count(block, self.pairs[0]) == has:
                return True
            self.pairs = None
        return _count(block, self.token) == has

    def is_explained_by(self, line: bytes, struct: Any) -> bool:
        """`is_explained` for one event."""
        try:
            return line.count(self.token) == (self.get(struct) is not UNSET)
        except AttributeError:
            return False

    def _having(self, structs: list[Any]) -> int:
        try:
            return self.having(structs)
        except AttributeError:
            return -1


def _count(block: bytes, token: bytes) -> int:
    """How often two bytes, or the last eight of three or more, occur (at least): several times faster than `bytes.count`."""
    token = token[-8:]
    width = 2 if len(token) < 4 else 4
    first, last = (np.frombuffer(part, f"<u{width}")[0] for part in (token[:width], token[-width:]))
    total = 0
    for shift in range(width):
        words = _words(block, shift, width)
        found = words == first
        if len(token) > width:
            ends = _words(block, shift + len(token) - width, width) == last
            found = found[: len(ends)]
            found &= ends[: len(found)]
        total += int(np.count_nonzero(found))
    return total


def _words(block: bytes, shift: int, width: int) -> Any:
    return np.frombuffer(block, f"<u{width}", max(0, (len(block) - shift) // width), shift) if len(block) - shift >= width else np.empty(0, f"<u{width}")


def _is_plain(block: bytes, longest: int) -> bool:
    """True where the text is UTF-8 and within the limits of AWS's parser: msgspec does not look into fields that it skips.

    `longest` is the length of the block's longest line, in bytes.
    """
    if longest > MAX_NAME or not (block.isascii() or _is_utf8(block)):
        return False
    if _DEEPER and longest > 2 * MAX_DEPTH and block.count(b"{") + block.count(b"[") > MAX_DEPTH:
        return False
    if longest <= MAX_NUMBER:
        return True
    sample = _IS_NUMBER[np.frombuffer(block, np.uint8)[::100]].tobytes()
    return b"\x01" * (MAX_NUMBER // 100 - 1) not in sample  # a number that is too long would be at ten of these places


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_escaped_ascii(block: bytes) -> bool:
    data = np.frombuffer(block + b"\n\n\n", np.uint8)
    at = np.flatnonzero(data == ord("\\"))
    return bool(((data[at + 1] == ord("u")) & (data[at + 2] == ord("0")) & (data[at + 3] == ord("0"))).any())


def _hard(patterns: Sequence[Pattern]) -> list[int]:
    """The patterns that the tree cannot decide: their names are not plain, a path goes through the end of another one (also of
    an earlier pattern), or `_is_conjunction` does not hold."""
    hard, ends, within = [], set[str](), set[str]()
    for number, pattern in enumerate(patterns):
        paths = {path for one in pattern.alternatives for path in one}
        through = {path[:at] for path in paths for at, char in enumerate(path) if char == "."}
        plain = all(_NAME.fullmatch(name) for path in paths for name in path.split("."))
        if plain and not (ends | paths) & (within | through) and _is_conjunction(pattern):
            ends |= paths
            within |= through
        else:
            hard.append(number)
    return hard


def _struct(paths: list[str]) -> tuple[type[msgspec.Struct], list[str]]:
    """A Struct with nothing but the paths, and the attribute (`f1.f0`) at which each path is found."""
    tree: dict[str, Any] = {}
    for path in paths:
        *parents, leaf = path.split(".")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = None
    attributes = []
    for path in paths:
        node, found = tree, []
        for name in path.split("."):
            found.append(f"f{list(node).index(name)}")
            node = node[name]
        attributes.append(".".join(found))
    return _struct_of(tree), attributes


def _struct_of(tree: Mapping[str, Any]) -> type[msgspec.Struct]:
    fields = []
    for at, (name, inner) in enumerate(tree.items()):
        if inner is None:
            fields.append((f"f{at}", _SCALAR, msgspec.field(default=UNSET, name=name)))
        else:
            struct = _struct_of(inner)
            fields.append((f"f{at}", struct | str | int | float | bool | None, msgspec.field(default=struct(), name=name)))
    return msgspec.defstruct("Event", fields, frozen=True, gc=False)


def _passes(tests: tuple[Test, ...], value: Any) -> bool:
    """True where a field of this value (bytes: as it is written) passes any of the tests, as the exact matcher says."""
    event = b'{"other":1}' if value is UNSET else b'{"field":' + (value if type(value) is bytes else orjson.dumps(value)) + b"}"
    return matches(_written("field", tests), event)


def _listed(tests: tuple[Test, ...]) -> frozenset[str] | None:
    """The strings that pass, where the tests are nothing but a list of ASCII strings; else None."""
    plain = all(test.kind == "exact" and isinstance(test.value, str) and test.value.isascii() for test in tests)
    return frozenset(test.value for test in tests) if plain else None


def _ranges(tests: tuple[Test, ...]) -> list[list[tuple[Callable[[Any, Any], bool], float]]] | None:
    """The comparisons that a number must pass, all of any list, where the tests are nothing but comparisons; else None.

    An integer that a double holds compares with doubles as in the engine; nearly every event has a new one.
    """
    if any(test.kind != "numeric" for test in tests):
        return None
    return [[(_COMPARE[sign], float(literal)) for sign, literal in test.value] for test in tests]


def _written(path: str, tests: tuple[Test, ...]) -> str:
    """The pattern of one field."""
    return f"{{{orjson.dumps(path).decode()}:[{','.join(test.source for test in tests)}]}}"


def _is_conjunction(pattern: Pattern) -> bool:
    """True where a pattern is its fields' tests and nothing else: the engine does not fail on it, EventBridge does not refuse
    it as too complex, and no two alternatives begin with the same path, which would change each other."""
    firsts = [min(one, key=lambda path: path.encode("utf-16-be", "surrogatepass")) for one in pattern.alternatives]
    try:
        parse(pattern.text)
        matches(pattern.text, b'{"other":1}')
        for path, tests in (item for one in pattern.alternatives for item in one.items()):
            parse(_written(path, tests))
    except (InvalidPattern, InvalidEvent):
        return False
    return len(set(firsts)) == len(firsts)
