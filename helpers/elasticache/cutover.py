"""The switch: freeze writes on one group, carry the last keys, point the application at the other, and back.

Order matters. Writes are frozen for a bounded time that the server itself ends; the last keys are carried and
compared; just before the parameter changes the freeze is prolonged, so that a process killed right after it
leaves no time in which the left group would still take a write; then its clients are disconnected (what they
had waiting is dropped unacknowledged) and the group is made to refuse writes before the freeze is lifted.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd
import redis
from redis.exceptions import RedisError

from helpers.aws import Aws, RunbookError, act, effect, planning, wait
from helpers.aws.calls import unguarded
from helpers.aws.effects import note, recall
from helpers.elasticache import clients, copying
from helpers.elasticache.adapters import Setting, changed_meanwhile, compare_and_set, is_at, longest, put_parameter, read_setting
from helpers.elasticache.application import read_report
from helpers.elasticache.changes import Capture
from helpers.elasticache.compare import compare_keys, compare_shards
from helpers.elasticache.connections import OURS, check_logins, in_parallel, key_of_shard, on_all, open_pairs, open_shards
from helpers.elasticache.groups import Group, describe_group, group_exists, wait_available
from helpers.elasticache.live import Changes
from helpers.elasticache.parameter_groups import MORE_REPLICAS_THAN_ANY, set_parameters
from helpers.elasticache.preflight import Survey
from helpers.elasticache.quiet import await_quiet
from helpers.elasticache.stages import Verified, verified
from helpers.elasticache.upgrade import Upgrade

Pair = tuple[redis.Redis, redis.Redis]
Pairs = list[Pair]

HOLD_MS = 60_000  # how long the left group stays frozen if this process dies while the setting changes
LEFT_MS = 15 * 60_000  # and once it has changed, when nobody should write there any more
QUICK = 10.0  # seconds in which most settings have changed
FLAG_SETTLE = 0.3  # seconds without a change before the application counts as stopped
LIFTED = "1970-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class Move:
    """An application's way from one group to another: its endpoint before and after, how to freeze and how to fence the left group."""

    upgrade: Upgrade
    source: Group
    target: Group
    before: str
    after: str
    freeze: str
    fence: str
    fence_group: str

    @property
    def setting(self) -> str:
        """Where the application finds its endpoint."""
        return self.upgrade.parameter

    @property
    def pauses(self) -> bool:
        """True where the servers themselves hold writes back."""
        return self.freeze == "client_pause"


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
            ("clients disconnected from the group left behind", f"{self.disconnected:,}"),
            ("writes that still reached it, carried over", f"{self.late_keys:,}"),
            ("it refuses writes", "yes" if self.refuses_writes else "no"),
        ]
        if not self.comparison.note:
            rows += [("keys compared after the switch", f"{self.comparison.keys_compared:,}"), ("of them different, not by the application", f"{self.comparison.keys_different:,}")]
        return pd.DataFrame(rows + ([("note", self.note)] if self.note else []), columns=["switch", "value"])


def undo_switch(aws: Aws, upgrade: Upgrade, found: Survey, old: Group, new: Group) -> Switched | None:
    """Point the application back at the old group, after carrying back what it wrote to the new one."""
    if not upgrade.moves:
        return None
    now = read_setting(aws, upgrade.parameter)
    if not any(is_at(now, one) for one in (*old.endpoints, new.endpoint)):
        raise changed_meanwhile(upgrade.parameter, now.value, new.endpoint)
    switched, left = is_at(now, new.endpoint), recall("switch") or {}
    if upgrade.keeps_writes and switched and not planning():
        _refuse_loss_on_the_way_back(aws, upgrade, old, left)
    if upgrade.keeps_writes:
        _lift_fence(aws, upgrade, found)
        if found.freeze == "client_pause":
            act("redis", "CLIENT UNPAUSE", old.id, lambda: on_all(aws, upgrade, old, clients.resume_writes))
    if not switched and left.get("from") != new.id:
        return None  # never switched, or back already
    if not upgrade.keeps_writes:
        compare_and_set(aws, now, new.endpoint, found.endpoint)
        return Switched(new.endpoint, found.endpoint, note="switched back; the classic procedure carries nothing back")
    back = Move(upgrade, new, old, new.endpoint, found.endpoint, found.freeze, found.fence, upgrade.named(upgrade.family))
    try:
        return carry_application(aws, back, Changes(aws, upgrade, new))
    except Exception:
        if not planning() and is_at(read_setting(aws, upgrade.parameter), new.endpoint):
            with unguarded():  # the application stays on the new group, so the old one takes no writes again
                _raise_fence(aws, _there(upgrade, found, old, new))
        raise


def _there(upgrade: Upgrade, found: Survey, old: Group, new: Group) -> Move:
    return Move(upgrade, old, new, found.endpoint, new.endpoint, found.freeze, found.fence, upgrade.named("watch"))


def _refuse_loss_on_the_way_back(aws: Aws, upgrade: Upgrade, old: Group, left: dict) -> None:
    """Carrying back makes the old group equal to the new one: nobody may have written there, or be about to."""
    again = recall("way back") == left.get("at")  # an earlier roll back has begun to write there
    late = _writes_since(aws, upgrade, old, left["marks"]) if left.get("from") == old.id and not again else 0
    if late:
        raise RunbookError(f"{late} writes reached {old.id} after the switch: carrying back would undo them.", "Compare the two groups, carry these keys to the new one by hand, and keep the new group.")
    await_quiet(aws, upgrade, old, "so it cannot take writes again")
    note("way back", left.get("at"))


def _writes_since(aws: Aws, upgrade: Upgrade, group: Group, marks: list[str]) -> int:
    """Writes that reached the group since `marks`; where a node was replaced, none if the group refuses writes."""
    try:
        with open_shards(aws, upgrade, group, "late") as shards:
            return sum(in_parallel(clients.writes_since, shards, marks))
    except clients.ServerReplaced as error:
        if _refuses_writes(aws, upgrade, group):
            return 0
        raise RunbookError(f"A node of {group.id} was replaced after the switch, and the group takes writes: what was written there is not known.", "Compare the two groups, and carry what the new one lacks by hand.") from error


@effect(undo=undo_switch)
def switch(aws: Aws, upgrade: Upgrade, found: Survey, old: Group, new: Group, changes: Changes) -> Switched:
    """Point the application at the new group without losing an acknowledged write."""
    if not upgrade.moves:
        return Switched(old.endpoint, old.endpoint, note="not needed: the endpoint stays")
    if not upgrade.keeps_writes:
        before = read_setting(aws, upgrade.parameter)
        if not is_at(before, new.endpoint):
            compare_and_set(aws, before, found.endpoint, new.endpoint)
        return Switched(found.endpoint, new.endpoint, "nothing: the classic procedure", time.time())
    return carry_application(aws, _there(upgrade, found, old, new), changes)


def carry_application(aws: Aws, move: Move, changes: Changes) -> Switched:
    """Move the application from `move.source` to `move.target`; called again after a crash it ends what was begun.

    Raises `RunbookError` where the setting holds something else than expected, or where the last keys could
    not be carried within the freeze; the source is then as before.
    """
    before = read_setting(aws, move.setting)
    if is_at(before, move.after):
        at = (recall("switch") or {}).get("at", 0.0)
        done = Switched(move.before, move.after, _method(move), at, note="the process was killed at the switch; this one ended it")
        return _finish(aws, move, changes, Changes(aws, move.upgrade, move.target), done)
    _expect(move, before)
    arrivals = Changes(aws, move.upgrade, move.target)
    check_logins(aws, move.upgrade, move.source, move.target)
    _prepare(aws, move, changes, arrivals)
    before = read_setting(aws, move.setting)  # just before the freeze, which it would prolong
    _expect(move, before)
    with _opened(aws, move) as pairs:  # before the freeze, which connecting would prolong
        started = time.monotonic()
        _freeze(aws, move, pairs)
        try:
            last = act("redis", "RESTORE", move.target.id, lambda: _carry_last(aws, move, changes, pairs, started), source=move.source.id) or 0
            with _held(aws, move, changes, pairs):
                compare_and_set(aws, before, move.before, move.after)
            if move.pauses:
                in_parallel(lambda pair: clients.pause_writes(pair[0], LEFT_MS), pairs)
        except BaseException:
            if planning() or not is_at(read_setting(aws, move.setting), move.after):
                _thaw(aws, move)
            raise  # where the setting did change, the source stays frozen until the resumed run has fenced it
        frozen = (time.monotonic() - started) * 1000
    return _finish(aws, move, changes, arrivals, Switched(move.before, move.after, _method(move), time.time(), frozen, last))


@contextlib.contextmanager
def _opened(aws: Aws, move: Move) -> Iterator[Pairs]:
    """The primaries of both groups, shard by shard; none in a plan."""
    if planning():
        yield []
        return
    with open_pairs(aws, move.upgrade, move.source, move.target, "last") as pairs:
        yield pairs


def _expect(move: Move, setting: Setting) -> None:
    if not is_at(setting, move.before) and not planning():
        raise changed_meanwhile(move.setting, setting.value, move.before)


@contextlib.contextmanager
def _held(aws: Aws, move: Move, changes: Changes, pairs: Pairs) -> Iterator[None]:
    """Note how the left group stands, and keep it frozen while the setting changes and for as long as a process that resumes may need."""
    if not move.pauses and longest(move.setting) > QUICK:
        _raise_flag(aws, move, HOLD_MS)
    if planning():
        yield
        return

    def hold(pair: Pair) -> str:
        mark = clients.write_mark(pair[0])
        if move.pauses:
            clients.pause_writes(pair[0], HOLD_MS)
        return mark

    note("switch", {"from": move.source.id, "marks": in_parallel(hold, pairs), "at": time.time()})
    changes.captures  # noqa: B018 - raises where one was cut meanwhile, as by a failover
    ended = threading.Event()

    def hold_on() -> None:
        while move.pauses and not ended.wait(HOLD_MS / 3000):  # some settings take longer than one hold to change
            with contextlib.suppress(RedisError):  # tried again before the hold ends
                in_parallel(lambda pair: clients.pause_writes(pair[0], HOLD_MS), pairs)

    holder = threading.Thread(target=hold_on, daemon=True)
    holder.start()
    try:
        yield
    finally:
        ended.set()
        holder.join()


def _prepare(aws: Aws, move: Move, changes: Changes, arrivals: Changes) -> None:
    """Everything slow before the freeze: lift a freeze that a killed process left, catch up, watch the target."""
    if move.pauses and not planning():
        on_all(aws, move.upgrade, move.source, clients.resume_writes)
    changes.carry_to(move.target)
    arrivals.begin()


def _method(move: Move) -> str:
    return "CLIENT PAUSE WRITE" if move.pauses else f"the application's flag {move.upgrade.read_only_parameter}"


def _freeze(aws: Aws, move: Move, pairs: Pairs) -> None:
    limit = move.upgrade.freeze_limit_ms
    if move.pauses:
        act("redis", "CLIENT PAUSE WRITE", move.source.id, lambda: in_parallel(lambda pair: clients.pause_writes(pair[0], limit), pairs), milliseconds=limit)
    else:
        _raise_flag(aws, move, limit)


def _raise_flag(aws: Aws, move: Move, milliseconds: int) -> None:
    """Ask the application not to write for so long."""
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(milliseconds=milliseconds)
    put_parameter(aws, move.upgrade.read_only_parameter, until.isoformat(timespec="milliseconds"))


def _thaw(aws: Aws, move: Move) -> None:
    """Lift the freeze after a failure. It is no step of any plan, and no plan may hold it back."""
    if planning():
        return
    with unguarded():
        if move.pauses:
            act("redis", "CLIENT UNPAUSE", move.source.id, lambda: on_all(aws, move.upgrade, move.source, clients.resume_writes))
        else:
            put_parameter(aws, move.upgrade.read_only_parameter, LIFTED)


def _carry_last(aws: Aws, move: Move, changes: Changes, pairs: Pairs, started: float) -> int:
    """Carry and compare what changed up to the freeze; returns the number of keys. Raises `RunbookError` when time runs out."""
    limit_ms = move.upgrade.freeze_limit_ms
    limit = started + limit_ms / 1000 * 0.8
    if not move.pauses:
        _await_silence(aws, move, changes, limit)
    carried = in_parallel(_carry_last_of_shard, pairs, changes.captures, changes.streams)
    keys, different = sum(one[0] for one in carried), sum(one[1] for one in carried)
    if different:
        raise RunbookError(f"{different} keys differ after the last copy.", "The freeze was lifted and nothing was switched: resume the run.")
    if time.monotonic() > limit:
        raise RunbookError(f"The last {keys} keys could not be carried within {limit_ms} ms; the freeze was lifted.", "Resume at a quieter time, or raise freeze_limit_ms.")
    return keys


def _carry_last_of_shard(pair: Pair, capture: Capture, streams: dict) -> tuple[int, int]:
    """Carry one shard's last keys; returns how many, and how many of them differ."""
    copied, keys = copying.copy_rest(capture, *pair, known=streams)
    return copied.keys, compare_keys(*pair, keys).keys_different


def _await_silence(aws: Aws, move: Move, changes: Changes, limit: float) -> None:
    """Wait until the application, told by its flag, says that it stopped (`read_only_since`), or has made no change for a while."""
    quiet_since, seen = time.monotonic(), changes.pending
    while time.monotonic() - quiet_since < FLAG_SETTLE and not read_report(aws, move.upgrade.application_report).get("read_only_since"):
        if time.monotonic() > limit:
            raise RunbookError("The application goes on writing although its read-only flag is set; the flag was lifted.", "Check that it obeys the parameter.")
        time.sleep(0.01)
        if changes.pending != seen:
            quiet_since, seen = time.monotonic(), changes.pending


def _finish(aws: Aws, move: Move, changes: Changes, arrivals: Changes, done: Switched) -> Switched:
    """After the setting changed: disconnect the left group's clients, make it refuse writes, lift the freeze, look for late writes."""
    if not move.pauses:
        put_parameter(aws, move.upgrade.read_only_parameter, LIFTED)
    disconnected = act("redis", "CLIENT KILL", move.source.id, lambda: _disconnect(aws, move)) or 0
    disconnected += _raise_fence(aws, move)
    if move.pauses:
        act("redis", "CLIENT UNPAUSE", move.source.id, lambda: on_all(aws, move.upgrade, move.source, clients.resume_writes))
    if planning():
        return done
    now = read_setting(aws, move.setting)
    if not is_at(now, move.after):
        raise changed_meanwhile(move.setting, now.value, move.after)
    late, conflicts = _late_writes(aws, move, changes, arrivals)
    refuses = _refuses_writes(aws, move.upgrade, move.source)
    if move.fence and not refuses:
        raise RunbookError(f"{move.source.id} still takes writes although {move.fence} was set.", "Nothing is deleted. See that its parameter group is in effect, then resume the run.")
    comparison = _compare_after(aws, move, arrivals) if arrivals.running else done.comparison
    if conflicts:
        comparison = replace(comparison, keys_different=comparison.keys_different + conflicts, examples=(*comparison.examples, f"{conflicts} keys were written on both groups after the switch"))
    changes.end()
    arrivals.end()
    return replace(done, late_keys=late, disconnected=disconnected, refuses_writes=refuses, comparison=comparison)


def _raise_fence(aws: Aws, move: Move) -> int:
    """Make the left group refuse writes, disconnecting whoever comes back meanwhile; returns how many were disconnected."""
    if not move.fence:
        return 0
    set_parameters(aws, move.fence_group, {move.fence: MORE_REPLICAS_THAN_ANY})
    killed = 0

    def state() -> str:
        nonlocal killed
        if not planning():
            killed += _disconnect(aws, move)
            if move.pauses:  # the fence may take longer than one hold
                on_all(aws, move.upgrade, move.source, lambda shard: clients.pause_writes(shard, HOLD_MS))
        return describe_group(aws, move.source.id).parameter_status

    wait(f"{move.source.id} refuses writes", state, until=("in-sync", "pending-reboot"), timeout=300)
    return killed


def _lift_fence(aws: Aws, upgrade: Upgrade, found: Survey) -> None:
    """Let the old group take writes again."""
    watch, old = upgrade.named("watch"), found.old
    if found.fence and group_exists(aws, old.id) and describe_group(aws, old.id).parameter_group == watch:
        set_parameters(aws, watch, {found.fence: found.changed_parameters.get(found.fence, "0")})
        wait_available(aws, old.id)


def _late_writes(aws: Aws, move: Move, changes: Changes, arrivals: Changes) -> tuple[int, int]:
    """Carry over keys written to the left group after the freeze; returns their number, and that of keys written on both sides."""
    if not changes.running:
        left = recall("switch")
        missed = _writes_since(aws, move.upgrade, move.source, left["marks"]) if left else 0
        if missed:
            with open_shards(aws, move.upgrade, move.source, "late") as shards:
                note("switch", {**left, "marks": in_parallel(clients.write_mark, shards)})
            raise RunbookError(f"{missed} writes reached {move.source.id} after the switch while no process was watching.", "Nothing is deleted. Compare the two groups and carry these keys to the new one by hand, then resume: the run goes on. A roll back would lose them.")
        return 0, 0
    with open_pairs(aws, move.upgrade, move.source, move.target, "late") as pairs:
        counts = in_parallel(_late_writes_of_shard, pairs, changes.captures, arrivals.captures)
    return sum(one[0] for one in counts), sum(one[1] for one in counts)


def _late_writes_of_shard(pair: Pair, changes: Capture, arrivals: Capture) -> tuple[int, int]:
    changes.barrier()
    late = changes.take()
    if not late:
        return 0, 0
    arrivals.barrier()
    conflicts = late & arrivals.peek()
    wrong = compare_keys(*pair, late - conflicts).keys()
    copying.copy_keys(*pair, wrong)
    return len(wrong), len(conflicts)


def _compare_after(aws: Aws, move: Move, arrivals: Changes) -> Verified:
    """The left group, which no longer changes, against the new one, less what the application has written there since."""
    with open_pairs(aws, move.upgrade, move.source, move.target, "prove", direct=True) as pairs:
        found = compare_shards(pairs)
    touched = arrivals.touched()
    return verified(found.without(touched), meanwhile=len(found.keys() & touched))


def _refuses_writes(aws: Aws, upgrade: Upgrade, group: Group) -> bool:
    """True where every shard of the group refuses a write for want of replicas."""

    def refuses(shard: redis.Redis, key: str) -> bool:
        try:
            shard.set(key, "1", px=1)
        except RedisError as error:
            return "NOREPLICAS" in str(error)
        return False

    with open_shards(aws, upgrade, group, "fence") as shards:
        return all(in_parallel(refuses, shards, [key_of_shard(one, f"{OURS}:fence") for one in group.shards]))


def _disconnect(aws: Aws, move: Move) -> int:
    return sum(on_all(aws, move.upgrade, move.source, lambda shard: clients.disconnect_clients(shard, ours=OURS)))
