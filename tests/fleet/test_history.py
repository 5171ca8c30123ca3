"""`runbook runs` with fleets in it."""

from __future__ import annotations


def test_a_fleet_stands_for_its_runs_and_has_a_timeline_of_its_own(tiny, fleet_file, runbook):
    tiny.with_name("broken-b").write_text("It broke. Remedy: Mend it.")
    assert runbook("fleet", fleet_file("a", "b"), "--mode", "plan", "--run-id", "f1").code == 4
    listed = runbook("runs").out
    assert "fleet of tiny" in listed and "1 planned, 1 failed" in listed and "f1.001" not in listed
    assert "f1.001" in runbook("runs", "--all").out
    assert "f1" in runbook("runs", "--status", "part failed").out and "f1" not in runbook("runs", "--runbook", "other").out
    shown = runbook("runs", "show", "f1")
    assert shown.code == 0 and "run planned" in shown.out and "f1.002: b" in shown.out and "It broke." in shown.out and "exit code 4" in shown.out
    missing = runbook("runs", "show", "nothing")
    assert missing.code == 1 and "There is no run nothing" in missing.err
    back = runbook("rollback", "f1")
    assert back.code == 1 and "Fleet f1 was not applied, so nothing is to be undone." in back.err
