"""A run of a runbook: its mode, steps, effects, gates and result, journaled so that it can be resumed."""

from __future__ import annotations

import contextlib
import getpass
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from helpers import aws as amazon
from helpers.aws import calls, effects
from helpers.aws.checks import Check, checks_table
from helpers.aws.errors import RunbookError, explain
from helpers.aws.planned import PlannedWorld
from helpers.runbook import display, parameters, saved_plan, store
from helpers.runbook.journal import Journal
from helpers.runbook.redact import hide, redact

MODES = ("rehearse", "plan", "apply")
CONTROL = {"mode", "approve", "run_id", "plan_file"}  # parameters that say how to run, not what to do


class GateNotPassed(RunbookError):
    """A gate was not approved; the run can be resumed with the approval."""


@dataclass
class Step:
    """One numbered step as it is carried out: its effects, calls and outcome."""

    title: str
    status: str = "running"  # then done, earlier, planned, failed, not approved
    started: float = field(default_factory=time.time)
    duration_s: float = 0.0
    error: str = ""
    effects: list[dict[str, Any]] = field(default_factory=list)
    calls: list[calls.Call] = field(default_factory=list)
    evidence: list[Any] = field(default_factory=list)


def start(runbook: str, namespace: dict[str, Any]) -> Run:
    """Begin, or with a known `run_id` resume, a run of `runbook` with the parameters found in `namespace`.

    In a notebook: `run = runbook.start("redis_upgrade", globals())`. Raises `ParameterError` for a wrong
    parameter and `RunbookError` where the account is not the expected one, or a roll back of the run was cut short.
    """
    declared = parameters.load(parameters.find(runbook))
    values = parameters.check_values(declared, {p.name: namespace[p.name] for p in declared if p.name in namespace})
    run = Run(runbook, values)
    _end_earlier_run()
    run._open()
    if half := run.journal.half_undone():
        refused = RunbookError(f"The roll back of run {run.id} was cut short while it took {half} back.", f"End it first: `runbook rollback {run.id}`. Then the run can be resumed.")
        run._end("failed", str(refused))
        raise refused
    global _current
    _current = run
    return run


_current: Run | None = None


def _end_earlier_run() -> None:
    """One run a process: opening a new one in the same kernel closes the one before."""
    if _current is not None:
        _current._close()


class Run:
    """A run: give it steps, gates and checks; it keeps the journal, the cards and the result."""

    def __init__(self, runbook: str, values: dict[str, Any]) -> None:
        self.runbook, self.parameters = runbook, values
        self.mode = values.get("mode", "rehearse")
        self.id = values.get("run_id") or store.new_run_id()
        self.directory = store.run_directory(self.id)
        self.metrics: dict[str, Any] = {}
        self.steps: list[Step] = []
        self.calls: list[calls.Call] = []
        self.cards: list[display.Card] = []
        self.gates: list[dict[str, Any]] = []
        self.status, self.error = "running", ""
        self.started = time.time()
        self._stack: list[str] = []
        self._seen: dict[str, int] = {}
        self._expected: list[dict[str, Any]] | None = None
        self._last_expected: dict[str, Any] | None = None
        if self.mode not in MODES:
            raise RunbookError(f"mode is {self.mode!r}.", "Choose rehearse, plan or apply.")

    # -- opening -----------------------------------------------------------------------------------

    def _open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._remember_parameters()
        self.journal = Journal(self.directory / "journal.jsonl", read_only=self.mode == "plan", shared=self.mode == "apply")
        try:
            self._begin()
        except BaseException:
            self._close()  # else this process would hold the run, and could not try again
            raise

    def _begin(self) -> None:
        self._earlier_calls = self._read_calls()
        if self.mode == "rehearse":
            self._enter_local_cloud()
        if self.mode == "apply" and self.parameters.get("plan_file"):
            self._expect(Path(self.parameters["plan_file"]))
        calls.watch(calls.Watch(self._on_call, self._on_write, PlannedWorld() if self.mode == "plan" else None))
        keys = ("profile", "region", "role_arn", "expected_account")
        try:
            self.aws = amazon.connect(**{key: self.parameters[key] for key in keys if key in self.parameters})
        except RunbookError as error:
            self._end("failed", str(error))
            raise
        credentials = self.aws.session.get_credentials() if self.aws.session else None
        if credentials:
            hide(credentials.secret_key, credentials.token)
        effects.record_with(self)
        self.journal.write("started", mode=self.mode, who=self.aws.caller, account=self.aws.account, region=self.aws.region, user=_user(), pid=os.getpid())
        self._save()

    def _remember_parameters(self) -> None:
        """Keep what the run was started with; a resumed run must be asked for the same."""
        path = self.directory / "run.json"
        asked = {name: value for name, value in self.parameters.items() if name not in CONTROL}
        known = store.read_json(path)
        if known is None:
            return store.write_json(path, {"runbook": self.runbook, "run_id": self.id, "mode": self.mode, "created": self.started, "parameters": asked}, new=True)
        changed = sorted(name for name in asked if known["parameters"].get(name) != asked[name])
        if known["runbook"] != self.runbook or changed:
            what = f"{', '.join(changed)} differ" if changed else f"it is a run of {known['runbook']}"
            raise RunbookError(f"Run {self.id} was started with other parameters: {what}.", "Resume with `runbook resume`, or choose a new run_id.")
        if known["mode"] != self.mode:
            if "rehearse" in (known["mode"], self.mode):
                raise RunbookError(f"Run {self.id} was started in mode {known['mode']}, not {self.mode}.", "Choose a new run_id.")
            if self.mode == "apply":
                store.write_json(path, {**known, "mode": "apply"})
        return None

    def _enter_local_cloud(self) -> None:
        """Put the variables of the local cloud, started by the command line where none runs for this run, in place of every AWS setting of the user."""
        if os.environ.get("RUNBOOK_LOCAL_CLOUD") == str(self.directory):
            return
        command = [sys.executable, "-m", "helpers.cli", "cloud", "prepare", self.runbook, "--run-directory", str(self.directory)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RUNBOOK_PARAMETERS": json.dumps(self.parameters)})
        if done.returncode:
            raise RunbookError(f"The local cloud did not start: {done.stderr.strip()[-500:]}", "Install the rehearsal extra: `uv sync --all-extras`.")
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]  # a profile or an endpoint of one service that stayed would lead to a real account
        os.environ.update(json.loads(done.stdout.strip().splitlines()[-1]))

    @property
    def created(self) -> float:
        """When the run was first started (unix seconds): the same in a plan, its apply and a resumed run."""
        return store.read_json(self.directory / "run.json")["created"]

    # -- steps and effects -------------------------------------------------------------------------

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Carry out one step; what its effects return becomes the evidence on its card."""
        self._refuse_ended()
        step = Step(title)
        self.steps.append(step)
        self._seen = {key: n for key, n in self._seen.items() if not key.startswith(title + "/")}
        self.journal.write("step", step=title, event="begin")
        try:
            yield step
        except (Exception, KeyboardInterrupt) as error:
            told = explain(error) if isinstance(error, Exception) else RunbookError("The step was interrupted.", "Resume the run.")
            self._end_step(step, "not approved" if isinstance(error, GateNotPassed) else "failed", str(told))
            self._end(step.status, str(told))
            raise told from error
        earlier = step.effects and all(one["earlier"] for one in step.effects)
        self._end_step(step, "earlier" if earlier else "planned" if self.mode == "plan" else "done")

    def _end_step(self, step: Step, status: str, error: str = "") -> None:
        step.status, step.error, step.duration_s = status, error, time.time() - step.started
        self.journal.write("step", step=step.title, event="end", status=status, duration_s=round(step.duration_s, 3), error=error)
        self.show(display.step_card(self, step))
        self._save()

    def perform(self, function: Any, args: tuple, kwargs: dict) -> Any:
        """Call an effect once in the life of the run: intent, call, result; a done effect answers from the journal."""
        key = self._key(function)
        entry = self.journal.last(key)
        if entry and entry["type"] == "done":
            result = _restore(function, entry["result"])
            self._record_effect(function, result, entry)
            return result
        if self.mode != "plan":
            self.journal.write("intent", key=key, function=_name(function), args=_frozen(function, args, kwargs), again=bool(entry and entry["type"] == "intent"))
        self._stack.append(key)
        try:
            result = function.plain(*args, **kwargs)
        finally:
            self._stack.pop()
        if self.mode != "plan":
            self.journal.write("done", key=key, result=msgspec.to_builtins(result))
        self._record_effect(function, result, None)
        return result

    def remember(self, name: str, value: Any) -> None:
        """Journal a value that a resumed run may need (`helpers.aws.effects.note`)."""
        if self.mode != "plan":
            self.journal.write("note", name=name, value=value)

    def recall(self, name: str) -> Any:
        """The newest value noted under `name`, by this process or an earlier one."""
        return next((entry["value"] for entry in reversed(self.journal.of_type("note")) if entry["name"] == name), None)

    def _key(self, function: Any) -> str:
        where = self._stack[-1] if self._stack else (self.steps[-1].title if self.steps and self.steps[-1].status == "running" else "between steps")
        base = f"{where}/{function.__name__}"
        self._seen[base] = self._seen.get(base, 0) + 1
        return base if self._seen[base] == 1 else f"{base}#{self._seen[base]}"

    def _record_effect(self, function: Any, result: Any, earlier: dict[str, Any] | None) -> None:
        if self._stack or not self.steps or self.steps[-1].status != "running":
            return
        step = self.steps[-1]
        step.effects.append({"name": function.__name__, "earlier": bool(earlier), "at": earlier["at"] if earlier else time.time()})
        if result is not None:
            step.evidence.append(result)

    # -- checks and gates --------------------------------------------------------------------------

    def preflight(self, survey: Any, *args: Any) -> Any:
        """Call `survey(*args)`, show its `checks`, and end the run where one fails; a resumed run keeps what it found first."""
        self._refuse_ended()
        entry = next((one for one in reversed(self._since_undone()) if one.get("key") == "preflight"), None)
        if entry:
            found = msgspec.convert(entry["result"], get_type_hints(survey)["return"], strict=False)
            self.show(display.table_card("Preflight", checks_table(found.checks)))
            return found
        try:
            found = survey(*args)
        except Exception as error:
            told = explain(error)
            self._end("failed", str(told))
            raise told from error
        self.require(found.checks)
        if self.mode != "plan":
            self.journal.write("done", key="preflight", result=msgspec.to_builtins(found))
        return found

    def require(self, checks: Iterable[Check]) -> None:
        """Show all checks as one table; a failed one ends the run before anything is changed."""
        checks = list(checks)
        self.show(display.table_card("Preflight", checks_table(checks)))
        failed = [check for check in checks if check.outcome == "fail"]
        if failed:
            told = RunbookError(
                "; ".join(f"{check.name}: {check.found}" for check in failed).rstrip(".") + ". Nothing was changed.",
                " ".join(check.remedy for check in failed if check.remedy),
            )
            self._end("failed", str(told))
            raise told

    def gate(self, name: str, question: str, resource: str, *, when: bool = True, by_command: str = "resume") -> None:
        """Stop before an irreversible effect until it is approved; once approved it stays so for this run.

        In JupyterLab the operator types `resource`. Headless, the parameter `approve` names the gate, or the run
        ends as "not approved". A rehearsal approves itself; a plan lists the gate. `when=False`: no gate is needed.
        `by_command` is the `runbook` command that goes on with the approval.
        """
        if not when:
            return
        self._refuse_ended()
        entry = {"gate": name, "question": question, "resource": resource}
        if any(one["type"] == "gate" and one["gate"] == name for one in self._since_undone()):
            by = "approved earlier in this run"
        elif self.mode == "plan":
            by = "needs approval"
        elif self.mode == "rehearse":
            by = "approved: it is a rehearsal"
        elif name in self._approved():
            by = f"approved by the parameter `approve`, as {self.aws.caller}"
        elif _typed(f"{question} Type {resource} to go on: ", resource):
            by = f"approved by {_user()}, who typed the name"
        else:
            told = GateNotPassed(f"Gate {name!r} is not approved: {question}", f"Approve it: `runbook {by_command} {self.id} --approve {name}`.")
            self._end("not approved", str(told))
            raise told
        if self.mode != "plan":
            self.journal.write("gate", **entry, by=by)
        self.gates.append({**entry, "by": by, "at": time.time()})
        self.show(display.gate_card(name, question, by))

    def _refuse_ended(self) -> None:
        """A cell run again after the end would act without the journal: it has to begin as a resumed run."""
        if self.status != "running":
            raise RunbookError(f"This run has ended ({self.status}).", f"Resume it: set run_id = {self.id!r} in the parameters and run all cells from the top.")

    def _since_undone(self) -> list[dict[str, Any]]:
        """The journal from the last roll back on: what was approved or found before it holds no longer."""
        entries = self.journal.entries
        last = max((place for place, one in enumerate(entries) if one["type"] == "undone"), default=-1)
        return entries[last + 1 :]

    def _approved(self) -> set[str]:
        return {part.strip() for part in str(self.parameters.get("approve", "")).split(",") if part.strip()}

    # -- calls -------------------------------------------------------------------------------------

    def _on_call(self, call: calls.Call) -> None:
        if self.steps and self.steps[-1].status == "running":
            call.step = self.steps[-1].title
            self.steps[-1].calls.append(call)
        self.calls.append(call)
        if self.mode != "plan":
            # where a resumed run is in its plan is told by the writes that were sent
            self.journal.log_call(asdict(call), wait=call.write and call.sent and self._expected is not None)

    def _on_write(self, call: calls.Call) -> None:
        """Refuse a write of a run that another process has gone on with, and one that is not the next one of the plan that is applied."""
        self.journal.check()
        if self._expected is None:
            return
        following = self._expected[0] if self._expected else None
        if following and saved_plan.same(following, vars(call)):
            self._last_expected = self._expected.pop(0)
        elif self._last_expected is None or saved_plan.identity(self._last_expected) != call.identity:  # else: in doubt, sent once more
            has = " ".join(saved_plan.identity(following)) if following else "nothing more"
            raise saved_plan.PlanDiffers(f"The plan has {has} next, but this run would send {' '.join(call.identity)}: it was not sent.", saved_plan.REMEDY)

    def _expect(self, path: Path) -> None:
        plan = store.read_json(path)
        if plan is None or plan.get("runbook") != self.runbook:
            raise RunbookError(f"{path} holds no plan of {self.runbook}.", "Save one with --mode plan.")
        asked = {name: value for name, value in self.parameters.items() if name not in CONTROL}
        if plan["run_id"] != self.id or plan["parameters"] != asked:
            raise RunbookError(f"The plan in {path.name} is of run {plan['run_id']} with other parameters.", f"Apply it with `--run-id {plan['run_id']}` and its parameters.")
        self._expected = list(plan["writes"])
        for call in self._earlier_calls:
            if call["write"] and call["sent"] and not call["error_code"] and self._expected:
                self._last_expected = self._expected.pop(0)

    def _read_calls(self) -> list[dict[str, Any]]:
        path = self.directory / "calls.jsonl"
        if self.mode == "plan" or not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def writes(self) -> list[dict[str, Any]]:
        """The writes of this run in order: listed in a plan, sent otherwise."""
        every = self._earlier_calls + [asdict(call) for call in self.calls]
        return [call for call in every if call["write"]]

    # -- the end -----------------------------------------------------------------------------------

    def show(self, card: display.Card) -> None:
        """Display a card now and keep it for the report; secrets in it are masked."""
        card = display.Card(redact(card.html), redact(card.text), card.title)
        self.cards.append(card)
        self.journal.write("card", title=card.title, html=card.html)
        display.display(card)

    def alike(self, parameter: str) -> list[dict[str, Any]]:
        """This run's result and the newest finished ones, in the same mode, that had another value of `parameter`; none in a plan."""
        if self.mode == "plan":
            return []
        mine = self.result()
        others = store.newest_results(self.runbook, self.mode, parameter)
        return [mine, *(one for one in others if one["parameters"].get(parameter) != self.parameters.get(parameter))]

    def table(self, title: str, evidence: Any) -> None:
        """Show a table (a DataFrame, or something with `.table()` and perhaps `.figure()`) as a card of the report; within a step on its card."""
        card = display.evidence_card(title, evidence)
        if self.steps and self.steps[-1].status == "running":
            self.steps[-1].evidence.append(card)
        else:
            self.show(card)

    def note(self, **metrics: Any) -> None:
        """Keep measured numbers for result.json; a plan has measured nothing."""
        if self.mode == "plan":
            return
        self.metrics.update(metrics)
        self.journal.write("metrics", values=metrics)

    def finish(self) -> None:
        """End the run: its summary with the timeline, result.json, plan.json and report.html."""
        self.show(display.summary_card(self))
        self._end("planned" if self.mode == "plan" else "done", "")

    def _end(self, status: str, error: str) -> None:
        self.status, self.error = status, error
        if hasattr(self, "journal"):
            self.journal.write("ended", status=status, error=error)
            self._save()
            if status != "running":
                from helpers.runbook import report

                report.write(self)
                if self.mode != "apply":
                    store.publish(self.directory)
        self._close()

    def _close(self) -> None:
        effects.record_with(None)
        if hasattr(self, "journal"):
            self.journal.close()

    def _save(self) -> None:
        if self.mode == "plan" and self.status == "planned":
            asked = {name: value for name, value in self.parameters.items() if name not in CONTROL}
            store.write_json(self.directory / "plan.json", {"runbook": self.runbook, "run_id": self.id, "parameters": asked, "gates": self.gates, "writes": self.writes()})
        store.write_json(self.directory / "result.json", self.result())

    def result(self) -> dict[str, Any]:
        """What the run did, as result.json keeps it."""
        exit_code = store.EXIT_CODES[self.status]
        if self.status == "planned" and not self.writes():
            exit_code = store.DONE
        who = {"account": self.aws.account, "region": self.aws.region, "caller": self.aws.caller} if hasattr(self, "aws") else {}
        metrics = {}
        for entry in self.journal.of_type("metrics"):
            metrics.update(entry["values"])
        return {
            "runbook": self.runbook,
            "run_id": self.id,
            "mode": self.mode,
            "status": self.status,
            "exit_code": exit_code,
            "error": self.error,
            **who,
            "started": self.started,
            "ended": time.time(),
            "parameters": self.parameters,
            "steps": self._step_results(),
            "gates": self.gates,
            "metrics": metrics,
            "plan": self.writes() if self.mode == "plan" else [],
            "calls": self._earlier_calls + [asdict(call) for call in self.calls],
        }

    def _step_results(self) -> list[dict[str, Any]]:
        """The steps of the whole run, also those that an earlier process carried out."""
        results: dict[str, dict[str, Any]] = {}
        for entry in self.journal.of_type("step"):
            if entry["event"] == "begin":
                results.setdefault(entry["step"], {"title": entry["step"], "started": entry["at"]})
                results[entry["step"]]["status"] = "running"
            elif entry["status"] != "earlier" or "duration_s" not in results[entry["step"]]:
                results[entry["step"]].update(started=entry["at"] - entry["duration_s"], status=entry["status"], duration_s=entry["duration_s"], error=entry["error"])
            else:
                results[entry["step"]].update(status="done")
        return list(results.values())

    def _repr_html_(self) -> str:
        return display.run_card(self).html

    def __repr__(self) -> str:
        return display.run_card(self).text


def _name(function: Any) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _frozen(function: Any, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The arguments by name as plain data; what is no data (a client) as None."""
    bound = inspect.signature(function.plain).bind(*args, **kwargs)
    bound.apply_defaults()
    frozen = {}
    for name, value in bound.arguments.items():
        try:
            frozen[name] = None if isinstance(value, amazon.Aws) else msgspec.to_builtins(value)
        except TypeError:
            frozen[name] = None
    return frozen


def _restore(function: Any, result: Any) -> Any:
    hint = get_type_hints(function.plain).get("return", Any)
    return result if result is None else msgspec.convert(result, hint, strict=False)


def _typed(prompt: str, expected: str) -> bool:
    """Ask the operator to type a name; False where nobody can be asked, or something else was typed."""
    try:
        return input(prompt).strip() == expected
    except Exception:  # papermill's kernels refuse stdin with StdinNotImplementedError
        return False


def _user() -> str:
    try:
        return getpass.getuser()
    except Exception:
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
