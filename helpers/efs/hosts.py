"""Run one shell script on this machine, or on EC2 hosts at once through SSM Run Command."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.aws import RunbookError, act, explain, planning
from helpers.aws.errors import error_code

HERE = "this machine"
PLANNED, TIMED_OUT = -1, 124  # exit codes: held back by a plan; what timeout(1) ends with
DOCUMENT = "AWS-RunShellScript"
MOST_HOSTS = 50  # a call, https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html
DELIVERY_S = 60  # how long SSM tries to reach a host
WAITING = {"Pending", "InProgress", "Delayed"}
PAUSE_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """What a script did on one host; `status` is SSM's, or empty on this machine."""

    host: str
    exit_code: int
    stdout: str
    stderr: str
    status: str = ""


Runner = Callable[[str, float], Outcome]


def run_here(script: str, seconds: float) -> Outcome:
    """Run a script with sh on this machine; after `seconds` it and its children are killed and the exit code is 124."""
    environment = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"}
    process = subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", env=environment, start_new_session=True
    )  # fmt: skip
    try:
        said, failed = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as late:
        os.killpg(process.pid, signal.SIGKILL)  # a child inside the kernel's NFS client ends late: it is not waited for
        return Outcome(HERE, TIMED_OUT, _text(late.stdout), _text(late.stderr))
    return Outcome(HERE, process.returncode, said, failed)


def run_on(
    hosts: Sequence[str], script: str, *, what: str, seconds: float, ssm: Any = None, runner: Runner = run_here
) -> list[Outcome]:
    """Run a script on EC2 instances (`i-…`) through SSM, or on this machine where `hosts` is empty; one outcome a host.

    `what` names the act in a run's journal (`Mount`). In a plan nothing is run and the exit code is -1.
    Raises RunbookError where SSM refuses the command; a host that cannot be reached is an outcome with its status.
    """
    if not hosts:
        return [act("efs", what, HERE, lambda: runner(script, seconds)) or Outcome(HERE, PLANNED, "", "")]
    if ssm is None:
        raise RunbookError("Hosts are named, but there is no SSM client to reach them.", 'Give `ssm=aws.client("ssm")`.')
    return [one for first in range(0, len(hosts), MOST_HOSTS) for one in _send(hosts[first : first + MOST_HOSTS], script, what, seconds, ssm)]


def _send(hosts: Sequence[str], script: str, what: str, seconds: float, ssm: Any) -> list[Outcome]:
    try:
        command = ssm.send_command(
            InstanceIds=list(hosts),
            DocumentName=DOCUMENT,
            Comment=f"aws-runbooks: {what}",
            TimeoutSeconds=DELIVERY_S,
            Parameters={"commands": [script], "executionTimeout": [str(max(1, round(seconds)))]},
        )["Command"]["CommandId"]
    except Exception as error:
        raise _unreachable(error, hosts) from error
    if planning():
        return [Outcome(host, PLANNED, "", "") for host in hosts]
    end = time.monotonic() + seconds + DELIVERY_S
    return [_awaited(ssm, command, host, end) for host in hosts]


def _awaited(ssm: Any, command: str, host: str, end: float) -> Outcome:
    """The end of a command on one host."""
    while True:
        try:
            found = ssm.get_command_invocation(CommandId=command, InstanceId=host)
        except Exception as error:
            if error_code(error) != "InvocationDoesNotExist":  # for a second after it was sent
                raise explain(error) from error
            found = {"Status": "Pending"}
        if found["Status"] not in WAITING:
            return Outcome(host, found.get("ResponseCode", 1), found.get("StandardOutputContent", ""), found.get("StandardErrorContent", ""), found["Status"])
        if time.monotonic() > end:
            return Outcome(host, TIMED_OUT, "", "", f"still {found['Status']}")
        time.sleep(PAUSE_S)


def _unreachable(error: Exception, hosts: Sequence[str]) -> RunbookError:
    if error_code(error) == "InvalidInstanceId":
        remedy = "The hosts must run, have the SSM agent and an instance profile with AmazonSSMManagedInstanceCore; `aws ssm describe-instance-information` lists those that SSM reaches."
        return RunbookError(f"SSM does not reach all of {', '.join(hosts)}.", remedy, explain(error).request_id)
    return explain(error)


def _text(data: str | bytes | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""
