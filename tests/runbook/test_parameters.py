"""Parameters: what a notebook declares, what text becomes, what is refused."""

from __future__ import annotations

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.aws.errors import RunbookError
from helpers.runbook.parameters import Parameter, ParameterError, check_values, convert, describe, find, load, parse

CELL = '''
from typing import Literal

"""What to upgrade."""
replication_group: str = "sessions"  # the group to upgrade
account: str  # twelve digits
engine_version: str = "8.1"
replicas: int = 1
pause_s: float = 0.25  # seconds
final_snapshot: bool = True
tags: list[str] = []
labels: dict = {
    "team": "web",  # who
}  # put on what is made
strategy: Literal["blue_green", "in_place"] = "blue_green"  # how
window: int | None = None
'''


@pytest.fixture
def declared() -> list[Parameter]:
    return parse(CELL)


def faults(function, *arguments) -> list[str]:
    with pytest.raises(ParameterError) as caught:
        function(*arguments)
    return caught.value.faults


def test_a_declaration_gives_name_type_default_and_help(declared):
    found = {p.name: p for p in declared}
    assert found["replication_group"] == Parameter("replication_group", "str", "sessions", "the group to upgrade")
    assert found["account"] == Parameter("account", "str", None, "twelve digits", required=True)
    assert found["strategy"].choices == ("blue_green", "in_place") and found["strategy"].annotation == '"blue_green" or "in_place"'
    assert found["window"].optional and found["window"].annotation == "int or none"
    assert found["labels"].default == {"team": "web"} and found["labels"].help == "who put on what is made"


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("import os\nname: str = os.environ['X']", "only declarations"),
        ("name: str = open('/etc/passwd').read()", "is not a plain value"),
        ("count: int = '5'", "the default of count is '5', a str, but is declared int."),
        ("name: bytes = b''", "the type `bytes` is not one of"),
        ("name = None", "it needs a type"),
        ("name: str = 'a'\nname: str = 'b'", "name is declared twice."),
        ("name: str =", "is not Python"),
        ("name: 'str[' = 'a'", "is not Python"),
    ],
)
def test_a_cell_with_anything_else_is_refused_and_never_run(cell, sentence):
    assert sentence in " ".join(faults(parse, cell))


def test_text_keeps_its_zeros_and_its_digits(declared):
    values = convert(declared, {"account": "012345678901", "engine_version": "7.10", "replication_group": ""})
    assert values == {"replication_group": "", "account": "012345678901", "engine_version": "7.10"}


@given(st.text())
def test_any_text_stays_the_same_text(text):
    assert convert([Parameter("name", "str", "")], {"name": text}) == {"name": text}


@given(st.integers(-(10**18), 10**18), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.lists(st.text()))
def test_values_survive_being_written_and_read(integer, number, truth, items):
    import json

    declared = [Parameter("i", "int"), Parameter("f", "float"), Parameter("b", "bool"), Parameter("l", "list[str]")]
    texts = {"i": str(integer), "f": repr(number), "b": str(truth), "l": json.dumps(items)}
    assert convert(declared, texts) == {"i": integer, "f": number, "b": truth, "l": items}


def test_every_type_is_read_from_text(declared):
    texts = {"account": "1", "replicas": "-2", "pause_s": "1e-3", "final_snapshot": "FALSE", "tags": "a, b", "labels": '{"a": 1}', "strategy": "in_place", "window": "none"}
    values = {"account": "1", "replicas": -2, "pause_s": 0.001, "final_snapshot": False, "tags": ["a", "b"], "labels": {"a": 1}, "strategy": "in_place", "window": None}
    assert convert(declared, texts) == values


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("replicas", "two", "replicas is 'two', which is not a whole number."),
        ("replicas", "1.0", "replicas is '1.0', which is not a whole number."),
        ("replicas", " 1", "replicas is ' 1', which is not a whole number."),
        ("pause_s", "nan", "pause_s is 'nan', which is not a number."),
        ("pause_s", "1e999", "pause_s is inf, which is not a number that can be used."),
        ("final_snapshot", "yes", "final_snapshot is 'yes': write true or false."),
        ("final_snapshot", "1", "final_snapshot is '1': write true or false."),
        ("strategy", "blue-green", 'strategy is \'blue-green\': choose "blue_green" or "in_place". Do you mean blue_green?'),
        ("tags", "[1]", "tags holds 1, but is declared list[str]."),
        ("labels", "[]", "labels is [], a list, but is declared dict."),
        ("replicas", "none", "replicas is 'none', which is not a whole number."),
    ],
)
def test_bad_text_is_refused_with_a_sentence(declared, name, text, sentence):
    assert faults(convert, declared, {"account": "1", name: text}) == [sentence]


def test_all_faults_come_in_one_error_and_unknown_names_with_the_nearest(declared):
    found = faults(convert, declared, {"replication_grup": "x", "replicas": "x", "zzz": "1"})
    assert found == [
        "There is no parameter replication_grup. Do you mean replication_group?",
        "There is no parameter zzz.",
        "account is required: twelve digits.",
        "replicas is 'x', which is not a whole number.",
    ]


def test_what_papermill_guessed_wrong_is_refused_with_the_right_option(declared):
    found = faults(check_values, declared, {"account": 12345678901, "engine_version": 7.1, "final_snapshot": "false", "replicas": True, "tags": "a"})
    assert "-r account" in found[0] and "an int" in found[0]
    assert "-r engine_version" in found[1] and "a float" in found[1]
    assert found[2] == "replicas is True, a bool, but is declared int."
    assert found[3].endswith("write `-p final_snapshot False`.")
    assert "-y 'tags: ...'" in found[4]


def test_right_values_pass_and_an_int_is_good_for_a_float(declared):
    values = check_values(declared, {"account": "1", "pause_s": 2, "window": None, "strategy": "in_place"})
    assert values == {"account": "1", "pause_s": 2.0, "window": None, "strategy": "in_place"}
    assert type(values["pause_s"]) is float


def test_a_runbook_describes_itself_from_its_metadata_or_its_first_page(tmp_path):
    page = nbformat.v4.new_markdown_cell("# Upgrade a group\n\nMoves the sessions\nto a new group.\n\n| a | b |")
    cell = nbformat.v4.new_code_cell('name: str = "a"', metadata={"tags": ["parameters"]})
    book = nbformat.v4.new_notebook(cells=[page, cell], metadata={"runbook": {"minutes": 40, "gates": ["switch"], "policy": {"Version": "2012-10-17"}}})
    nbformat.write(book, tmp_path / "tiny.ipynb")
    told = describe(tmp_path / "tiny.ipynb")
    assert (told.name, told.title, told.summary) == ("tiny", "Upgrade a group", "Moves the sessions to a new group.")
    assert (told.minutes, told.gates, told.policy) == (40, ("switch",), {"Version": "2012-10-17"})
    assert [p.name for p in told.parameters] == ["name"]


@pytest.mark.parametrize("count", [0, 2])
def test_a_notebook_needs_exactly_one_parameters_cell(tmp_path, count):
    cells = [nbformat.v4.new_code_cell("a: int = 1", metadata={"tags": ["parameters"]}) for _ in range(count)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "tiny.ipynb")
    assert faults(load, tmp_path / "tiny.ipynb") == [f"tiny.ipynb has {count} cells tagged `parameters`; it needs exactly one."]


@pytest.mark.parametrize("name", ["no_such_runbook", "../etc/passwd", "no.ipynb"])
def test_an_unknown_runbook_is_refused(name):
    with pytest.raises(RunbookError, match="There is no runbook"):
        find(name)
