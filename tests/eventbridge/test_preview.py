"""The preview of an input transformer: the output, its proof, and the values that would break it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.eventbridge.preview import AROUND, preview
from helpers.eventbridge.transformers import InvalidTemplate

EVENT = {"region": "eu-west-1", "detail": {"name": "main", "size": 5, "tags": ["a", "b"]}}
PATHS = {"name": "$.detail.name", "size": "$.detail.size", "tags": "$.detail.tags", "region": "$.region"}


def test_json_is_read_back_as_proof():
    shown = preview(PATHS, '{"n": "<name>", "s": <size>, "t": <tags>, "r": <region>}', EVENT)
    assert shown.delivered == "JSON"
    assert json.loads(shown.output) == {"n": "main", "s": 5, "t": ["a", "b"], "r": "eu-west-1"}
    assert shown.proof == "Read back as JSON it is an object with 4 keys, 48 bytes."
    assert '"n": "main"' in shown.pretty
    assert shown.notes == ()


def test_each_placeholder_is_listed_with_its_path_its_value_and_where_it_stands():
    table = preview(
        PATHS, '{"a": "<name> <name>", "b": <name>, "rule": "<aws.events.rule-name>", "c": "<size>,<region>"}', EVENT
    ).values
    assert list(table.itertuples(index=False, name=None)) == [
        ("<name>", "$.detail.name", '"main"', "in a string"),
        ("<name>", "$.detail.name", '"main"', "as JSON"),
        ("<aws.events.rule-name>", "reserved", '"example"', "in a string"),
        ("<size>", "$.detail.size", "5", "in a string"),
        ("<region>", "$.region", '"eu-west-1"', "in a string"),
    ]


def test_only_fields_in_strings_that_can_hold_such_characters_are_risks():
    risks = preview(PATHS, '{"a": "<name>", "b": <tags>, "c": "<region>", "d": "<aws.events.rule-name>"}', EVENT).risks
    assert list(risks["placeholder"]) == ["<name>"]
    assert list(risks.columns) == ["placeholder", "path", "a quote", "a newline", "a backslash"]
    assert risks.iloc[0]["a quote"].startswith('nothing is sent: {"a": "main"", "b": ["a"')
    assert risks.iloc[0]["a newline"].startswith('nothing is sent: {"a": "main⏎"')


def test_a_template_without_fields_in_strings_has_no_risks():
    assert preview(PATHS, '{"a": <name>, "t": <tags>}', EVENT).risks.empty


def test_a_text_says_that_a_quote_is_sent_with_it_and_whether_it_is_json():
    shown = preview(PATHS, '"<name> is new"', EVENT)
    assert (shown.output, shown.delivered) == ('"main is new"', "text")
    assert shown.proof.endswith("read back as JSON it is one string.")
    assert shown.risks.iloc[0]["a quote"] == 'sent with it: "main" is new"'
    quoted = preview(PATHS, '"<name> is new"', {"detail": {"name": 'a"b'}})
    assert "a target that parses JSON, such as Lambda, cannot read it" in quoted.proof


def test_what_is_not_sent_is_shown_with_the_reason_and_what_it_became():
    shown = preview(PATHS, '{"tags": "<tags>"}', EVENT)
    assert (shown.output, shown.delivered, shown.broken) == (None, "nothing", '{"tags": "["a","b"]"}')
    assert "write <tags> outside of quotes" in shown.proof
    assert shown.pretty == shown.broken


def test_the_trial_of_one_field_is_not_spoiled_by_another_that_breaks_the_output():
    risks = preview({"a": "$.a", "b": "$.b"}, '{"a": "<a>", "b": "<b>"}', {"a": "x", "b": 'y"'}).risks
    assert risks.iloc[0]["a quote"] == 'nothing is sent: {"a": "x"", "b": ""}'


def test_notes_name_missing_fields_unused_paths_and_paths_outside_of_the_syntax():
    shown = preview({"gone": "$.detail.gone", "idle": "$.id", "odd": "$['detail']"}, '{"a": <gone>, "b": <odd>}', EVENT)
    assert shown.notes == (
        "The event has nothing at $.detail.gone: <gone> becomes an empty string.",
        "idle is an input path that the template does not use.",
        "$['detail'] is outside of the JSONPath that EventBridge documents (names after dots, [0], *): <odd> may stay empty.",
    )


def test_a_value_that_adds_json_of_its_own_is_named():
    shown = preview(PATHS, '{"a": "<name>"}', {"detail": {"name": 'x", "admin": "yes'}})
    assert json.loads(shown.output) == {"a": "x", "admin": "yes"}
    assert "The value of <name> ends its string early and adds JSON of its own." in shown.notes


def test_a_transformer_that_could_not_be_put_is_refused():
    with pytest.raises(InvalidTemplate, match="for target t1 contains invalid placeholder nope"):
        preview({}, '"<nope>"', EVENT, target="t1")
    with pytest.raises(InvalidTemplate, match="The input path of n is not a text"):
        preview({"n": None}, '"<n>"', EVENT)


def test_a_long_value_does_not_hide_what_breaks_the_output():
    shown = preview(PATHS, '{"a": "<name>"}', {"detail": {"name": "x" * 500}})
    assert shown.risks.iloc[0]["a quote"] == f'nothing is sent: {"x" * (2 * AROUND - 1)}""}}'
    assert len(shown.values.iloc[0]["value"]) == 80


def test_it_reads_as_text_and_as_html_without_markup_from_the_event():
    shown = preview(PATHS, '"<name>"', {"detail": {"name": "<script>"}})
    assert 'a quote: sent with it: "<script>""' in str(shown)
    assert "Delivered: text." in str(shown) and '"<script>"' in str(shown)
    assert "<script>" not in shown._repr_html_() and "&lt;script&gt;" in shown._repr_html_()


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20), st.sampled_from(['{"a": "<name>"}', '"<name>"', "<name>", '[<name>, "<name>"]']))
def test_every_event_has_a_preview_that_reads_as_text_and_html(name, template):
    shown = preview(PATHS, template, {"detail": {"name": name}})
    assert (shown.output is None) == (shown.delivered == "nothing")
    assert str(shown) and shown._repr_html_()
