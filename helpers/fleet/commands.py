"""`runbook fleet`: any runbook over many targets, with limits, one approval and one report."""

from __future__ import annotations

import getpass
import sys
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

# Whatever costs time to import is imported where it is used: help comes at once.
if TYPE_CHECKING:
    from collections.abc import Sequence

    from helpers.fleet.cluster import Cluster
    from helpers.fleet.file import Fault
    from helpers.fleet.limits import Limits
    from helpers.fleet.record import Outcome, Record
    from helpers.fleet.targets import Target

NO_CLUSTER = "none"

Notify = Annotated[list[str] | None, typer.Option(metavar="WHERE", help="Tell an SNS topic or an event bus (ARN), or slack, when it waits for approval, fails or ends. Repeat.")]


def fleet(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A fleet file, YAML or CSV; not needed with --plan, --resume or --retry-failed.")] = None,
    mode: Annotated[str, typer.Option(help="rehearse (each run on a local cloud of its own), plan, apply, or read (analyses only). [default: rehearse]")] = "",
    runbook: Annotated[str, typer.Option(help="The runbook of targets that name none.")] = "",
    max_concurrency: Annotated[str, typer.Option(metavar="N|%", help="Runs at once. [default: 10; rehearsals: as many as processors]")] = "",
    max_errors: Annotated[str, typer.Option(metavar="N|%", help="How many may fail before nothing more is begun. [default: apply 0, else 100%]")] = "",
    canary: Annotated[str, typer.Option(metavar="N|%", help="Run so many first, and the others only if all of them end well. [default: apply 1, else 0]")] = "",
    waves: Annotated[str, typer.Option(metavar="N|%,...", help="Then the others in waves of these sizes; what is left is the last wave.")] = "",
    run_id: Annotated[str, typer.Option(help="The fleet run's name. [default: the time]")] = "",
    plan: Annotated[str, typer.Option(metavar="RUN", help="Apply the plan of this fleet run.")] = "",
    approve: Annotated[str, typer.Option(metavar="CODE", help="The code of the fleet's plan: it approves that plan, with its gates, and no other.")] = "",
    retry_failed: Annotated[str, typer.Option(metavar="RUN", help="Run only those again that failed in this fleet run.")] = "",
    resume: Annotated[str, typer.Option(metavar="RUN", help="Go on with a fleet run that was interrupted or stopped: those that have not ended.")] = "",
    notify: Notify = None,
    cluster: Annotated[
        str, typer.Option(metavar="tcp://HOST:PORT|local", help="Run on the workers of a Dask cluster; local: one in this process. [default: threads of this process; --resume and --plan: as before, `none` for threads]")
    ] = "",
    cold: Annotated[bool, typer.Option("--cold", help="A new process for each kernel instead of a fork of a warm one.")] = False,
) -> None:
    """Run runbooks and analyses over many accounts, regions and resources: canary, waves, limits, one report; of analyses one capacity report."""
    from helpers.fleet import record

    earlier = [one for one in (plan, retry_failed, resume) if one]
    _refuse_contradictions(file, mode, run_id, plan, earlier)
    asked = (max_concurrency, max_errors, canary, waves)
    places = places_of(notify)
    if earlier:
        with _loaded(earlier[0]) as kept:
            mode = "apply" if plan else mode or kept.mode
            _refuse_another(kept, mode, file, runbook)
            targets = [one for one in kept.targets if not one.reads_only] if plan else [one.target for one in kept.outcomes(mode) if _wanted(one, bool(retry_failed))]
            raise typer.Exit(_run_earlier(kept, mode, targets, _limits(mode, *asked), approve, cold, cluster, places))
    mode = mode or "rehearse"
    if mode == "apply":
        from helpers.aws.errors import RunbookError

        raise RunbookError("A fleet is applied by its plan.", "Plan it (--mode plan), review runs/<id>/index.html, then --plan <id> --approve <code>.")
    limits = _limits(mode, *asked)
    with ExitStack() as stack:
        targets, faults = _read(file, runbook, mode)
        joined = _joined(stack, "" if cluster == NO_CLUSTER else cluster, targets, limits, mode, cold, faults)
        _refuse_faults(file, faults)
        kept = stack.enter_context(closing(record.create(_new_id(run_id), file.name, mode, targets)))  # type: ignore[union-attr]
        raise typer.Exit(run(kept, mode, targets, limits, cold=cold, cluster=joined, notify=places))


def resume(fleet_id: str, notify: list[str] | None = None) -> int:
    """Go on with a fleet run, as `runbook resume` is asked to; returns its exit code."""
    places = places_of(notify)
    with _loaded(fleet_id) as kept:
        targets = [one.target for one in kept.outcomes() if _wanted(one, False)]
        return _run_earlier(kept, kept.mode, targets, _limits(kept.mode, "", "", "", ""), "", False, "", places)


def _loaded(fleet_id: str) -> closing[Record]:
    from helpers.fleet import record

    return closing(record.load(fleet_id))


def _run_earlier(kept: Record, mode: str, targets: Sequence[Target], limits: Limits, approve: str, cold: bool, cluster: str, places: Sequence[str] = ()) -> int:
    """Run targets of a fleet run that exists, where it was run before; an apply only where its plan is approved (exit code 3 where it is not)."""
    from helpers.fleet import approval
    from helpers.fleet.file import Fault
    from helpers.runbook import store

    with ExitStack() as stack:
        faults: list[Fault] = []
        joined = _joined(stack, "" if cluster == NO_CLUSTER else cluster or _cluster_of(kept), targets, limits, mode, cold, faults)
        _refuse_faults(kept.directory, faults)
        if mode == "apply":
            try:
                approval.approve(kept, approval.planned(kept), approve or _typed(kept), user())
            except approval.FleetNotApproved as error:
                print(f"runbook: {error}", file=sys.stderr)
                _announce(kept, mode, store.NOT_APPROVED, places)
                return store.NOT_APPROVED
        return run(kept, mode, targets, limits, cold=cold, cluster=joined, notify=places)


def _cluster_of(kept: Record) -> str:
    """The address of the cluster that a fleet run was on last; empty where it was on threads."""
    started = kept.journal.of_type("started")
    return started[-1].get("cluster", "") if started else ""


def _joined(stack: ExitStack, address: str, targets: Sequence[Target], limits: Limits, mode: str, cold: bool, faults: list[Fault]) -> Cluster | None:
    """The cluster at an address, for as long as the stack lives; what is wrong with it or its workers is added to the faults."""
    if not address:
        return None
    from helpers.aws.errors import RunbookError
    from helpers.fleet import cluster
    from helpers.fleet.file import Fault

    try:
        cluster.checked(address)
        if faults and address == cluster.LOCAL:
            return None  # nothing will run, and there is nothing to find out
        joined = stack.enter_context(cluster.Cluster(address, limits.at_once(len(targets)), warm=not cold))
        faults += [Fault(0, one) for one in joined.faults(targets, mode)]
    except RunbookError as error:
        faults.append(Fault(0, str(error)))
        return None
    return joined


def run(kept: Record, mode: str, targets: Sequence[Target], limits: Limits, *, cold: bool = False, cluster: Cluster | None = None, notify: Sequence[str] = ()) -> int:
    """Run targets of a fleet, write its report, say where it is, and tell those who want to know; returns the fleet's exit code."""
    from helpers.fleet import approval, capacity, record, report
    from helpers.fleet.launch import Kernels, launcher
    from helpers.fleet.run import Fleet
    from helpers.fleet.view import view
    from helpers.fleet.warm import WarmKernels
    from helpers.rehearsal import rehearse

    kept.journal.write("started", mode=mode, who=user(), targets=len(targets), limits=vars(limits), cluster=cluster.address if cluster else "")
    at_once = f"at most {limits.at_once(len(targets))} at once{f', on {cluster.size}' if cluster else ''}"
    print(f"fleet {kept.id}: {mode}, {len(targets)} of {len(kept.targets)} targets, {at_once}", flush=True)
    with ExitStack() as stack:
        if cluster:
            launch, interrupt = cluster.launcher(kept, mode, rehearse.execute), cluster.interrupter(kept)
        else:
            kernels = Kernels(None if cold else stack.enter_context(WarmKernels()))
            launch, interrupt = launcher(kept, mode, kernels, rehearse.execute), kernels.interrupt
        shown = stack.enter_context(view())
        if cluster and (earlier := cluster.join_earlier(kept)):
            shown.said(f"{earlier} of its runs still run for a coordinator that has gone: they are waited for, then gone on with")
        running = Fleet(kept, mode, limits, launch, shown, interrupt=interrupt, fresh=mode == "rehearse", where=cluster.where if cluster else None)
        try:
            running.run(targets)
        finally:
            outcomes = kept.outcomes(mode)
            code = record.exit_code(outcomes)
            kept.journal.write("ended", mode=mode, exit_code=code, stopped=running.stopped)
    facts = ""
    if mode == "plan":
        made = approval.save(kept)
        facts = f"The plan has {made['writes']} writes and {made['gates']} gates. Code: {approval.code(made)}."
    capacity.write(kept)
    report.write(kept, facts)
    _tell(kept, outcomes, running.stopped, code, facts)
    _announce(kept, mode, code, notify, running.stopped)
    return code


def _announce(kept: Record, mode: str, code: int, places: Sequence[str], stopped: str = "") -> None:
    """Tell those who want to know how the fleet stands."""
    if places:
        from helpers.fleet.notify import Message, announce, event_of

        announce(places, Message(kept.id, event_of(mode, code), mode, dict(Counter(one.status for one in kept.outcomes(mode))), code, stopped))


def _tell(kept: Record, outcomes: Sequence[Outcome], stopped: str, code: int, facts: str) -> None:
    """The end of a fleet run in a few lines, and how to go on."""
    from helpers.cli import shown_path
    from helpers.fleet.record import INTERRUPTED, NEVER

    counts = Counter(one.status for one in outcomes)
    print(f"\nfleet {kept.id}: {', '.join(f'{count} {status}' for status, count in counts.items())} (exit code {code})")
    for file in ("index.html", "results.csv", "capacity.html", "capacity.csv"):
        if (kept.directory / file).exists():
            print(f"  {shown_path(kept.directory / file)}")
    sys.stdout.flush()
    on = []
    if stopped:
        print(f"runbook: stopped: {stopped}", file=sys.stderr)
    if counts[NEVER] + counts[INTERRUPTED]:
        on.append(f"go on with `runbook fleet --resume {kept.id}`")
    if any(not one.good and one.status not in (NEVER, INTERRUPTED) for one in outcomes):
        on.append(f"run those that failed again with `runbook fleet --retry-failed {kept.id}`")
    if facts and code in (0, 2):
        on.append(f"{facts} Review it, then `runbook fleet --plan {kept.id} --approve {facts.split()[-1].rstrip('.')}`")
    for line in on:
        print(f"runbook: {line}", file=sys.stderr)


# -- input ---------------------------------------------------------------------------------------------


def _read(file: Path | None, runbook: str, mode: str) -> tuple[list[Target], list[Fault]]:
    """The targets of a file, and its faults: its words, its runbooks, and for a real account its accounts and its query."""
    from helpers.fleet import accounts, query
    from helpers.fleet.file import Fault, FleetFileError, read
    from helpers.fleet.targets import resolve

    assert file is not None
    try:
        told = read(file, runbook)
    except FleetFileError as error:
        return [], error.faults
    entries = list(told.entries)
    faults: list[Fault] = []
    if told.query:
        places, faults = resolve(told.query.places, mode, places=True)
        faults += query.faults_of(told.query)
        if mode == "rehearse":
            faults.append(Fault(told.query.line, "A query asks a real account, which a rehearsal has not: list targets, or use --mode plan."))
        if faults:
            faults += accounts.unreachable(places) if mode != "rehearse" else []
        else:
            entries, faults = query.find(told.query)
            if not entries and not faults:
                faults = [Fault(told.query.line, "The query finds nothing.")]
    targets, wrong = resolve(entries, mode)
    faults += wrong
    if mode != "rehearse":
        faults += accounts.unreachable(targets)
    return targets, faults


def _refuse_faults(path: Path | None, faults: Sequence[Fault]) -> None:
    """Raise what is wrong with a fleet, all of it in one list, before anything runs."""
    if faults:
        from helpers.fleet.file import FleetFileError

        assert path is not None
        raise FleetFileError(path.name, faults)


def _limits(mode: str, concurrency: str, errors: str, canary: str, waves: str) -> Limits:
    from helpers.fleet.launch import processors
    from helpers.fleet.limits import Limits, checked

    apply = mode == "apply"
    sizes = tuple(part.strip() for part in waves.split(",") if part.strip())
    return checked(Limits(concurrency or (str(processors()) if mode == "rehearse" else "10"), errors or ("0" if apply else "100%"), canary or ("1" if apply else "0"), sizes))


def _refuse_contradictions(file: Path | None, mode: str, run_id: str, plan: str, earlier: list[str]) -> None:
    from helpers.aws.errors import RunbookError
    from helpers.cli import checked_run_id, check_mode

    if mode != "read":
        check_mode(mode)
    for one in (*earlier, *([run_id] if run_id else [])):
        checked_run_id(one)
    if len(earlier) > 1:
        raise RunbookError("--plan, --resume and --retry-failed do not go together.", "Give one of them.")
    if file is None and not earlier:
        raise RunbookError("There is no fleet file.", "Name one: runbook fleet FILE --mode plan.")
    if run_id and earlier:
        raise RunbookError(f"--run-id names a new fleet run, and {earlier[0]} is one already.", "Leave --run-id out.")
    if plan and mode not in ("", "apply"):
        raise RunbookError(f"A fleet's plan is applied; --mode {mode} and --plan do not go together.", "Leave --mode out.")


def _refuse_another(kept: Record, mode: str, file: Path | None, runbook: str) -> None:
    """A fleet run keeps its mode, but for a plan that is applied, and its file."""
    from helpers.aws.errors import RunbookError
    from helpers.fleet.record import same_targets

    if "rehearse" in (mode, kept.told["mode"]) and mode != kept.told["mode"]:
        raise RunbookError(f"Fleet {kept.id} was started in mode {kept.told['mode']}, not {mode}.", "Start a new one.")
    if file is None:
        return
    targets, faults = _read(file, runbook, mode)
    _refuse_faults(file, faults)
    if not same_targets(kept, targets):
        raise RunbookError(f"{file.name} is not what fleet {kept.id} was made of.", "Leave FILE out, or make a new plan.")


def _wanted(outcome: Outcome, failed: bool) -> bool:
    """Whether a target is run again: one that failed, or, going on, one that has not ended."""
    from helpers.fleet.record import INTERRUPTED, NEVER

    open_ones = (NEVER, INTERRUPTED)
    return not outcome.good and outcome.status not in open_ones if failed else outcome.status in open_ones


def places_of(notify: list[str] | None) -> tuple[str, ...]:
    """Whom to tell, looked at before anything runs."""
    if not notify:
        return ()
    from helpers.fleet.notify import checked

    return checked(notify)


def _new_id(run_id: str) -> str:
    from helpers.runbook import store

    return run_id or store.new_run_id()


def typed_code(question: str) -> str:
    """The code that somebody at a terminal types after the review; empty where nobody can be asked."""
    return input(question).strip() if sys.stdin.isatty() and sys.stdout.isatty() else ""


def _typed(kept: Record) -> str:
    """The code of the plan; empty also where it was approved before."""
    return "" if kept.journal.of_type("approved") else typed_code(f"Type the code of the plan of fleet {kept.id} (in {kept.id}/index.html) to apply it: ")


def user() -> str:
    """Who runs this."""
    try:
        return getpass.getuser()
    except Exception:  # no such user in a container
        return "unknown"
