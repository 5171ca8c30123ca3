"""A run: journaled effects, resume, gates, roll back, results."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from helpers.aws import Check, RunbookError, act, connect, effect
from helpers.aws import calls
from helpers.aws import session as aws_session
from helpers.aws.effects import note, recall
from helpers.runbook import engine, rollback, store
from helpers.runbook import parameters as schema
from helpers.runbook.journal import Journal

DONE: list[str] = []


@dataclass(frozen=True)
class Made:
    name: str
    size: int

    def table(self) -> pd.DataFrame:
        return pd.DataFrame([(self.name, self.size)], columns=["name", "size"])


FAULTS: list[BaseException] = []  # what the next undos end with


def unmake(name: str) -> None:
    """Unmake it."""
    if FAULTS:
        raise FAULTS.pop()
    DONE.append(f"unmade {name}")


@effect(undo=unmake)
def make(name: str) -> Made:
    DONE.append(f"made {name}")
    act("redis", "SET", name, lambda: None)
    return Made(name, 3)


@effect(undo="It is gone: restore it from its snapshot.")
def destroy(name: str) -> None:
    DONE.append(f"destroyed {name}")


@effect(undo=unmake)
def break_down(name: str) -> Made:
    DONE.append(f"began {name}")
    raise RunbookError("It broke.", "Mend it.")


@pytest.fixture(autouse=True)
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runbook of two parameters, an account that answers without a network, an empty runs folder."""
    DONE.clear()
    cell = nbformat.v4.new_code_cell('mode: str = "apply"  # mode\nsize: int = 3  # how large\nrun_id: str = ""\napprove: str = ""\nplan_file: str = ""')
    cell.metadata["tags"] = ["parameters"]
    path = tmp_path / "small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    monkeypatch.setattr(schema, "find", lambda name: path)
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(engine.amazon, "connect", lambda **_: aws_session.Aws(None, "012345678901", "eu-west-1", "arn:aws:iam::012345678901:user/me"))
    return tmp_path


def begin(**values: object) -> engine.Run:
    return engine.start("small", {"mode": "apply", "size": 3, "run_id": "", "approve": "", "plan_file": "", **values})


def result_of(run: engine.Run) -> dict:
    return json.loads((run.directory / "result.json").read_text())


def test_a_finished_run_leaves_a_private_result_a_report_and_exit_code_0() -> None:
    run = begin()
    with run.step("1 Make"):
        made = make("a")
    run.note(size=made.size)
    run.finish()
    result = result_of(run)
    assert (result["status"], result["exit_code"], result["metrics"]) == ("done", 0, {"size": 3})
    assert [step["title"] for step in result["steps"]] == ["1 Make"]
    assert [(call["service"], call["operation"], call["resource"]) for call in result["calls"]] == [("redis", "SET", "a")]
    assert "1 Make" in (run.directory / "report.html").read_text()
    assert all(stat.S_IMODE((run.directory / name).stat().st_mode) == 0o600 for name in ("result.json", "report.html", "journal.jsonl", "calls.jsonl"))


def test_a_table_shown_within_a_step_is_on_its_card_and_outside_on_its_own() -> None:
    run = begin()
    with run.step("1 Look"):
        run.table("Within", pd.DataFrame({"found": ["pebble"]}))
    run.table("Outside", pd.DataFrame({"found": ["shell"]}))
    assert [card.title for card in run.cards] == ["1 Look", "Outside"]
    assert all(one in run.cards[0].html and one in run.cards[0].text for one in ("Within", "pebble"))
    run.finish()
    assert (run.directory / "report.html").read_text().count("pebble") == 1


def test_a_resumed_run_answers_done_effects_from_the_journal() -> None:
    first = begin()
    with first.step("1 Make"):
        make("a")
    first._close()
    again = begin(run_id=first.id)
    with again.step("1 Make"):
        made = make("a")
    assert (DONE, made) == (["made a"], Made("a", 3))
    assert again.steps[-1].status == "earlier"


def test_the_same_effect_twice_in_a_step_happens_twice_and_is_skipped_twice() -> None:
    first = begin()
    with first.step("1 Make"):
        make("a"), make("b")
    first._close()
    again = begin(run_id=first.id)
    with again.step("1 Make"):
        assert [make("a").name, make("b").name] == ["a", "b"]
    assert DONE == ["made a", "made b"]


def test_an_effect_in_doubt_is_called_again_and_counts_as_in_doubt_until_then() -> None:
    first = begin()
    with pytest.raises(RunbookError, match="It broke"), first.step("1 Break"):
        break_down("a")
    assert Journal(first.directory / "journal.jsonl", read_only=True).in_doubt() == ["1 Break/break_down"]
    assert (result_of(first)["status"], result_of(first)["exit_code"]) == ("failed", 1)
    again = begin(run_id=first.id)
    with pytest.raises(RunbookError), again.step("1 Break"):
        break_down("a")
    assert DONE == ["began a", "began a"]


def test_a_journal_line_torn_by_a_crash_is_cut_off_and_the_rest_kept() -> None:
    first = begin()
    with first.step("1 Make"):
        make("a")
    first._close()
    path = first.directory / "journal.jsonl"
    with path.open("a") as file:
        file.write('{"at": 1, "type": "do')
    again = begin(run_id=first.id)
    with again.step("1 Make"):
        make("a")
    assert DONE == ["made a"]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_two_processes_cannot_run_the_same_run() -> None:
    run = begin()
    with pytest.raises(RunbookError, match="another process"):
        Journal(run.directory / "journal.jsonl")


def test_a_resumed_run_with_other_parameters_is_refused() -> None:
    run = begin()
    with pytest.raises(RunbookError, match="size differ"):
        begin(run_id=run.id, size=4)


def test_a_gate_ends_a_headless_run_as_not_approved_until_it_is_named() -> None:
    run = begin()
    with pytest.raises(engine.GateNotPassed, match="--approve delete"):
        run.gate("delete", "It will be deleted.", "a")
    assert (result_of(run)["status"], result_of(run)["exit_code"]) == ("not approved", 3)
    again = begin(run_id=run.id, approve="other,delete")
    again.gate("delete", "It will be deleted.", "a")
    third = begin(run_id=run.id)
    third.gate("delete", "It will be deleted.", "a")
    assert third.gates[-1]["by"] == "approved earlier in this run"


def test_a_gate_takes_the_typed_name_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: "b")
    with pytest.raises(engine.GateNotPassed):
        begin().gate("delete", "It will be deleted.", "a")
    monkeypatch.setattr("builtins.input", lambda prompt: "a")
    begin().gate("delete", "It will be deleted.", "a")


def test_failed_checks_end_the_run_with_their_remedies_and_change_nothing() -> None:
    run = begin()
    with pytest.raises(RunbookError, match=r"disk: full.*Remedy: Empty it\."):
        run.require([Check("disk", "fail", "full", "Empty it."), Check("sky", "pass", "blue")])
    assert result_of(run)["exit_code"] == 1


def test_a_plan_lists_the_writes_of_effects_and_journals_nothing() -> None:
    run = begin(mode="plan")
    with run.step("1 Make"):
        make("a")
    run.finish()
    plan = json.loads((run.directory / "plan.json").read_text())
    assert [(one["operation"], one["sent"]) for one in plan["writes"]] == [("SET", False)]
    assert (result_of(run)["status"], result_of(run)["exit_code"]) == ("planned", 2)
    assert not (run.directory / "journal.jsonl").exists()


def test_a_plan_without_writes_exits_with_0() -> None:
    run = begin(mode="plan")
    run.finish()
    assert result_of(run)["exit_code"] == 0


def test_a_plan_of_a_half_done_run_lists_only_what_is_left() -> None:
    first = begin(run_id="half")
    with first.step("1 Make"):
        make("a")
    first._close()
    plan = begin(mode="plan", run_id="half")
    with plan.step("1 Make"):
        make("a"), make("b")
    plan.finish()
    assert [call["resource"] for call in plan.writes()] == ["b"]


def test_an_apply_of_a_saved_plan_refuses_a_write_that_differs() -> None:
    planned = begin(mode="plan", run_id="p")
    with planned.step("1 Make"):
        make("a")
    planned.finish()
    path = str(planned.directory / "plan.json")
    run = begin(run_id="p", plan_file=path)
    with pytest.raises(RunbookError, match="has redis SET a next, but this run would send redis SET b"), run.step("1 Make"):
        make("b")
    again = begin(run_id="p", plan_file=path)
    with again.step("1 Make"):
        make("a")
    assert result_of(again)["calls"][-1]["resource"] == "a"


def test_what_lifts_a_freeze_after_a_failure_is_never_held_back_by_a_plan() -> None:
    planned = begin(mode="plan", run_id="p")
    with planned.step("1 Make"):
        make("a")
    planned.finish()
    run = begin(run_id="p", plan_file=str(planned.directory / "plan.json"))
    lifted = []
    with run.step("1 Make"):
        with calls.unguarded():
            act("redis", "CLIENT UNPAUSE", "a", lambda: lifted.append(True))
        make("a")
    assert lifted == [True]


def test_a_plan_of_other_parameters_is_refused() -> None:
    planned = begin(mode="plan", run_id="p", size=9)
    planned.finish()
    with pytest.raises(RunbookError):
        begin(run_id="q", plan_file=str(planned.directory / "plan.json"))


def test_roll_back_undoes_done_and_doubtful_effects_newest_first() -> None:
    run = begin()
    with run.step("1 Make"):
        make("a"), make("b")
    with pytest.raises(RunbookError), run.step("2 Break"):
        break_down("c")
    run._close()
    back = rollback(run.id, approve="rollback")
    assert DONE[-3:] == ["unmade c", "unmade b", "unmade a"]
    assert result_of(back)["status"] == "rolled back"
    count = len(DONE)
    rollback(run.id, approve="rollback")
    assert len(DONE) == count


def test_roll_back_needs_its_approval_and_refuses_what_cannot_be_undone() -> None:
    run = begin()
    with run.step("1 Make"):
        make("a")
    run._close()
    with pytest.raises(engine.GateNotPassed, match=f"`runbook rollback {run.id} --approve rollback`"):
        rollback(run.id)
    assert DONE == ["made a"]
    again = begin(run_id=run.id)
    with again.step("2 Destroy"):
        destroy("a")
    again._close()
    with pytest.raises(RunbookError, match="restore it from its snapshot"):
        rollback(run.id, approve="rollback")
    with pytest.raises(RunbookError, match="no run"):
        rollback("unknown", approve="rollback")


def test_a_roll_back_that_was_cut_short_must_end_before_the_run_goes_on() -> None:
    run = begin()
    with run.step("1 Make"):
        make("a"), make("b")
    run._close()
    FAULTS[:] = [KeyboardInterrupt()]  # a kill leaves the same journal
    with pytest.raises(RunbookError, match="interrupted"):
        rollback(run.id, approve="rollback")
    for mode in ("apply", "plan"):
        with pytest.raises(RunbookError, match=f"cut short while it took 1 Make/make#2 back.*`runbook rollback {run.id}`"):
            begin(run_id=run.id, mode=mode)
    rollback(run.id, approve="rollback")
    again = begin(run_id=run.id)
    with again.step("1 Make"):
        make("a"), make("b")
    assert DONE == ["made a", "made b", "unmade b", "unmade a", "made a", "made b"]


def test_a_run_whose_roll_back_was_refused_may_go_on() -> None:
    run = begin()
    with run.step("1 Make"):
        make("a")
    run._close()
    FAULTS[:] = [RunbookError("It is in use.", "Keep it.")]
    with pytest.raises(RunbookError, match="in use"):
        rollback(run.id, approve="rollback")
    again = begin(run_id=run.id)
    with again.step("1 Make"):
        make("a")
    assert DONE == ["made a"]


def test_a_noted_value_reaches_the_process_that_resumes() -> None:
    first = begin()
    note("mark", [1, 2])
    first._close()
    begin(run_id=first.id)
    assert recall("mark") == [1, 2]


def test_an_effect_outside_a_run_is_an_ordinary_function() -> None:
    begin()._close()
    assert make("free") == Made("free", 3)


def test_files_are_written_whole_and_private(tmp_path: Path) -> None:
    store.write_json(tmp_path / "a.json", {"n": 1})
    assert store.read_json(tmp_path / "a.json") == {"n": 1}
    assert [path.name for path in tmp_path.glob("*.json*")] == ["a.json"]


def test_a_session_without_credentials_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(RunbookError, match="No AWS credentials"):
        connect(region="eu-west-1")
    with pytest.raises(RunbookError, match="not be found"):
        connect(profile="nobody", region="eu-west-1")


def test_a_cell_run_again_after_the_end_is_refused_instead_of_acting_unjournaled() -> None:
    run = begin()
    with pytest.raises(engine.GateNotPassed):
        run.gate("delete", "It will be deleted.", "a")
    with pytest.raises(RunbookError, match="This run has ended.*run all cells"):
        run.gate("delete", "It will be deleted.", "a")
    with pytest.raises(RunbookError, match="This run has ended"), run.step("1 Make"):
        make("a")
    assert DONE == []


def test_what_was_approved_before_a_roll_back_needs_approval_again() -> None:
    run = begin(approve="delete")
    with run.step("1 Make"):
        make("a")
    run.gate("delete", "It will be deleted.", "a")
    run._close()
    rollback(run.id, approve="rollback")
    with pytest.raises(engine.GateNotPassed):
        begin(run_id=run.id).gate("delete", "It will be deleted.", "a")


def test_masking_a_secret_leaves_the_journal_readable(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write("card", html='<td title="password=abcdefghij">x</td>')
    journal.write("done", key="k")
    journal.close()
    again = Journal(tmp_path / "journal.jsonl", read_only=True)
    assert [entry["type"] for entry in again.entries] == ["card", "done"]
    assert "abcdefghij" not in str(again.entries)


def test_a_damaged_line_in_the_middle_of_a_journal_is_never_passed_over(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"type": "intent", "key": "a"}\n{"type": "do\n{"type": "done", "key": "a"}\n')
    with pytest.raises(RunbookError, match="Line 2 .* is damaged"):
        Journal(tmp_path / "journal.jsonl", read_only=True)
