"""The JSON of patterns and events: AWS's parser's leniency, limits and texts."""

from __future__ import annotations

import pytest

from helpers.eventbridge.tokens import END, BadJson, Tokens


def read(text: str) -> list[tuple[str, str]]:
    tokens, found = Tokens(text), []
    while (kind := tokens.advance()) != END:
        found.append((kind, tokens.text))
    return found


def test_tokens_keep_literals_and_unescape_strings() -> None:
    assert read('{"a\\u00e9": [1.50e+2, -0, "\\ud83d\\ude00\\n", true, null]}') == [
        ("{", "{"),
        ("name", "aé"),
        ("[", "["),
        ("number", "1.50e+2"),
        ("number", "-0"),
        ("string", "😀\n"),
        ("true", "true"),
        ("null", "null"),
        ("]", "]"),
        ("}", "}"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{",
            'Unexpected end-of-input: expected close marker for Object (start marker at [Source: (String)"{"; line: 1, column: 1])',
        ),
        (
            '{"a":[1}',
            "Unexpected close marker '}': expected ']' (for Array starting at [Source: (String)\"{\"a\":[1}\"; line: 1, column: 6])",
        ),
        (
            '{\n "a":[1\n}',
            "Unexpected close marker '}': expected ']' (for Array starting at [Source: (String)\"{\n \"a\":[1\n}\"; line: 2, column: 6])",
        ),
        ("{'a':1}", "Unexpected character (''' (code 39)): was expecting double-quote to start field name"),
        ('{"a" 1}', "Unexpected character ('1' (code 49)): was expecting a colon to separate field name and value"),
        ('{"a":1 "b":2}', "Unexpected character ('\"' (code 34)): was expecting comma to separate Object entries"),
        (
            '{"a":tru}',
            "Unrecognized token 'tru': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
        ),
        ("]", "Unexpected close marker ']': no open Array to close"),
        ("{}}", "Unexpected close marker '}': no open Object to close"),
        ("[-I", "Unexpected end-of-input in a Number value"),
        (
            "[-I1",
            "Unexpected character ('1' (code 49)) in numeric value: expected digit (0-9) to follow minus sign, for valid numeric value",
        ),
        (
            "[-Inf]",
            "Unrecognized token '-Inf': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
        ),
        ("[+INF]", "Non-standard token '+INF': enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow"),
        (
            '{"\x7f":5]',
            "Unexpected close marker ']': expected '}' (for Object starting at [Source: (String)\"{\"\\u007F\":5]\"; line: 1, column: 1])",
        ),
        (
            "[" + "x" * 300 + "]",
            f"Unrecognized token '{'x' * 256}...': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
        ),
        (
            '{"a":€5}',
            "Unrecognized token '€5': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
        ),
        (
            '{"a":tru𝐞}',
            "Unrecognized token 'tru': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
        ),
        ('{"a":01}', "Invalid numeric value: Leading zeroes not allowed"),
        ('{"a":1.}', "Unexpected character ('}' (code 125)) in numeric value: Decimal point not followed by a digit"),
        ('{"a":1e', "Unexpected end-of-inputexpected a digit for number exponent"),
        (
            '{"a":-x}',
            "Unexpected character ('x' (code 120)) in numeric value: expected digit (0-9) to follow minus sign, for valid numeric value",
        ),
        (
            '{"a":-Infinity}',
            "Non-standard token '-Infinity': enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow",
        ),
        ('{"a":"\\x"}', "Unrecognized character escape 'x' (code 120)"),
        (
            '{"a":"\n"}',
            "Illegal unquoted character ((CTRL-CHAR, code 10)): has to be escaped using backslash to be included in string value",
        ),
        ('{"a":"x', "Unexpected end-of-input: was expecting closing quote for a string value"),
        (
            '{"a":[1,]}',
            "Unexpected character (']' (code 93)): expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
        ),
        ('{"a":}', "Unexpected character ('}' (code 125)): expected a value"),
        (
            '{"a":\x01}',
            "Illegal character ((CTRL-CHAR, code 1)): only regular white space (\\r, \\n, \\t) is allowed between tokens",
        ),
        (
            '{"a":1\u2028}',
            "Unexpected character ('\u2028' (code 8232 / 0x2028)): was expecting comma to separate Object entries",
        ),
        (
            "[" * 1_001,
            "Document nesting depth (1001) exceeds the maximum allowed (1000, from `StreamReadConstraints.getMaxNestingDepth()`)",
        ),
        (
            "[1" + "0" * 1_000,
            "Number value length (1001) exceeds the maximum allowed (1000, from `StreamReadConstraints.getMaxNumberLength()`)",
        ),
    ],
)
def test_broken_json_gets_the_text_of_awss_parser(text: str, message: str) -> None:
    with pytest.raises(BadJson) as caught:
        read(text)
    assert str(caught.value) == message


def test_a_string_behind_a_name_is_read_only_when_asked_for_and_a_number_along_with_the_name() -> None:
    tokens = Tokens('{"a":"unfinished')
    assert [tokens.advance(), tokens.advance(), tokens.text, tokens.advance()] == ["{", "name", "a", "string"]
    tokens = Tokens('{"a":01}')
    tokens.advance()
    with pytest.raises(BadJson, match="Leading zeroes"):
        tokens.advance()


def test_a_long_source_is_quoted_in_part() -> None:
    with pytest.raises(BadJson, match=r"😀x{494}\":\"\[truncated 2 chars\]; line: 1, column: 1"):
        read('{"😀' + "x" * 494 + '":1]')
    with pytest.raises(BadJson, match=r"\[truncated 105 chars\]; line: 1, column: 1"):
        read('{"a":"' + "x" * 598 + '"')
