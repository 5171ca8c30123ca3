"""Fleet files: what is read, and every fault with its line."""

from __future__ import annotations

import pytest

from helpers.fleet.file import FleetFileError, read
from helpers.fleet.targets import resolve


def written(tmp_path, text: str, name: str = "fleet.yaml"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def faults(path, runbook: str = "") -> list[tuple[int, str]]:
    """What is wrong with a file, in its words or as a list of targets."""
    try:
        told = read(path, runbook)
    except FleetFileError as error:
        return [(fault.line, fault.what) for fault in error.faults]
    return [(fault.line, fault.what) for fault in resolve(told.entries)[1]]


def test_values_are_kept_as_written_in_both_forms(tmp_path, tiny):
    text = f"runbook: {tiny}\nparameters: {{version: 7.10}}\ntargets:\n- {{account: 012345670123, region: no, resource: one, parameters: {{size: 3}}}}\n- two\n"
    targets, wrong = resolve(read(written(tmp_path, text)).entries)
    assert wrong == [] and [one.resource for one in targets] == ["one", "two"]
    assert targets[0].values == {"name": "one", "size": 3, "version": "7.10", "expected_account": "012345670123", "region": "no"}
    table = f"resource,account,size,version,region\none,012345670123,3,7.10,no\n\ntwo,,,7.10,\n"
    rows, wrong = resolve(read(written(tmp_path, table, "fleet.csv"), str(tiny)).entries)
    assert wrong == [] and [one.values for one in rows] == [one.values for one in targets] and [one.line for one in rows] == [2, 4]


def test_every_fault_of_the_runbooks_words_is_listed_with_its_line(tmp_path, tiny):
    text = f"""runbook: {tiny}
targets:
- {{resource: one, parameters: {{sise: 1}}}}
- {{resource: two, parameters: {{size: many}}}}
- {{resource: three, runbook: redis_upgrad}}
- four
- {{resource: four}}
- {{resource: five, account: "1234", role: admin}}
- {{resource: six, account: 111111111111, role: "arn:aws:iam::222222222222:role/ops"}}
- {{resource: seven, profile: ops}}
- {{resource: eight, parameters: {{mode: apply}}}}
"""
    assert faults(written(tmp_path, text)) == [
        (3, "There is no parameter sise. Do you mean size?"),
        (4, "size is 'many', which is not a whole number."),
        (5, "There is no runbook 'redis_upgrad'. Do you mean redis_upgrade? Remedy: `runbook list` names them."),
        (7, "It is the target of line 6 again: four."),
        (8, "account '1234' is not 12 digits."),
        (8, "role 'admin' is not the ARN of a role (arn:aws:iam::012345678901:role/name)."),
        (9, "The role is of account 222222222222, the target of 111111111111."),
        (10, "tiny takes no profile: it has no parameter profile."),
        (11, "mode is said on the command line, not in the file."),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runbok: tiny\ntargets: [a]\n", [(1, "The file has no runbok. Do you mean runbook? It may have runbook, parameters, targets, query.")]),
        ("targets:\n- {resource: a, resource: b}\n- {acount: 1}\n", [(2, "resource is there twice."), (3, "A target has no acount. Do you mean account? It may have account, role, region, profile, resource, runbook, parameters.")]),
        ("a: &x 1\ntargets: [*x]\n", [(2, "Aliases (*x) are not taken: write the values out.")]),
        ("targets:\n- [a\n", [(3, "It is not YAML: expected ',' or ']', but got '<stream end>'.")]),
        ("targets: 3\n", [(1, "targets is a list, each with a dash.")]),
        ("targets: [a]\nquery: {find: file_systems}\n", [(2, "It has targets and a query: choose one.")]),
        ("", [(0, "It has no targets.")]),
        ("targets: [a]\n", [(1, "It names no runbook.")]),
    ],
)
def test_what_is_no_fleet_file_is_told_by_line(tmp_path, text, expected):
    assert faults(written(tmp_path, text)) == expected


def test_a_csv_file_is_held_to_its_header(tmp_path, tiny):
    text = f"resource,size,size,\na,1\nb,1,2,3\n"
    assert faults(written(tmp_path, text, "f.csv"), str(tiny)) == [(1, "Column 4 has no name."), (1, "The column 'size' is there twice."), (2, "The row has 2 values, the header 4.")]
    assert faults(written(tmp_path, 'resource,size\n"two\nlines",x\nc,y\n', "f.csv"), str(tiny)) == [(2, "size is 'x', which is not a whole number."), (4, "size is 'y', which is not a whole number.")]


def test_an_analysis_is_not_planned_and_a_resource_nobody_declared_is_refused(tmp_path):
    text = "targets:\n- {runbook: efs_credits, resource: fs-1}\n"
    assert faults(written(tmp_path, text)) == [(0, "It has analyses only, which change nothing, so there is nothing to plan: read them (--mode read).")]


def test_a_rehearsal_has_no_accounts(tmp_path, tiny):
    text = f"runbook: {tiny}\ntargets:\n- {{resource: a, account: 012345678901, region: eu-west-1}}\n- {{resource: a, account: 012345678902, region: eu-west-1}}\n"
    targets, wrong = resolve(read(written(tmp_path, text)).entries, "rehearse")
    assert wrong == [] and targets[0].values == {"name": "a"} and targets[0].label == "a · 012345678901 · eu-west-1"


def test_targets_of_the_same_resource_say_in_what_they_differ(tmp_path, tiny):
    text = f"runbook: {tiny}\ntargets:\n- {{resource: a, parameters: {{size: 1}}}}\n- {{resource: a, parameters: {{size: 2, version: x}}}}\n- b\n"
    targets, wrong = resolve(read(written(tmp_path, text)).entries)
    assert wrong == [] and [one.label for one in targets] == ["a size=1", "a size=2, version=x", "b"]
