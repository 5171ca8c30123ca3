"""Rehearse a run: give it a local cloud, seeded with the runbook's scenario, and end the cloud when nobody needs it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from helpers.aws.errors import RunbookError, explain
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import engines
from helpers.runbook import parameters, store
from helpers.runbook.journal import Journal

if TYPE_CHECKING:
    from helpers.runbook.execute import ExecutionResult

SHARED = Path(__file__).resolve().parents[2] / ".rehearsal"  # the cloud of `runbook cloud up`
RECORD = "rehearsal.json"  # in a run's folder: which cloud is the run's
OVER = {"done", "rolled back", "planned"}  # after these nothing is left to resume


def execute(runbook: Path, values: Mapping[str, Any], run_directory: Path, *, alone: bool = False, **options: Any) -> ExecutionResult:
    """Run a runbook's notebook in mode rehearse on its local cloud; the cloud stays only for a run to be resumed.

    `alone`: on a cloud of its own, also where the shared one runs, which ends in any case: for one of many. `options`
    are those of `helpers.runbook.execute`.
    """
    from helpers.runbook.execute import execute as execute_notebook

    with contextlib.ExitStack() as stack:
        if alone:
            stack.callback(_end, run_directory / "cloud")
        variables = prepare(runbook.stem, values, run_directory, alone=alone)
        try:
            return execute_notebook(runbook, values, run_directory=run_directory, environment=kernel_environment(variables), **options)
        finally:
            if not alone and not release(run_directory):
                print(f"The local cloud stays for `runbook resume {run_directory.name}`; `runbook cloud down {run_directory.name}` ends it.", flush=True)


@contextlib.contextmanager
def on_its_cloud(runbook: str, parameters: Mapping[str, Any], run_directory: Path) -> Iterator[None]:
    """Lead this process to the local cloud of a run, which ends afterwards where the run is over (rolled back)."""
    before = dict(os.environ)
    environment = kernel_environment(prepare(runbook, parameters, run_directory))
    try:
        _become(environment)
        yield
    finally:
        _become(before)
        release(run_directory)


@contextlib.contextmanager
def at(run_directory: Path | None = None) -> Iterator[None]:
    """Lead this process to the cloud of a run, or to the shared one, as it stands. Raises `RunbookError` where it does not run."""
    record = store.read_json(run_directory / RECORD) if run_directory else None
    cloud = clouds.attach(Path(record["cloud"]) if record else SHARED)
    if cloud is None:
        raise RunbookError("That local cloud does not run, so nothing is left in it.", "`runbook cloud status` shows those that run.")
    before = dict(os.environ)
    try:
        _become(kernel_environment({**cloud.environment(), **_no_proxy()}))
        yield
    finally:
        _become(before)


def _become(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def prepare(runbook: str, parameters: Mapping[str, Any], run_directory: Path, *, alone: bool = False) -> dict[str, str]:
    """The variables that point a run at its local cloud, which is started and seeded where that has not been done.

    A run keeps its cloud: a resumed one is attached again. What is seeded follows the run's parameters (the
    group, its kind, the bucket, the setting: `scenario.PARAMETERS`). A new run takes the shared cloud (`runbook cloud up`)
    if that runs and it need not be `alone`, else one of its own in its folder. Raises `RunbookError` where the cloud of a run that has begun
    is gone, because the servers held its state. RUNBOOK_SAMPLES is the folder of what a scenario made to be pushed.
    """
    run_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    cloud = _known(run_directory) or (None if alone else clouds.attach(SHARED)) or _start(run_directory / "cloud")
    _seed(cloud, scenario_of(runbook), parameters, fresh=not _has_begun(run_directory))
    store.write_json(run_directory / RECORD, {"cloud": str(cloud.directory), "runbook": runbook})
    return {**cloud.environment(), **_no_proxy(), "RUNBOOK_LOCAL_CLOUD": str(run_directory), "RUNBOOK_SAMPLES": str(cloud.directory / clouds.SAMPLES)}


def defaults(runbook: str) -> dict[str, str]:
    """Parameters for a rehearsal: an analysis looks at the local cloud and not at its sample, and an upgrade is one between engines installed here.

    Redis 6.2 has no wheel for every platform; then the oldest pair that has one is taken.
    """
    scenario = scenario_of(runbook)
    if scenario and any(one.name == "sample" for one in parameters.load(parameters.find(runbook))):
        return {"sample": "false"}
    if scenario != "redis_upgrade":
        return {}
    old, new = engines.pair()
    if (old.name, old.minor) == ("redis", "6.2") and (new.name, new.minor) == engines.PREFERRED_TARGET:
        return {}
    print(f"Redis 6.2 and Valkey 8.1 are not both to be had here: the rehearsal goes from {old.name} {old.minor} to {new.name} {new.minor}.", flush=True)
    return {"engine": new.name, "engine_version": new.minor}


def release(run_directory: Path) -> bool:
    """End the run's own cloud unless the run can be resumed; returns False where it was kept for that."""
    record = store.read_json(run_directory / RECORD)
    if record is None or Path(record["cloud"]) == SHARED:
        return True
    status = (store.read_json(run_directory / "result.json") or {}).get("status")
    if status not in OVER and _has_begun(run_directory):
        return False
    _end(Path(record["cloud"]))
    return True


def kernel_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with the cloud's variables in place of every AWS setting of the user.

    A profile, a role or an endpoint of one service that stayed would lead a rehearsal to a real account.
    """
    return {**{name: value for name, value in os.environ.items() if not name.startswith("AWS_")}, **variables}


def up(scenario: str) -> dict[str, str]:
    """Start, or find, the shared cloud, seed it with a scenario (`none` for none); returns its variables."""
    cloud = _start(SHARED)
    _seed(cloud, "" if scenario == "none" else scenario, {}, fresh=False)
    return cloud.environment()


def down(run_id: str = "", *, everything: bool = False) -> list[Path]:
    """End the shared cloud, or that of a run, or all; returns the folders of those that ran."""
    one = store.runs_directory().resolve() / run_id / "cloud" if run_id else SHARED
    return [path for path in (_folders() if everything else [one]) if _end(path)]


def running() -> list[clouds.Cloud]:
    """The local clouds that run."""
    return [cloud for cloud in map(clouds.attach, _folders()) if cloud]


def fail(node: str) -> int:
    """Kill the process of a node in whichever running cloud has it; returns the process id."""
    clouds_running = running()
    for cloud in clouds_running:
        with contextlib.suppress(clouds.CloudFailed):
            return cloud.fail(node)
    known = [name for cloud in clouds_running for group in cloud.status()["groups"].values() for name in group["nodes"]]
    raise RunbookError(f"No local cloud has a node {node!r}; there is {', '.join(known) or 'none'}.", "`runbook cloud status` shows the clouds that run.")


def scenario_of(runbook: str) -> str:
    """The scenario that a runbook is rehearsed on: the one of its name, or none."""
    from helpers.rehearsal.scenario import SCENARIOS

    name = Path(runbook).stem
    return name if name in SCENARIOS else ""


def _folders() -> list[Path]:
    return [SHARED, *(path.parent for path in sorted(store.runs_directory().resolve().glob("*/cloud/cloud.json")))]


def _known(run_directory: Path) -> clouds.Cloud | None:
    """The cloud that the run has begun on; None for a run that has not begun."""
    record = store.read_json(run_directory / RECORD)  # which stays on the machine of the cloud
    cloud = clouds.attach(Path(record["cloud"])) if record else None
    if cloud is None and _has_begun(run_directory):
        where = "has ended" if record else "is not on this machine or has ended"
        raise RunbookError(f"The local cloud of run {run_directory.name} {where}, and its servers with the run's state.", "Start a new rehearsal.")
    return cloud


def _start(directory: Path) -> clouds.Cloud:
    try:
        return clouds.up(directory)
    except clouds.CloudFailed as error:
        raise RunbookError(str(error), "The rehearsal needs the extra of that name: `uv sync --all-extras`.") from error


def _has_begun(run_directory: Path) -> bool:
    """True where the run has acted on the cloud."""
    return bool(Journal(run_directory / "journal.jsonl", read_only=True).of_type("intent"))


def _seed(cloud: clouds.Cloud, name: str, parameters: Mapping[str, Any], *, fresh: bool) -> None:
    """Make the scenario that a run with these parameters needs; `fresh`: a new run begins, which needs it as seeded."""
    from helpers.rehearsal.scenario import SCENARIOS, ScenarioFailed, options_of

    if not name:
        return
    if name not in SCENARIOS:
        raise RunbookError(f"There is no scenario {name!r}.", f"Choose {', '.join(SCENARIOS)} or none.")
    try:
        made = SCENARIOS[name](cloud, fresh=fresh, **options_of(parameters, name))
    except ScenarioFailed as error:
        raise RunbookError(str(error)) from error
    except ClientError as error:
        raise explain(error) from error
    for note in made.notes:
        print(note, file=sys.stderr)


def _end(directory: Path) -> bool:
    """End a cloud and the applications that use it; returns whether it ran."""
    from helpers.rehearsal.scenario import stop_applications

    stop_applications(directory)
    return clouds.down(directory)


def _no_proxy() -> dict[str, str]:
    """Keep a company's proxy out of calls to this machine."""
    known = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    names = ",".join(filter(None, [known, "127.0.0.1", "localhost"]))
    return {"NO_PROXY": names, "no_proxy": names}
