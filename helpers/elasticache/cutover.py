"""The switch: freeze writes on one group, carry the last keys, point the application at the other, and back.

Order matters. Writes are frozen for a bounded time that the server itself ends; the last keys are carried and
compared; just before the parameter changes the freeze is prolonged, so that a process killed right after it
leaves no time in which the left group would still take a write; then its clients are disconnected (what they
had waiting is dropped unacknowledged) and the group is made to refuse writes before the freeze is lifted.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass, replace

import pandas as pd
from redis.exceptions import RedisError

from helpers.aws import Aws, RunbookError, act, effect, planning, wait
from helpers.aws.calls import unguarded
from helpers.aws.effects import note, recall
from helpers.elasticache import clients, copying
from helpers.elasticache.adapters import changed_meanwhile, compare_and_set, put_parameter, read_setting
from helpers.elasticache.application import read_report
from helpers.elasticache.compare import compare, compare_keys
from helpers.elasticache.groups import Group, describe_group, group_exists, wait_available
from helpers.elasticache.live import OURS, Changes, open_primary_node, open_redis
from helpers.elasticache.parameter_groups import MORE_REPLICAS_THAN_ANY, set_parameters
from helpers.elasticache.preflight import Survey
from helpers.elasticache.stages import Verified, verified
from helpers.elasticache.upgrade import Upgrade

HOLD_MS = 60_000  # how long the left group stays frozen if this process dies right after the switch
FLAG_SETTLE = 0.3  # seconds without a change before the application counts as stopped
LIFTED = "1970-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class Move:
    """An application's way from one group to another: its parameter, how to freeze and how to fence the left group."""

    parameter: str
    source: Group
    target: Group
    freeze: str
    freeze_limit_ms: int
    read_only_parameter: str
    application_report: str
    fence: str
    fence_group: str


@dataclass(frozen=True)
class Switched:
    """The switch as it went: the way of freezing, its milliseconds, keys carried in it, late keys, clients disconnected."""

    before: str
    after: str
    method: str = ""
    at: float = 0.0
    freeze_ms: float = 0.0
    last_keys: int = 0
    late_keys: int = 0
    disconnected: int = 0
    refuses_writes: bool = False
    comparison: Verified = Verified(0, 0, {}, 0.0, note="not compared after the switch")
    note: str = ""

    def table(self) -> pd.DataFrame:
        """The switch: endpoint before and after, freeze, keys, clients, and the comparison after it."""
        if self.note and not self.method:
            return pd.DataFrame({"switch": [self.note]})
        rows = [
            ("endpoint before", self.before),
            ("endpoint after", self.after),
            ("writes frozen by", self.method),
            ("frozen for (ms)", f"{self.freeze_ms:.0f}"),
            ("keys carried while frozen", f"{self.last_keys:,}"),
            ("clients disconnected from the left group", f"{self.disconnected:,}"),
            ("writes that still reached the left group, carried over", f"{self.late_keys:,}"),
            ("the left group refuses writes", "yes" if self.refuses_writes else "no"),
        ]
        if not self.comparison.note:
            rows += [("keys compared after the switch", f"{self.comparison.keys_compared:,}"), ("of them different, not by the application", f"{self.comparison.keys_different:,}")]
        return pd.DataFrame(rows + ([("note", self.note)] if self.note else []), columns=["switch", "value"])


def undo_switch(aws: Aws, upgrade: Upgrade, found: Survey, old: Group, new: Group) -> Switched | None:
    """Point the application back at the old group, after carrying back what it wrote to the new one."""
    if not upgrade.moves:
        return None
    now = read_setting(aws, upgrade.parameter).value
    if now not in (old.endpoint, new.endpoint):
        raise changed_meanwhile(upgrade.parameter, now, new.endpoint)
    left = recall("switch") or {}
    if upgrade.keeps_writes and now == new.endpoint and not planning():
        _refuse_loss_on_the_way_back(old, left)
    if upgrade.keeps_writes:
        _lift_fence(aws, upgrade, found)
        if found.freeze == "client_pause":
            act("redis", "CLIENT UNPAUSE", old.id, lambda: _with(old, clients.resume_writes))
    if now == old.endpoint and left.get("from") != new.id:
        return None  # never switched, or back already
    if not upgrade.keeps_writes:
        compare_and_set(aws, read_setting(aws, upgrade.parameter), new.endpoint, old.endpoint)
        return Switched(new.endpoint, old.endpoint, note="switched back; the classic procedure carries nothing back")
    back = Move(upgrade.parameter, new, old, found.freeze, upgrade.freeze_limit_ms, upgrade.read_only_parameter, upgrade.application_report, found.fence, upgrade.named(upgrade.family))
    return carry_application(aws, back, Changes(new))


def _refuse_loss_on_the_way_back(old: Group, left: dict) -> None:
    """Carrying back makes the old group equal to the new one: nobody may have written there, or be about to."""
    with open_redis(old, "back") as redis:
        late = clients.writes_since(redis, left["mark"]) if left.get("from") == old.id else 0
        who = clients.connected_clients(redis)
    if late:
        raise RunbookError(f"{late} writes reached {old.id} after the switch: carrying back would undo them.", "Compare the two groups, carry these keys to the new one by hand, and keep the new group.")
    if len(who):
        raise RunbookError(f"{', '.join(who['address'])} are still connected to {old.id}, which is about to take writes again.", "Stop or move these clients, then roll back.")


@effect(undo=undo_switch)
def switch(aws: Aws, upgrade: Upgrade, found: Survey, old: Group, new: Group, changes: Changes) -> Switched:
    """Point the application at the new group without losing an acknowledged write."""
    if not upgrade.moves:
        return Switched(old.endpoint, old.endpoint, note="not needed: the endpoint stays")
    if not upgrade.keeps_writes:
        before = read_setting(aws, upgrade.parameter)
        if before.value != new.endpoint:
            compare_and_set(aws, before, old.endpoint, new.endpoint)
        return Switched(old.endpoint, new.endpoint, "nothing: the classic procedure", time.time())
    move = Move(upgrade.parameter, old, new, found.freeze, upgrade.freeze_limit_ms, upgrade.read_only_parameter, upgrade.application_report, found.fence, upgrade.named("watch"))
    return carry_application(aws, move, changes)


def carry_application(aws: Aws, move: Move, changes: Changes) -> Switched:
    """Move the application from `move.source` to `move.target`; called again after a crash it ends what was begun.

    Raises `RunbookError` where the parameter holds something else than expected, or where the last keys could
    not be carried within the freeze; the source is then as before.
    """
    before = read_setting(aws, move.parameter)
    if before.value == move.target.endpoint:
        at = (recall("switch") or {}).get("at", 0.0)
        done = Switched(move.source.endpoint, move.target.endpoint, _method(move), at, note="the process was killed at the switch; this one ended it")
        return _finish(aws, move, changes, Changes(move.target), done)
    if before.value != move.source.endpoint:
        raise changed_meanwhile(move.parameter, before.value, move.source.endpoint)
    arrivals = Changes(move.target)
    _prepare(move, changes, arrivals)
    before = read_setting(aws, move.parameter)  # just before the freeze, which it would prolong
    started = time.monotonic()
    _freeze(aws, move)
    try:
        last = act("redis", "RESTORE", move.target.id, lambda: _carry_last(aws, move, changes, started), source=move.source.id) or 0
        _hold(move)
        compare_and_set(aws, before, move.source.endpoint, move.target.endpoint)
    except BaseException:
        if planning() or read_setting(aws, move.parameter).value != move.target.endpoint:
            _thaw(aws, move)
        raise  # where the parameter did change, the source stays frozen until the resumed run has fenced it
    frozen = (time.monotonic() - started) * 1000
    return _finish(aws, move, changes, arrivals, Switched(move.source.endpoint, move.target.endpoint, _method(move), time.time(), frozen, last))


def _hold(move: Move) -> None:
    """Note how the left group stands, and keep it frozen for as long as a process that resumes may need."""
    if planning():
        return
    with open_redis(move.source, "hold") as redis:
        note("switch", {"from": move.source.id, "mark": clients.write_mark(redis), "at": time.time()})
        if move.freeze == "client_pause":
            clients.pause_writes(redis, HOLD_MS)


def _prepare(move: Move, changes: Changes, arrivals: Changes) -> None:
    """Everything slow before the freeze: lift a freeze that a killed process left, catch up, watch the target."""
    if move.freeze == "client_pause" and not planning():
        _with(move.source, clients.resume_writes)
    changes.carry_to(move.target)
    arrivals.begin()


def _method(move: Move) -> str:
    return "CLIENT PAUSE WRITE" if move.freeze == "client_pause" else f"the application's flag {move.read_only_parameter}"


def _freeze(aws: Aws, move: Move) -> None:
    if move.freeze == "client_pause":
        act("redis", "CLIENT PAUSE WRITE", move.source.id, lambda: _with(move.source, lambda redis: clients.pause_writes(redis, move.freeze_limit_ms)), milliseconds=move.freeze_limit_ms)
    else:
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(milliseconds=move.freeze_limit_ms)
        put_parameter(aws, move.read_only_parameter, until.isoformat(timespec="milliseconds"))


def _thaw(aws: Aws, move: Move) -> None:
    """Lift the freeze after a failure. It is no step of any plan, and no plan may hold it back."""
    if planning():
        return
    with unguarded():
        if move.freeze == "client_pause":
            act("redis", "CLIENT UNPAUSE", move.source.id, lambda: _with(move.source, clients.resume_writes))
        else:
            put_parameter(aws, move.read_only_parameter, LIFTED)


def _carry_last(aws: Aws, move: Move, changes: Changes, started: float) -> int:
    """Carry and compare what changed up to the freeze; returns the number of keys. Raises `RunbookError` when time runs out."""
    limit = started + move.freeze_limit_ms / 1000 * 0.8
    with open_redis(move.source, "last") as source, open_redis(move.target, "last") as target:
        if move.freeze != "client_pause":
            _await_silence(aws, move, changes, limit)
        copied, keys = copying.copy_rest(changes.capture, source, target, known=changes.streams)
        wrong = compare_keys(source, target, keys)
    if not wrong.equal:
        raise RunbookError(f"{wrong.keys_different} keys differ after the last copy.", "The freeze was lifted and nothing was switched: resume the run.")
    if time.monotonic() > limit:
        raise RunbookError(f"The last {copied.keys} keys could not be carried within {move.freeze_limit_ms} ms; the freeze was lifted.", "Resume at a quieter time, or raise freeze_limit_ms.")
    return copied.keys


def _await_silence(aws: Aws, move: Move, changes: Changes, limit: float) -> None:
    """Wait until the application, told by its flag, says that it stopped (`read_only_since`), or has made no change for a while."""
    quiet_since, seen = time.monotonic(), changes.capture.pending
    while time.monotonic() - quiet_since < FLAG_SETTLE and not read_report(aws, move.application_report).get("read_only_since"):
        if time.monotonic() > limit:
            raise RunbookError("The application goes on writing although its read-only flag is set; the flag was lifted.", "Check that it obeys the parameter.")
        time.sleep(0.01)
        if changes.capture.pending != seen:
            quiet_since, seen = time.monotonic(), changes.capture.pending


def _finish(aws: Aws, move: Move, changes: Changes, arrivals: Changes, done: Switched) -> Switched:
    """After the parameter changed: disconnect the left group's clients, make it refuse writes, lift the freeze, look for late writes."""
    if move.freeze != "client_pause":
        put_parameter(aws, move.read_only_parameter, LIFTED)
    disconnected = act("redis", "CLIENT KILL", move.source.id, lambda: _disconnect(move.source)) or 0
    disconnected += _raise_fence(aws, move)
    if move.freeze == "client_pause":
        act("redis", "CLIENT UNPAUSE", move.source.id, lambda: _with(move.source, clients.resume_writes))
    if planning():
        return done
    now = read_setting(aws, move.parameter).value
    if now != move.target.endpoint:
        raise changed_meanwhile(move.parameter, now, move.target.endpoint)
    late, conflicts = _late_writes(move, changes, arrivals)
    refuses = _with(move.source, _refuses_writes)
    if move.fence and not refuses:
        raise RunbookError(f"{move.source.id} still takes writes although {move.fence} was set.", "Nothing is deleted. See that its parameter group is in effect, then resume the run.")
    comparison = _compare_after(move, arrivals) if arrivals.running else done.comparison
    if conflicts:
        comparison = replace(comparison, keys_different=comparison.keys_different + conflicts, examples=(*comparison.examples, f"{conflicts} keys were written on both groups after the switch"))
    changes.end()
    arrivals.end()
    return Switched(done.before, done.after, done.method, done.at, done.freeze_ms, done.last_keys, late, disconnected, refuses, comparison, done.note)


def _raise_fence(aws: Aws, move: Move) -> int:
    """Make the left group refuse writes, disconnecting whoever comes back meanwhile; returns how many were disconnected."""
    if not move.fence:
        return 0
    set_parameters(aws, move.fence_group, {move.fence: MORE_REPLICAS_THAN_ANY})
    killed = 0

    def state() -> str:
        nonlocal killed
        if not planning():
            killed += _disconnect(move.source)
            if move.freeze == "client_pause":
                _with(move.source, lambda redis: clients.pause_writes(redis, HOLD_MS))  # the fence may take longer than one hold
        return describe_group(aws, move.source.id).parameter_status

    wait(f"{move.source.id} refuses writes", state, until=("in-sync", "pending-reboot"), timeout=300)
    return killed


def _lift_fence(aws: Aws, upgrade: Upgrade, found: Survey) -> None:
    """Let the old group take writes again."""
    watch = upgrade.named("watch")
    if found.fence and group_exists(aws, upgrade.group) and describe_group(aws, upgrade.group).parameter_group == watch:
        set_parameters(aws, watch, {found.fence: found.changed_parameters.get(found.fence, "0")})
        wait_available(aws, upgrade.group)


def _late_writes(move: Move, changes: Changes, arrivals: Changes) -> tuple[int, int]:
    """Carry over keys written to the left group after the freeze; returns their number, and that of keys written on both sides."""
    if not changes.running:
        left = recall("switch")
        with open_redis(move.source, "late") as source:
            missed = clients.writes_since(source, left["mark"]) if left else 0
        if missed:
            raise RunbookError(f"{missed} writes reached {move.source.id} after the switch while no process was watching.", "Nothing is deleted. Compare the two groups and carry these keys to the new one by hand; a roll back would lose them.")
        return 0, 0
    changes.capture.barrier()
    late = changes.capture.take()
    conflicts: set = set()
    if late:
        arrivals.capture.barrier()
        conflicts = late & arrivals.capture.peek()
        late -= conflicts
        with open_redis(move.source, "late") as source, open_redis(move.target, "late") as target:
            wrong = compare_keys(source, target, late).keys()
            copying.copy_keys(source, target, wrong)
        return len(wrong), len(conflicts)
    return 0, 0


def _compare_after(move: Move, arrivals: Changes) -> Verified:
    """The left group, which no longer changes, against the new one, less what the application has written there since."""
    with open_primary_node(move.source, "prove") as source, open_primary_node(move.target, "prove") as target:
        comparison = compare(source, target)
    arrivals.capture.barrier()
    touched = arrivals.capture.peek() | arrivals.capture.streams
    return verified(comparison.without(touched), meanwhile=len(comparison.keys() & touched))


def _refuses_writes(redis) -> bool:  # noqa: ANN001
    try:
        redis.set(f"{OURS}:fence", "1", px=1)
    except RedisError as error:
        return "NOREPLICAS" in str(error)
    return False


def _disconnect(group: Group) -> int:
    return _with(group, lambda redis: clients.disconnect_clients(redis, ours=OURS))


def _with(group: Group, do):  # noqa: ANN001, ANN202
    with open_redis(group, "switch") as redis:
        return do(redis)
