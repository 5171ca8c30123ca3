"""What input transformers send, against recorded and derived cases and for any template and event."""

import datetime
import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.eventbridge.events import InvalidEvent
from helpers.eventbridge.paths import MISSING, find
from helpers.eventbridge.transformers import InvalidTemplate, NotDelivered, render, target_input

EVENT = {
    "version": "0",
    "id": "e1",
    "detail-type": "T",
    "source": "s",
    "account": "1",
    "time": "2026-01-01T00:00:00Z",
    "region": "r",
    "resources": ["arn"],
}
RULE = {
    "rule_name": "example",
    "rule_arn": "arn:aws:events:us-east-2:123456789012:rule/example",
    "ingestion_time": "2026-01-01T00:00:01Z",
}


def sent(template, detail=None, paths=None, **others):
    """The output for an event with this detail; without `paths` each field of it has a path of its name."""
    detail = detail or {}
    paths = {name: f"$.detail.{name}" for name in detail} if paths is None else paths
    return render(paths, template, {**EVENT, "detail": detail}, **{**RULE, **others})


def is_right(case):
    try:
        output = render(
            case["InputPathsMap"], case["InputTemplate"], case["event"], rule_name=case["rule_name"], rule_arn=case["rule_arn"], ingestion_time=case["ingestion_time"]
        )  # fmt: skip
    except NotDelivered:
        return case.get("delivered") is False
    except InvalidTemplate as error:
        return case.get("put_error") == error.what
    return json.loads(output) == case["json"] if "json" in case else output == case.get("text")


def test_our_own_cases_are_sent_as_expected(own):
    assert len(own("transformers")) == 9
    assert [case["InputTemplate"] for case in own("transformers") if not is_right(case)] == []


def test_the_recorded_cases_are_sent_as_on_aws(recorded):
    assert [case["InputTemplate"] for case in recorded("transformers") if not is_right(case)] == []


def test_json_is_minified_and_its_strings_are_kept():
    assert (
        sent('{ "a b" : [ 1 , "x  y \\" z" ] ,\n "v":\t<v> }', {"v": {"k": [1, None]}})
        == '{"a b":[1,"x  y \\" z"],"v":{"k":[1,null]}}'
    )


def test_characters_outside_of_ascii_are_sent_as_they_are():
    assert sent('{"v": <v>, "w": "完了 <v>"}', {"v": "é✓"}) == '{"v":"é✓","w":"完了 é✓"}'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (5, "5"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        ("", ""),
        ({"a": "x y"}, "{a:x y}"),
        (["A", 1], "[A,1]"),
        ([], "[]"),
    ],
)
def test_a_value_inside_a_text_has_no_quotes_of_its_own(value, shown):
    assert sent('"<v>!"', {"v": value}) == f'"{shown}!"'


def test_a_quote_in_a_value_leaves_a_text_as_it_is_and_stops_json():
    assert sent('"say <v>"', {"v": 'a "b"'}) == '"say a "b""'
    with pytest.raises(NotDelivered, match="write <v> outside of quotes") as caught:
        sent('{"say": "<v>", "w": "<w>"}', {"v": 'a "b"', "w": "fine"})
    assert caught.value.output == '{"say": "a "b"", "w": "fine"}'


@pytest.mark.parametrize("value", ["a\nb", "C:\\dir", 'say "hi"', "tab\t", {"a": 1}, ["x"]])
def test_a_value_that_breaks_a_string_of_json_is_safe_outside_of_quotes(value):
    with pytest.raises(NotDelivered):
        sent('{"v": "<v>"}', {"v": value})
    assert json.loads(sent('{"v": <v>}', {"v": value})) == {"v": value}


def test_a_template_of_one_placeholder_sends_the_value():
    assert sent("<v>", {"v": [1, 2]}) == "[1,2]"
    assert json.loads(sent("<aws.events.event.json>", {"v": 1})) == {**EVENT, "detail": {"v": 1}}


def test_a_text_without_quotes_is_not_sent():
    with pytest.raises(NotDelivered, match="Put the text in double quotes"):
        sent("<v> is new", {"v": "a"})


def test_reserved_variables_are_there_without_a_path():
    moment = datetime.datetime(2026, 1, 1, 9, tzinfo=datetime.timezone(datetime.timedelta(hours=9)))
    output = json.loads(
        sent(
            '{"n": <aws.events.rule-name>, "a": "<aws.events.rule-arn>", "t": <aws.events.event.ingestion-time>, "e": <aws.events.event>}',
            ingestion_time=moment,
        )
    )
    assert (output["n"], output["a"], output["t"]) == ("example", RULE["rule_arn"], "2026-01-01T00:00:00Z")
    assert list(output["e"]) == ["id", "account", "detailType", "time", "source", "region", "resources", "version"]


def test_an_unknown_placeholder_is_refused_with_the_message_of_aws_and_the_target():
    with pytest.raises(
        InvalidTemplate, match="^InputTemplate for target slack contains invalid placeholder nope. Remedy: Add nope"
    ):
        sent('"<nope>"', target="slack")


def test_a_slack_link_is_refused_as_it_is_a_placeholder():
    with pytest.raises(InvalidTemplate, match="invalid placeholder https://example.com\\|docs"):
        sent('{"text": "<https://example.com|docs>"}')


def test_a_lone_angle_bracket_is_text():
    assert sent('"1 < 2"') == '"1 < 2"'
    assert sent('"2 > 1"') == '"2 > 1"'


@pytest.mark.parametrize(
    "template", ['{"v": <v>', '{"v": "<v>}', '{"v": pre<v>}', "{<v>: 1}", '{"<v>": 1}', "[<v>,]", '{"v": NaN}', "[" * 5000]
)
def test_a_json_template_that_no_value_can_make_valid_is_refused(template):
    with pytest.raises(InvalidTemplate, match="^The InputTemplate of target <target-id> "):
        sent(template, {"v": 1})


@pytest.mark.parametrize(
    ("paths", "template"),
    [
        ({f"p{n}": "$.id" for n in range(101)}, '"x"'), ({"p": "$." + "a" * 255}, '"x"'), ({"a.b": "$.id"}, '"x"'), ({"": "$.id"}, '"x"'), ({"n" * 257: "$.id"}, '"x"'),
        ({"AWSid": "$.id"}, '"x"'), ({"aws.events.rule-name": "$.id"}, '"x"'), ({}, ""), ({}, '"' + "x" * 8191 + '"'),
    ],
)  # fmt: skip
def test_limits_and_names_are_checked_when_the_target_is_put(paths, template):
    with pytest.raises(InvalidTemplate) as caught:
        sent(template, paths=paths)
    assert caught.value.remedy


def test_what_is_at_its_limit_is_allowed():
    paths = {f"p{n}": "$." + "a" * 254 for n in range(99)} | {"n" * 256: "$.id"}
    assert sent('"' + "x" * 8190 + '"', paths=paths) == '"' + "x" * 8190 + '"'


@pytest.mark.parametrize(
    "event", ["", "{", "[1]", '"x"', b"\xff", '{"a": NaN}', {"a": float("inf")}, {"a": object()}, "[" * 100_000, None]
)
def test_what_is_no_event_is_refused(event):
    with pytest.raises(InvalidEvent):
        render({}, '"x"', event, **RULE)


def test_the_event_may_be_text_or_bytes():
    text = json.dumps({**EVENT, "detail": {"v": 1}})
    assert (
        render({"v": "$.detail.v"}, "[<v>]", text, **RULE) == render({"v": "$.detail.v"}, "[<v>]", text.encode(), **RULE) == "[1]"
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", "all"), ("$.a", [{"b": 1}, {"b": 2}, {}]), ("$.a[0]", {"b": 1}), ("$.a[1].b", 2), ("$.a[*].b", [1, 2]), ("$.a[9]", MISSING), ("$.x-y_z", "dash"),
        ("$.c.*", [[1], [2]]), ("$.c.*[0]", [1, 2]), ("$.c.d[0]", 1), ("$.nope", MISSING), ("$.nope[*].b", MISSING), ("$.a[2].b", MISSING), ("$.a[*].nope", []),
        ("$.e/f", "slash"), ("$.x-y_z.more", MISSING), ("$.a.b", MISSING), ("a", MISSING), ("$['a']", MISSING), ("$..b", MISSING), ("$.a[-1]", MISSING), ("$.", MISSING), ("", MISSING),
    ],
)  # fmt: skip
def test_a_path_finds_names_indexes_and_wildcards_and_nothing_else(path, value):
    event = {"a": [{"b": 1}, {"b": 2}, {}], "x-y_z": "dash", "c": {"d": [1], "e": [2]}, "e/f": "slash"}
    assert find(path, event) == (event if value == "all" else value)


def test_a_target_receives_its_input_its_part_its_transformers_output_or_the_event():
    event = {**EVENT, "detail": {"v": "x"}}
    assert target_input({"Id": "t", "Input": '{"a": 1}'}, event, **RULE) == '{"a": 1}'
    assert target_input({"Id": "t", "InputPath": "$.detail"}, event, **RULE) == '{"v":"x"}'
    assert (
        target_input(
            {"Id": "t", "InputTransformer": {"InputPathsMap": {"v": "$.detail.v"}, "InputTemplate": '"<v>"'}}, event, **RULE
        )
        == '"x"'
    )
    assert json.loads(target_input({"Id": "t"}, event, **RULE)) == event
    with pytest.raises(NotDelivered, match="nothing at the InputPath \\$.nope"):
        target_input({"Id": "t", "InputPath": "$.nope"}, event, **RULE)


def test_two_kinds_of_input_are_refused_with_the_message_of_aws():
    with pytest.raises(
        InvalidTemplate, match="^Only one of Input, InputPath, or InputTransformer must be provided for target t\\."
    ):
        target_input({"Id": "t", "Input": "{}", "InputPath": "$"}, EVENT, **RULE)


def test_an_input_that_is_no_json_is_refused_as_put_targets_refuses_it() -> None:
    with pytest.raises(InvalidTemplate, match="^Input for target t is not a valid JSON text\\. Remedy: Write JSON"):
        target_input({"Id": "t", "Input": "hello"}, EVENT, **RULE)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
text = st.text(string.ascii_letters + ' .,:"\\\n/<>{}[]é', max_size=30)
words = st.sampled_from(
    [
        "<v>",
        "<w>",
        '"',
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        '"k"',
        "\\",
        "<aws.events.event>",
        "<aws.events.event.json>",
        "<nope>",
        "<",
        ">",
        " ",
        "1",
        "null",
        "x",
    ]
)


@given(values)
def test_any_value_outside_of_quotes_arrives_as_it_is(value):
    assert json.loads(sent('{"v": <v>}', {"v": value})) == {"v": value}


@given(text)
def test_any_string_stands_in_a_text_as_it_is(value):
    assert sent('"a <v> b <v>"', {"v": value}) == f'"a {value} b {value}"'


@given(text)
def test_a_string_in_quotes_of_json_arrives_as_it_is_or_not_at_all_unless_it_is_read_as_json(value):
    try:
        output = json.loads(sent('{"v": "<v>"}', {"v": value}))
    except NotDelivered:
        assert set('"\\\n') & set(value)
        return
    assert output == {"v": value} or set('"\\') & set(value)


@settings(max_examples=300, deadline=None)
@given(st.lists(words, max_size=12).map("".join) | text, values, values)
def test_nothing_but_the_named_errors_is_raised_and_what_is_sent_is_json_or_quoted_text(template, first, second):
    try:
        output = sent(template, {"v": first, "w": second})
    except (InvalidTemplate, NotDelivered):
        return
    if output.lstrip().startswith('"'):
        return
    json.loads(output)
