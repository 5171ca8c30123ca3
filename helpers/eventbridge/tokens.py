"""JSON tokens one at a time, as AWS's parser takes them: its leniency, its limits and its messages.

AWS reads patterns and events with Jackson (https://github.com/FasterXML/jackson-core), which stops behind the closing brace,
keeps number literals as written, and reads the string after a field name only when it is asked for. A fault of the JSON
is therefore found before or after a fault of the pattern, whichever comes first in the text.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MAX_DEPTH = 1_000  # Jackson's StreamReadConstraints, as are the next two
MAX_NUMBER = 1_000  # characters
MAX_NAME = 50_000  # characters
MAX_TOKEN = 256  # characters of a word that a message quotes
SHOWN = 500  # characters of the source that a message quotes

OBJECT, END_OBJECT, ARRAY, END_ARRAY = "{", "}", "[", "]"
NAME, STRING, NUMBER, TRUE, FALSE, NULL, END = "name", "string", "number", "true", "false", "null", "end"

_TYPES = {OBJECT: "Object", ARRAY: "Array"}
_CLOSES = {OBJECT: END_OBJECT, ARRAY: END_ARRAY}
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_EXPECTED = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_SPACE = re.compile(r"[ \t\r\n]*")
_DIGITS = re.compile(r"[0-9]*")
_OPTION = "enable `JsonReadFeature.{}` to allow"


class BadJson(ValueError):
    """The text is not JSON; the message is the one of AWS's parser, without the place that it appends."""


@dataclass(frozen=True)
class _Open:
    """An object or array that is still open, and where it starts."""

    kind: str
    start: int


class Tokens:
    """The tokens of a JSON text: `advance()` gives the next one's kind, `text` its text."""

    def __init__(self, source: str) -> None:
        self.source, self.at, self.kind = source, 0, END
        self._open: list[_Open] = []
        self._first = False  # no comma is due: the object or array has just been opened
        self._text = ""
        self._string_at = -1  # where a string starts that nobody has read yet
        self._next: str | None = None  # the value behind a field name, recognised along with it, and its text
        self._next_text = ""

    @property
    def text(self) -> str:
        """A string's value, a number's literal, a name, or the token as it is written."""
        if self._string_at >= 0:
            self.at, self._string_at = self._string_at, -1
            self._text = self._string(
                "string value", "Unexpected end-of-input: was expecting closing quote for a string value"
            )
        return self._text

    def advance(self) -> str:
        """The kind of the next token; `END` behind the last one. Raises `BadJson`."""
        if self._string_at >= 0:
            _ = self.text
        if self._next is not None:
            kind, self._next = self._next, None
            self._enter(kind)
        else:
            kind = self._scan()
        self.kind = kind
        return kind

    def _scan(self) -> str:
        self._skip_space()
        if self.at >= len(self.source):
            return self._end()
        char = self.source[self.at]
        if char in "}]":
            return self._close(char)
        if self._open and not self._first:
            if char != ",":
                raise BadJson(
                    f"Unexpected character ({_described(char)}): was expecting comma to separate {_TYPES[self._open[-1].kind]} entries"
                )
            self.at += 1
            self._skip_space(within=True)
            char = self.source[self.at]
        self._first = False
        if self._open and self._open[-1].kind == OBJECT:
            return self._name(char)
        kind = self._value(char)
        self._enter(kind)
        return kind

    def _end(self) -> str:
        if self._open:
            last = self._open[-1]
            raise BadJson(
                f"Unexpected end-of-input: expected close marker for {_TYPES[last.kind]} (start marker at {self._place(last.start)})"
            )
        return END

    def _close(self, char: str) -> str:
        if not self._open:
            raise BadJson(f"Unexpected close marker '{char}': no open {_TYPES[OBJECT if char == END_OBJECT else ARRAY]} to close")
        last = self._open[-1]
        if _CLOSES[last.kind] != char:
            wanted = f"expected '{_CLOSES[last.kind]}' (for {_TYPES[last.kind]} starting at {self._place(last.start)})"
            raise BadJson(f"Unexpected close marker '{char}': {wanted}")
        self._open.pop()
        self._first, self._text = False, char
        self.at += 1
        return char

    def _name(self, char: str) -> str:
        if char != '"':
            raise BadJson(f"Unexpected character ({_described(char)}): was expecting double-quote to start field name")
        self.at += 1
        name = self._string("name", "Unexpected end-of-input in field name")
        if len(name) > MAX_NAME:
            raise BadJson(
                f"Name length ({len(name)}) exceeds the maximum allowed ({MAX_NAME}, from `StreamReadConstraints.getMaxNameLength()`)"
            )
        self._skip_space(within=True)
        char = self.source[self.at]
        if char != ":":
            raise BadJson(
                f"Unexpected character ({_described(char)}): was expecting a colon to separate field name and value"
            )
        self.at += 1
        self._skip_space(within=True)
        self._next = self._value(self.source[self.at])
        self._next_text, self._text = self._text, name
        return NAME

    def _enter(self, kind: str) -> None:
        """Make a recognised value the current token."""
        if self.kind == NAME:
            self._text = self._next_text
        if kind == STRING:
            self._string_at = self.at
        elif kind in (OBJECT, ARRAY):
            self._open.append(_Open(kind, self.at - 1))
            self._first = True
            if len(self._open) > MAX_DEPTH:
                depth = f"Document nesting depth ({len(self._open)}) exceeds the maximum allowed"
                raise BadJson(f"{depth} ({MAX_DEPTH}, from `StreamReadConstraints.getMaxNestingDepth()`)")

    def _value(self, char: str) -> str:
        if char in "{[":
            self._text, self.at = char, self.at + 1
            return char
        if char == '"':
            self.at += 1
            return STRING
        if char == "}":
            raise BadJson(f"Unexpected character ({_described(char)}): expected a value")
        if char in "-0123456789":
            self._text = self._number()
            return NUMBER
        for word in (TRUE, FALSE, NULL):
            if char == word[0]:
                return self._word(word)
        raise BadJson(self._odd_value(char))

    def _word(self, word: str) -> str:
        end = self.at + len(word)
        if self._is_word(word, self.at):
            self._text, self.at = word, end
            return word
        raise BadJson(f"Unrecognized token '{self._identifier(self.at)}': was expecting {_EXPECTED}")

    def _is_word(self, word: str, at: int) -> bool:
        """True where the word stands there and ends there; a `$` ends it, as any character below `0` does."""
        after = self.source[at + len(word) : at + len(word) + 1]
        return self.source.startswith(word, at) and (after < "0" or not _is_identifier(after))

    def _number(self) -> str:
        source, start = self.source, self.at
        at = start + (source[start] == "-")
        self._sign(start, at)
        whole = at
        at = _DIGITS.match(source, at).end()
        if source[whole] == "0" and at > whole + 1:
            raise BadJson("Invalid numeric value: Leading zeroes not allowed")
        digits = at - whole
        if source.startswith(".", at):
            fraction = _DIGITS.match(source, at + 1).end()
            if fraction == at + 1:
                after = source[fraction] if fraction < len(source) else "."
                raise BadJson(
                    f"Unexpected character ({_described(after)}) in numeric value: Decimal point not followed by a digit"
                )
            digits, at = digits + fraction - at - 1, fraction
        if source[at : at + 1] in ("e", "E"):
            sign = at + 1 + (source[at + 1 : at + 2] in ("+", "-") and at + 1 < len(source))
            if sign >= len(source):
                raise BadJson("Unexpected end-of-inputexpected a digit for number exponent")
            exponent = _DIGITS.match(source, sign).end()
            if exponent == sign:
                raise BadJson(
                    f"Unexpected character ({_described(source[sign])}) in numeric value: Exponent indicator not followed by a digit"
                )
            digits, at = digits + exponent - sign, exponent
        if digits > MAX_NUMBER:
            length = f"Number value length ({digits}) exceeds the maximum allowed"
            raise BadJson(f"{length} ({MAX_NUMBER}, from `StreamReadConstraints.getMaxNumberLength()`)")
        if not self._open and at < len(source) and source[at] not in " \t\r\n":
            raise BadJson(
                f"Unexpected character ({_described(source[at])}): Expected space separating root-level values"
            )
        self.at = at
        return source[start:at]

    def _sign(self, start: int, at: int) -> None:
        """Raise where no digit follows a minus sign."""
        if at == start:
            return
        if at >= len(self.source):
            raise BadJson("Unexpected end-of-inputNo digit following sign")
        char = self.source[at]
        if char == ".":
            raise BadJson(f"Unexpected character ('.' (code 46)): expected a valid value {_EXPECTED}")
        if not ("0" <= char <= "9"):
            char = self._infinity(at, "-")
            follow = "expected digit (0-9) to follow minus sign, for valid numeric value"
            raise BadJson(f"Unexpected character ({_described(char)}) in numeric value: {follow}")

    def _infinity(self, at: int, sign: str) -> str:
        """The character behind a sign that a message names: of an `I`, the one behind it. Raise where it begins INF or Infinity."""
        char = self.source[at]
        if char != "I":
            return char
        if at + 1 >= len(self.source):
            raise BadJson("Unexpected end-of-input in a Number value")
        char = self.source[at + 1]
        for word in ("INF", "Infinity"):
            if char == word[1] and self._is_word(word, at):
                raise BadJson(f"Non-standard token '{sign}{word}': {_OPTION.format('ALLOW_NON_NUMERIC_NUMBERS')}")
            if char == word[1]:
                raise BadJson(f"Unrecognized token '{self._identifier(at, sign)}': was expecting {_EXPECTED}")
        return char

    def _odd_value(self, char: str) -> str:
        """The message for a character that starts no JSON value."""
        for word in ("NaN", "Infinity"):
            if self._is_word(word, self.at):
                return f"Non-standard token '{word}': {_OPTION.format('ALLOW_NON_NUMERIC_NUMBERS')}"
        if char == "+":
            if self.at + 1 >= len(self.source):
                return "Unexpected end-of-input in a Number value"
            self._infinity(self.at + 1, "+")
            plus = _OPTION.format("ALLOW_LEADING_PLUS_SIGN_FOR_NUMBERS")
            return f"Unexpected character ('+' (code 43)) in numeric value: JSON spec does not allow numbers to have plus signs: {plus}"
        if _is_identifier(char, first=True):
            return f"Unrecognized token '{self._identifier(self.at)}': was expecting {_EXPECTED}"
        return f"Unexpected character ({_described(char)}): expected a valid value {_EXPECTED}"

    def _identifier(self, at: int, sign: str = "") -> str:
        """The word that stands there, as a message quotes it."""
        end = at
        while end < len(self.source) and end - at <= MAX_TOKEN and _is_identifier(self.source[end]):
            end += 1
        word = sign + self.source[at:end]
        return word if len(word) < MAX_TOKEN else f"{word[:MAX_TOKEN]}..."

    def _string(self, what: str, at_end: str) -> str:
        """The rest of a string, whose opening quote has been read."""
        parts: list[str] = []
        while True:
            plain = _PLAIN.match(self.source, self.at)
            parts.append(plain.group())
            self.at = plain.end()
            if self.at >= len(self.source):
                raise BadJson(at_end)
            char = self.source[self.at]
            self.at += 1
            if char == '"':
                return _joined("".join(parts))
            if char != "\\":
                code = f"(CTRL-CHAR, code {ord(char)})"
                raise BadJson(
                    f"Illegal unquoted character ({code}): has to be escaped using backslash to be included in {what}"
                )
            parts.append(self._escape())

    def _escape(self) -> str:
        if self.at >= len(self.source):
            raise BadJson("Unexpected end-of-input in character escape sequence")
        char = self.source[self.at]
        self.at += 1
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char != "u":
            raise BadJson(f"Unrecognized character escape {_described(char)}")
        code = 0
        for _ in range(4):
            if self.at >= len(self.source):
                raise BadJson("Unexpected end-of-input in character escape sequence")
            digit = self.source[self.at]
            if digit not in "0123456789abcdefABCDEF":
                raise BadJson(
                    f"Unexpected character ({_described(digit)}): expected a hex-digit for character escape sequence"
                )
            code, self.at = code * 16 + int(digit, 16), self.at + 1
        return chr(code)

    def _skip_space(self, within: bool = False) -> None:
        """Go to the next character that is no white space; `within` says that the text must not end here."""
        self.at = _SPACE.match(self.source, self.at).end()
        if self.at >= len(self.source):
            if within:
                raise BadJson(f"Unexpected end-of-input within/between {_TYPES[self._open[-1].kind]} entries")
            return
        char = self.source[self.at]
        if char < " ":
            only = "only regular white space (\\r, \\n, \\t) is allowed between tokens"
            raise BadJson(f"Illegal character ((CTRL-CHAR, code {ord(char)})): {only}")
        if char == "/":
            comment = "maybe a (non-standard) comment? (not recognized as one since Feature 'ALLOW_COMMENTS' not enabled for parser)"
            raise BadJson(f"Unexpected character ('/' (code 47)): {comment}")

    def _place(self, at: int) -> str:
        """The place of a character as Jackson writes it, counted in UTF-16 units."""
        before = self.source[:at].replace("\r\n", "\n").replace("\r", "\n")
        line, column = before.count("\n") + 1, _units(before[before.rfind("\n") + 1 :]) + 1
        total = _units(self.source)
        shown = "".join(
            f"\\u{ord(char):04X}" if _is_control(char) and char not in "\r\n" else char for char in _first_units(self.source, SHOWN)
        )
        rest = f"[truncated {total - SHOWN} chars]" if total > SHOWN else ""
        return f'[Source: (String)"{shown}"{rest}; line: {line}, column: {column}]'


def _is_control(char: str) -> bool:
    return char < " " or "\x7f" <= char <= "\x9f"


def _units(text: str) -> int:
    return len(text) + sum(char > "\uffff" for char in text)


def _first_units(text: str, count: int) -> str:
    """As much of a text as Java counts for so many characters: half of the last one, where that is a pair."""
    head = text[:count]
    return head if _units(head) == len(head) else head.encode("utf-16-le", "surrogatepass")[: 2 * count].decode("utf-16-le", "surrogatepass")


def _is_identifier(char: str, first: bool = False) -> bool:
    """True of what Java lets stand within a name, or at its start: letters, currencies and connectors; within it also digits,
    marks and some control characters. Java reads UTF-16 units, so no character beyond the basic plane is one."""
    if char > "\uffff":
        return False
    kind = unicodedata.category(char)
    if kind[0] == "L" or kind in ("Nl", "Sc", "Pc"):
        return True
    return not first and (
        kind in ("Nd", "Mn", "Mc", "Cf") or (_is_control(char) and not ("\t" <= char <= "\r" or "\x1c" <= char <= "\x1f"))
    )


def _joined(text: str) -> str:
    """Two escaped surrogates that make one character, joined to it."""
    return (
        text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if re.search("[\ud800-\udbff][\udc00-\udfff]", text)
        else text
    )


def _described(char: str) -> str:
    """A character as Jackson describes it; of a character beyond the basic plane, its first UTF-16 unit."""
    code = ord(char)
    if code > 0xFFFF:
        code = 0xD800 + ((code - 0x10000) >> 10)
        char = chr(code)
    if _is_control(char):
        return f"(CTRL-CHAR, code {code})"
    return f"'{char}' (code {code} / 0x{code:x})" if code > 0xFF else f"'{char}' (code {code})"
