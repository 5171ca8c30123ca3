"""The command `runbook`: list, show, run, rehearse, resume and roll back runbooks; the local cloud."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helpers.fleet import history_commands
from helpers.fleet.commands import Notify, fleet, places_of

# Whatever costs time to import (pandas, boto3, papermill) is imported where it is used: help comes at once.
if TYPE_CHECKING:
    from helpers.runbook.execute import ExecutionResult
    from helpers.runbook.parameters import Runbook

MODES = ("rehearse", "plan", "apply")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
HELP = """Runbooks for AWS: rehearsed on a local cloud, planned, applied, proven.

Exit codes: 0 done, 1 failed or bad input, 2 the plan has changes, 3 a gate is not approved,
4 some of several failed, 5 in doubt (a kernel died amid an effect: resume)."""

app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
cloud_app = typer.Typer(help="The local cloud that rehearsals run on.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cloud_app, name="cloud")
app.command()(fleet)
app.add_typer(history_commands.app, name="runs")

Parameters = Annotated[list[str] | None, typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="A parameter; its text is kept as written. Repeat.")]
Approve = Annotated[str, typer.Option(help="Gates that are approved, with commas between them.")]
RunId = Annotated[str, typer.Argument(metavar="RUN_ID")]


def main() -> None:
    """Run the command line; exits with the run's code. Bad input is one sentence on stderr and code 1."""
    try:
        code = typer.main.get_command(app).main(standalone_mode=False)
    except KeyboardInterrupt:
        code = _refuse("Interrupted.")
    except Exception as error:
        code = _show_help(error) if type(error).__name__ == "NoArgsIsHelpError" else _refuse(_sentence(error))
    sys.exit(code if isinstance(code, int) else 0)


def _sentence(error: Exception) -> str:
    """The error in words; an error that is not ours keeps its traceback."""
    if hasattr(error, "format_message"):  # a wrong option or argument: typer's own words
        return f"{error.format_message().rstrip('.')}. See `runbook --help`."
    from helpers.aws.errors import RunbookError

    if isinstance(error, RunbookError):
        return str(error)
    raise error


def _show_help(error: Any) -> int:
    print(error.format_message())
    return 0


def _refuse(sentence: str) -> int:
    print(f"runbook: {sentence}", file=sys.stderr)
    return 1


# -- what there is -------------------------------------------------------------------------------------


@app.command("list")
def list_runbooks() -> None:
    """List the runbooks."""
    from helpers.runbook import parameters

    runbooks = [parameters.describe(path) for path in parameters.names().values()]
    print_table(("runbook", "what it does", "minutes", "gates"), ((r.name, r.title, _number(r.minutes), ", ".join(r.gates)) for r in runbooks))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The runbook.")],
    policy: Annotated[bool, typer.Option("--policy", help="Print only the IAM policy, as JSON.")] = False,
) -> None:
    """Show a runbook: its parameters, its gates and the IAM policy it needs."""
    from helpers.runbook import parameters

    runbook = parameters.describe(name)
    if policy:
        return print(_policy(runbook))
    print(f"{runbook.title}\n\n{runbook.summary}\n\nNotebook: {shown_path(runbook.path)}")
    rows = ((p.name, p.annotation, "(required)" if p.required else json.dumps(p.default, ensure_ascii=False), p.help) for p in runbook.parameters)
    print_table(("parameter", "type", "default", "meaning"), rows)
    print(f"Gates: {', '.join(runbook.gates) or 'none'} (approve them with --approve)")
    print(f"IAM policy:\n{_policy(runbook)}")
    return None


def _policy(runbook: Runbook) -> str:
    """The IAM policy as JSON: the notebook's metadata hold it, or `module:name` of it."""
    import importlib

    policy = runbook.policy
    if isinstance(policy, str):
        module, _, attribute = policy.partition(":")
        policy = getattr(importlib.import_module(module), attribute)
    return json.dumps(policy() if callable(policy) else policy, indent=2) if policy else "none is declared in the notebook's metadata"


# -- running -------------------------------------------------------------------------------------------


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="The runbook, by name or path.")],
    parameter: Parameters = None,
    mode: Annotated[str, typer.Option(help="rehearse (a local cloud), plan (real account, reads only) or apply.")] = "",
    approve: Approve = "",
    run_id: Annotated[str, typer.Option(help="The run's name; one that exists is resumed. [default: the time]")] = "",
    plan: Annotated[str, typer.Option(metavar="FILE", help="Apply this saved plan.json (a path, or an address in S3), and nothing that differs from it.")] = "",
    notify: Notify = None,
) -> None:
    """Run a runbook headless."""
    from helpers.runbook import parameters

    places = places_of(notify)

    runbook = parameters.describe(name)
    texts = _texts(parameter)
    plan = _fetched(plan)
    _refuse_own(texts, mode=mode, approve=approve, run_id=run_id, plan_file=plan)
    if plan:
        saved = _saved_plan(runbook, plan)
        values, run_id, mode = _agreed(runbook, saved["parameters"], texts, f"The plan in {plan}"), run_id or saved["run_id"], mode or "apply"
    else:
        values = parameters.convert(runbook.parameters, texts)
    values = _with_control(runbook, values, mode, approve, plan)
    raise typer.Exit(_launch(runbook, values, run_id or values.get("run_id", ""), notify=places))


@app.command()
def rehearse(
    name: Annotated[list[str] | None, typer.Argument(metavar="[RUNBOOK]...", help="Default: all that change AWS.")] = None,
    parameter: Parameters = None,
) -> None:
    """Rehearse runbooks on a local cloud with real engines: no AWS account is touched."""
    from helpers.runbook import parameters

    names = name or [name for name, path in parameters.names().items() if path.parent.name == "runbooks"]
    runbooks = [parameters.describe(one) for one in names]
    texts = _texts(parameter)
    _refuse_own(texts, mode="rehearse")
    from helpers.rehearsal import rehearse as rehearsal

    values = [parameters.convert(runbook.parameters, {**rehearsal.defaults(one), **texts}) for one, runbook in zip(names, runbooks, strict=True)]
    codes = [_launch(runbook, one, one.get("run_id", ""), "rehearse") for runbook, one in zip(runbooks, values, strict=True)]
    raise typer.Exit(_together(codes))


@app.command()
def resume(run_id: RunId, parameter: Parameters = None, approve: Approve = "", notify: Notify = None) -> None:
    """Go on with a run that failed, was stopped at a gate or was killed; what is done is not done again."""
    from helpers.fleet import commands
    from helpers.runbook import parameters

    known = _known_run(run_id)
    if known is None:
        raise typer.Exit(commands.resume(run_id, notify))
    places = places_of(notify)
    runbook = parameters.describe(known["runbook"])
    values = _agreed(runbook, known["parameters"], _texts(parameter), f"Run {run_id}")
    raise typer.Exit(_launch(runbook, _with_control(runbook, values, known["mode"], approve, ""), run_id, notify=places))


@app.command()
def rollback(
    run_id: RunId,
    mode: Annotated[str, typer.Option(help="plan lists what would be undone. [default: the run's own]")] = "",
    approve: Annotated[str, typer.Option(help="`rollback` approves that of a run; that of a fleet, the code which it prints.")] = "",
) -> None:
    """Undo what a run did, newest first; of a fleet, what all its runs did."""
    check_mode(mode)
    known = _known_run(run_id)
    if known is None:
        from helpers.fleet import rollback as fleet_rollback

        raise typer.Exit(fleet_rollback.roll_back(run_id, approve=approve, mode=mode))
    from helpers.runbook import GateNotPassed, bars, store
    from helpers.runbook import rollback as undo

    if known["mode"] == "rehearse":
        from helpers.rehearsal import rehearse as rehearsal

        cloud = rehearsal.on_its_cloud(known["runbook"], known["parameters"], store.runs_directory().resolve() / run_id)
    else:
        cloud = contextlib.nullcontext()
    with cloud, bars.on_a_terminal_only():
        try:
            result = undo(run_id, approve=approve, mode=mode).result()
        except GateNotPassed as error:
            _refuse(str(error))
            raise typer.Exit(store.NOT_APPROVED) from None
    print(f"\n{known['runbook']}: {result['status']} (exit code {result['exit_code']})")
    raise typer.Exit(result["exit_code"])


@app.command()
def cleanup(
    run_id: Annotated[str, typer.Argument(metavar="[RUN_ID]", help="Only what this run made, expired or not. [default: what is expired, of any run]")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only listed.")] = False,
    region: Annotated[str, typer.Option(help="[default: the profile's]")] = "",
    profile: Annotated[str, typer.Option(help="[default: the default credentials]")] = "",
    rehearsal: Annotated[bool, typer.Option("--rehearsal", help="Look in the shared local cloud; a rehearsed run's own is found by its RUN_ID.")] = False,
) -> None:
    """Find what debugging runs left behind after a crash; with --yes remove it and list again to prove it."""
    from helpers.aws import connect, explain

    with _cloud_of(run_id, rehearsal):
        aws = connect(profile=profile, region=region)
        try:
            _clean_up(aws, run_id, yes)
        except Exception as error:
            raise explain(error) from error


def _clean_up(aws: Any, run_id: str, yes: bool) -> None:
    from helpers.eventbridge import leftovers

    found = leftovers.left_behind(aws, run_id)
    print(f"account {aws.account}, {aws.region}: {len(found)} left behind{f' by run {run_id}' if run_id else ', expired'}")
    if found:
        print_table(("kind", "name", "run", "expires"), ((one.kind, one.name, one.run_id, one.expires) for one in found))
    if found and yes:
        leftovers.remove_all(aws, found)
        print(f"removed: {len(found)}; a new listing has {len(leftovers.left_behind(aws, run_id))}")
    elif found:
        print("nothing was removed: --yes removes them")


def _cloud_of(run_id: str, shared: bool) -> contextlib.AbstractContextManager[None]:
    """The local cloud that a rehearsed run is on, or the shared one, for as long as it is used; else the account of the AWS settings."""
    from helpers.runbook import store

    known = store.read_json(store.run_directory(checked_run_id(run_id)) / "run.json") if run_id else None
    if not shared and (known is None or known["mode"] != "rehearse"):
        return contextlib.nullcontext()
    from helpers.rehearsal import rehearse as rehearsal

    return rehearsal.at(None if shared else store.runs_directory().resolve() / run_id)


def _launch(runbook: Runbook, values: dict[str, Any], run_id: str, mode: str = "", notify: Sequence[str] = ()) -> int:
    """Execute one run, with its local cloud in a rehearsal; prints where its files are, tells those of `notify`; returns its exit code."""
    from helpers.runbook import analysis, store
    from helpers.runbook.execute import execute

    run_id = checked_run_id(run_id or store.new_run_id())
    directory = store.run_directory(run_id).resolve()
    reads_only = analysis.is_analysis(runbook.parameters)
    if mode and not reads_only:
        values = {**values, "mode": mode}
    mode = mode or values.get("mode") or (analysis.MODE if reads_only else next(p.default for p in runbook.parameters if p.name == "mode"))
    print(f"{runbook.name}: {mode}, run {run_id}", flush=True)
    if mode == "rehearse":
        from helpers.rehearsal import rehearse as rehearsal

        outcome = rehearsal.execute(runbook.path, values, directory)
    else:
        if mode == "apply" and values.get("plan_file"):
            from helpers.runbook.saved_plan import refuse_if_stale

            refuse_if_stale(runbook.path, values, directory)
        outcome = execute(runbook.path, values, run_directory=directory)
    _tell(runbook, outcome)
    if notify:
        from helpers.fleet.notify import Message, announce, event_of

        announce(notify, Message(run_id, event_of(mode, outcome.exit_code), mode, {outcome.status: 1}, outcome.exit_code, runbook=runbook.name))
    return outcome.exit_code


def _tell(runbook: Runbook, outcome: ExecutionResult) -> None:
    """The end of a run in a few lines: status, numbers, files, and how to go on."""
    from helpers.runbook import store

    metrics = {name: value for name, value in outcome.result.get("metrics", {}).items() if isinstance(value, int | float | str)}
    print(f"\n{runbook.name}: {outcome.status} (exit code {outcome.exit_code})")
    for name, value in metrics.items():
        print(f"  {name:28} {value:,.1f}" if isinstance(value, float) else f"  {name:28} {value}")
    for file in ("output.ipynb", "report.html", "plan.json", "result.json"):
        if (outcome.directory / file).exists():
            print(f"  {shown_path(outcome.directory / file)}")
    if place := store.shared():
        print(f"  {place.address}/{outcome.run_id}")
    sys.stdout.flush()
    if outcome.error:
        print(f"runbook: {outcome.error}", file=sys.stderr)
    if outcome.status in {"failed", "not approved", "in doubt"} and (outcome.directory / "run.json").exists():
        print(f"runbook: go on with `runbook resume {outcome.run_id}`, or back with `runbook rollback {outcome.run_id}`", file=sys.stderr)


def _together(codes: list[int]) -> int:
    """One exit code for several runs: theirs where they agree, else 4 (some failed)."""
    return codes[0] if len(set(codes)) == 1 else 4 if codes else 0


# -- input ---------------------------------------------------------------------------------------------


def _texts(parameters: Iterable[str] | None) -> dict[str, str]:
    """`NAME=VALUE` arguments as a dict; the text after the first `=` stays as it is."""
    from helpers.runbook.parameters import ParameterError

    texts: dict[str, str] = {}
    faults = []
    for one in parameters or ():
        name, equals, text = one.partition("=")
        if not equals or not name.isidentifier():
            faults.append(f"-p {one} is not of the form NAME=VALUE.")
        elif name in texts:
            faults.append(f"-p {name} is given twice.")
        texts[name] = text
    if faults:
        raise ParameterError(faults)
    return texts


def _agreed(runbook: Runbook, known: dict[str, Any], texts: dict[str, str], what: str) -> dict[str, Any]:
    """The values that a run or a plan was made with; refuses parameters given now that differ from them."""
    from helpers.aws.errors import RunbookError
    from helpers.runbook import parameters

    given = parameters.convert([replace(p, required=False) for p in runbook.parameters], texts)
    changed = sorted(name for name, value in given.items() if known.get(name) != value)
    if changed:
        raise RunbookError(f"{what} has another {', '.join(changed)}.", "Leave -p out, or start a new run.")
    declared = {p.name for p in runbook.parameters}
    return {name: value for name, value in known.items() if name in declared}


def _fetched(plan: str) -> str:
    """The path of a saved plan; one in the shared store, named by its address, is fetched."""
    from helpers.runbook import store

    place = store.shared()
    if place is None or not plan.startswith(f"{place.address}/"):
        return plan
    run_id, _, name = plan.removeprefix(f"{place.address}/").rpartition("/")
    return str(store.run_directory(checked_run_id(run_id)) / name)


def _saved_plan(runbook: Runbook, file: str) -> dict[str, Any]:
    """The plan in a file. Raises `RunbookError` where it holds none of this runbook."""
    from helpers.aws.errors import RunbookError

    try:
        plan = json.loads(Path(file).read_text(encoding="utf-8"))
        known = plan["runbook"], plan["run_id"], plan["parameters"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunbookError(f"{file} cannot be read as a plan: {error}.", "Save one with --mode plan: runs/<run id>/plan.json.") from error
    if known[0] != runbook.name:
        raise RunbookError(f"{file} is a plan of {known[0]}, not of {runbook.name}.")
    return plan


def _with_control(runbook: Runbook, values: dict[str, Any], mode: str, approve: str, plan: str) -> dict[str, Any]:
    """The values with those that say how to run, which have options of their own."""
    from helpers.aws.errors import RunbookError

    check_mode(mode)
    _check_gates(runbook, approve)
    if plan and mode != "apply":
        raise RunbookError(f"A saved plan is applied; --mode {mode} and --plan do not go together.", "Leave --mode out.")
    control = {"mode": mode, "approve": approve, "plan_file": str(Path(plan).resolve()) if plan else ""}
    return {**values, **{name: value for name, value in control.items() if value}}


def _refuse_own(texts: dict[str, str], **options: str) -> None:
    """A parameter and its option must not contradict each other."""
    from helpers.runbook.parameters import ParameterError

    faults = [f"-p {name}={texts[name]} and --{name.replace('_', '-')} {value} differ." for name, value in options.items() if value and texts.get(name, value) != value]
    if faults:
        raise ParameterError(faults, "Give the option only.")


def check_mode(mode: str) -> None:
    from helpers.aws.errors import RunbookError

    if mode and mode not in MODES:
        raise RunbookError(f"There is no mode {mode!r}.", f"Choose {', '.join(MODES)}.")


def _check_gates(runbook: Runbook, approve: str) -> None:
    from helpers.aws.errors import RunbookError

    unknown = [gate for gate in (part.strip() for part in approve.split(",")) if gate and gate not in runbook.gates]
    if unknown:
        raise RunbookError(f"{runbook.name} has no gate {', '.join(unknown)}.", f"Its gates: {', '.join(runbook.gates) or 'none'}.")


def checked_run_id(run_id: str) -> str:
    """A run id is the name of a folder, so it must not lead elsewhere."""
    from helpers.aws.errors import RunbookError

    if not RUN_ID.fullmatch(run_id):
        raise RunbookError(f"{run_id!r} cannot be a run id.", "Use letters, digits, dots, dashes and underscores.")
    return run_id


def _known_run(run_id: str) -> dict[str, Any] | None:
    """What a run was begun with; None where it is a fleet. Raises `RunbookError` where it is neither."""
    from helpers.fleet.record import RECORD
    from helpers.runbook import store

    directory = store.run_directory(checked_run_id(run_id))
    if (directory / RECORD).exists():
        return None
    known = store.read_json(directory / "run.json")
    if known is None:
        raise store.missing(directory)
    return known


# -- the local cloud -----------------------------------------------------------------------------------


@cloud_app.command("up")
def cloud_up(
    scenario: Annotated[str, typer.Option(help="What to seed it with; `none` leaves it empty.")] = "redis_upgrade",
) -> None:
    """Start the shared local cloud; prints the variables to set: eval "$(runbook cloud up)"."""
    from helpers.rehearsal import rehearse as rehearsal

    for name, value in rehearsal.up(scenario).items():
        print(f"export {name}={shlex.quote(value)}")


@cloud_app.command("down")
def cloud_down(
    run_id: Annotated[str, typer.Argument(metavar="[RUN_ID]", help="End the cloud that this run kept instead of the shared one.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="End the shared one and those of all runs.")] = False,
) -> None:
    """End a local cloud with all its servers; what it held is gone."""
    from helpers.rehearsal import rehearse as rehearsal

    ended = rehearsal.down(checked_run_id(run_id) if run_id else "", everything=all_)
    print("\n".join(f"ended: {shown_path(one)}" for one in ended) or "no local cloud was running")


@cloud_app.command("status")
def cloud_status() -> None:
    """Show the local clouds that run."""
    from helpers.rehearsal import rehearse as rehearsal

    rows = [(shown_path(cloud.directory), cloud.endpoint, str(cloud.pid), cloud.started_at) for cloud in rehearsal.running()]
    if rows:
        return print_table(("cloud", "endpoint", "pid", "started"), rows)
    return print("no local cloud is running")


@cloud_app.command("fail")
def cloud_fail(node: Annotated[str, typer.Argument(metavar="NODE_ID", help="A member cluster, as `sessions-001`.")]) -> None:
    """Kill the process of a node, as a failing machine does: see what the group does, and what it costs."""
    from helpers.rehearsal import rehearse as rehearsal

    print(f"killed: {node}, process {rehearsal.fail(node)}")


@cloud_app.command("prepare", hidden=True)
def cloud_prepare(name: str, run_directory: Annotated[Path, typer.Option()]) -> None:
    """For the engine, when a notebook is opened in JupyterLab: print the variables of the run's cloud as JSON."""
    from helpers.rehearsal import rehearse as rehearsal

    values = json.loads(os.environ.get("RUNBOOK_PARAMETERS", "{}"))
    print(json.dumps(rehearsal.prepare(name, values, run_directory.resolve())))


# -- printing ------------------------------------------------------------------------------------------


def print_table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 200  # a pipe has no width: do not cut what a program reads
    console.print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def shown_path(path: Path) -> str:
    """A path as short as it can be written from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


if __name__ == "__main__":
    main()
