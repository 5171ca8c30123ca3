"""One plan for a whole fleet, and one approval that is bound to it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from helpers.aws.errors import RunbookError
from helpers.fleet.record import Record
from helpers.fleet.targets import Target
from helpers.runbook import store

PLAN = "plan.json"
LENGTH = 16  # hexadecimal digits of a digest that are shown and typed


class FleetNotApproved(RunbookError):
    """The fleet's plan has not been approved."""


def save(record: Record) -> dict[str, Any]:
    """Write the fleet's plan.json: every run's writes and gates, and the digest over them; returns it."""
    runs = [_of_run(record, target, outcome.run_id) for target, outcome in zip(record.targets, record.outcomes("plan"), strict=True)]
    plan = {"fleet": record.id, "digest": _digest(runs), "writes": sum(len(one["writes"]) for one in runs), "gates": sum(len(one["gates"]) for one in runs), "runs": runs}
    store.write_json(record.directory / PLAN, plan)
    return plan


def planned(record: Record) -> dict[str, Any]:
    """The plan that can be applied. Raises `RunbookError` where a target has no good plan, or a run's plan is not what it was."""
    without = [outcome.target.label for outcome in record.outcomes("plan") if outcome.status != "planned" and not outcome.target.reads_only]
    plan = store.read_json(record.directory / PLAN)
    if without or plan is None:
        shown = ", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
        raise RunbookError(f"Fleet {record.id} has no whole plan: {shown or 'it was not planned'}.", f"`runbook fleet --mode plan --retry-failed {record.id}` plans what is missing.")
    now = [_of_run(record, target, one["run_id"]) for target, one in zip(record.targets, plan["runs"], strict=True)]
    if _digest(now) != plan["digest"]:
        changed = [target.label for target, was, one in zip(record.targets, plan["runs"], now, strict=True) if was != one]
        raise RunbookError(f"The plan of {', '.join(changed[:5]) or 'the fleet'} is not the one that fleet {record.id} was planned with.", "Make a new plan, have it approved, and apply that one.")
    return plan


def code(plan: dict[str, Any]) -> str:
    """What approves this plan and no other."""
    return plan["digest"][:LENGTH]


def approve(record: Record, plan: dict[str, Any], given: str, by: str) -> None:
    """Journal the approval of the plan; one that was given before holds until the fleet is rolled back. Raises `FleetNotApproved` where `given` is not the plan's code."""
    taken_back = max((one["at"] for one in record.journal.of_type("roll back")), default=0.0)
    if any(one["digest"] == plan["digest"] and one["at"] > taken_back for one in record.journal.of_type("approved")):
        return
    if given != code(plan):
        why = f"{given} approves another plan." if given else "Its plan is not approved."
        raise FleetNotApproved(
            f"Fleet {record.id} was not applied: {why} It has {plan['writes']} writes and {plan['gates']} gates in {len(plan['runs'])} runs.",
            f"Review {record.directory.name}/index.html, then add `--approve {code(plan)}`.",
        )
    record.journal.write("approved", digest=plan["digest"], by=by)


def _of_run(record: Record, target: Target, run_id: str) -> dict[str, Any]:
    """What the plan of one run is: its writes with their parameters, and its gates."""
    plan = (store.read_json(record.runs / run_id / PLAN) if run_id else None) or {}
    gates = [{"gate": one["gate"], "resource": one["resource"]} for one in plan.get("gates", [])]
    writes = [{name: one[name] for name in ("service", "operation", "resource", "parameters")} for one in plan.get("writes", [])]
    return {"run_id": run_id, "runbook": target.runbook, "target": target.label, "parameters": plan.get("parameters"), "gates": gates, "writes": writes}


def _digest(runs: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(runs, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
