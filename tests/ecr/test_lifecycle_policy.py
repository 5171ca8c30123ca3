"""Policies: every fault is listed, in a sentence, and what AWS takes is taken."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.ecr import InvalidPolicy, parse_policy

SELECTION = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 5}
RULE = {"rulePriority": 1, "selection": SELECTION, "action": {"type": "expire"}}
AGED = {"tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 5}
TO_ARCHIVE = {"type": "transition", "targetStorageClass": "archive"}


def policy(selection: dict[str, Any] | None = None, action: Any = None, **rule: Any) -> dict[str, Any]:
    return {"rules": [{**RULE, "selection": {**SELECTION, **(selection or {})}, "action": action or {"type": "expire"}, **rule}]}


def faults(document: Any) -> str:
    with pytest.raises(InvalidPolicy) as refused:
        parse_policy(document)
    return " ".join(refused.value.faults)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("{", "no JSON: .* in line 1"),
        ("[]", "It is a list where an object"),
        ("null", "It is null"),
        ("[" * 100_000, "nested too deeply"),
        ('{"rules": ' + "1" * 5_000 + "}", "more digits than can be read"),
        ({}, "`rules` must be a list"),
        ({"rules": []}, "at least one rule"),
        ({"rules": [RULE], "version": 1}, "a key that ECR does not know: 'version'"),
        ({"rules": [3]}, "Rule number 1 in the list is a number"),
        ('{"rules": [], "rules": []}', "'rules' stands twice"),
        (policy(rulePriority=0), "`rulePriority` must be a whole number from 1, not 0"),
        (policy(rulePriority="1"), "`rulePriority` must be a whole number"),
        (policy(rulePriority=True), "not true"),
        (policy(description=None), "`description` must be text, not null"),
        (policy(comment="x"), "'comment'"),
        (policy(selection={"tagStatus": "TAGGED"}), "tagged, untagged or any, not \"TAGGED\""),
        (policy(selection={"tagPatternList": ["a"]}), "may only stand with tagStatus tagged, not any"),
        (policy(selection={"tagStatus": "tagged", "tagPatternList": []}), "a list of tags with at least one"),
        (policy(selection={"tagStatus": "tagged", "tagPatternList": [""]}), "a list of tags"),
        (policy(selection={"tagStatus": "tagged", "tagPatternList": "a*"}), "a list of tags"),
        (policy(selection={"tagStatus": "tagged", "tagPatternList": None}), "a list of tags"),
        (policy(selection={"countUnit": "days"}), "takes no countUnit"),
        (policy(selection={"countType": "sinceImagePushed", "countUnit": "hours"}), "needs days, not \"hours\""),
        (policy(selection={"countType": "age"}), "`countType` must be"),
        (policy(selection={"countNumber": -1}), "countNumber -1 is not accepted"),
        (policy(selection={"countNumber": 1.5}), "countNumber 1.5 is not accepted"),
        (policy(selection={"storageClass": "archive"}), "storageClass standard only"),
        (policy(selection={"storageClass": "glacier"}), "standard or archive"),
        (policy(selection={**AGED, "countType": "sinceImageTransitioned", "countNumber": 90}), "needs storageClass archive"),
        (policy(selection={**AGED, "countType": "sinceImageTransitioned", "countNumber": 89, "storageClass": "archive"}), "at least 90 days"),
        (policy(selection={**AGED, "countType": "sinceImageTransitioned", "countNumber": 90, "storageClass": "archive"}, action=TO_ARCHIVE), "in the archive already"),
        (policy(action={"type": "retain"}), "expire or transition"),
        (policy(action={"type": "transition"}), "needs targetStorageClass archive, not left out"),
        (policy(action={"type": "expire", "targetStorageClass": None}), "expire takes no targetStorageClass"),
        ({"rules": [{"rulePriority": 1}]}, "`selection` must be an object, not left out.*`action` must be an object"),
        ({"rules": [{**RULE, "rulePriority": 9 - place} for place in range(2)]}, "Only one any rule per storage class"),
        ({"rules": [{**RULE, "rulePriority": place + 1, "selection": {**SELECTION, "tagStatus": "tagged", "tagPatternList": [f"a{place}"]}} for place in range(51)]}, "51 rules, and 50"),
        (policy(description="x" * 31_000), "30,720 is the most"),
    ],
)  # fmt: skip
def test_a_fault_is_told(document, told):
    assert re.search(told, faults(document))


def test_every_fault_is_listed_at_once():
    wrong = policy(selection={"countNumber": 0, "tagStatus": "tagged"}, action={"type": "keep"}, rulePriority=-1)
    with pytest.raises(InvalidPolicy) as refused:
        parse_policy(wrong)
    assert len(refused.value.faults) == 4
    assert "4 faults" in str(refused.value) and refused.value.remedy


def test_two_rules_with_the_same_tags_are_refused_within_a_storage_class_only():
    tagged = {**AGED, "tagStatus": "tagged", "tagPatternList": ["a", "b"]}
    archived = {**tagged, "countType": "sinceImageTransitioned", "countNumber": 90, "storageClass": "archive"}
    again = {**RULE, "rulePriority": 2, "selection": {**tagged, "tagPatternList": ["b", "a"]}}
    first = {**RULE, "selection": tagged}
    assert "select the same tags, a, b" in faults({"rules": [first, again]})
    assert len(parse_policy({"rules": [first, {**again, "selection": archived}]}).rules) == 2


def test_any_is_last_within_its_storage_class_only():
    archive = {**AGED, "countType": "sinceImageTransitioned", "countNumber": 365, "storageClass": "archive"}
    later = {**RULE, "rulePriority": 2, "selection": archive}
    assert [rule.storage_class for rule in parse_policy({"rules": [RULE, later]}).rules] == ["standard", "archive"]
    assert "rule 1 comes before rule 2" in faults({"rules": [RULE, {**RULE, "rulePriority": 2, "selection": {**SELECTION, "tagStatus": "untagged"}}]})


def test_a_policy_is_shown_in_words_in_the_order_in_which_it_applies():
    rules = [{**RULE, "rulePriority": 90}, {**RULE, "rulePriority": 7, "description": "old builds", "selection": {**AGED, "tagStatus": "tagged", "tagPrefixList": ["ci-"]}}]
    table = parse_policy({"rules": rules}).table()
    assert table.values.tolist() == [
        [7, "images with a tag starting with ci-", "expires what was pushed more than 5 days ago", "old builds"],
        [90, "all images", "expires all but the newest 5", ""],
    ]


def test_the_shortest_policy_is_long_enough_for_ecr():
    assert len(parse_policy(policy(selection={"countNumber": 1})).text) >= 100


def test_text_and_object_are_the_same_policy_and_parsing_twice_changes_nothing():
    once = parse_policy(policy())
    assert parse_policy(json.dumps(policy())) == once == parse_policy(once) == parse_policy(once.text)


_json = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["rules", "rulePriority", "selection", "action", "tagStatus", "tagPatternList", "countType", "countNumber", "type", "any"]), inner, max_size=4), max_leaves=12)


@settings(max_examples=80, deadline=None)
@given(_json)
def test_whatever_is_given_the_answer_is_a_policy_or_a_list_of_faults(document):
    for one in (document, {"rules": [document]}, {"rules": [{**RULE, "selection": document}]}, json.dumps(document)):
        try:
            assert parse_policy(one).rules
        except InvalidPolicy as refused:
            assert refused.faults
