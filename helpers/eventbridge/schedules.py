"""When a schedule fires: cron, rate and at expressions of rules and of EventBridge Scheduler, with daylight saving time."""

from __future__ import annotations

import datetime
import itertools
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from helpers.eventbridge.cron import YEARS, Cron, InvalidSchedule, parse_cron, refuse
from helpers.eventbridge.schedule_words import cron_words

RATE = re.compile(r"rate\(([0-9]{1,9}) (minute|hour|day)(s?)\)")
CRON = re.compile(r"cron\(([^()]*)\)")
AT = re.compile(r"at\(([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\)")
EXAMPLES = "Write rate(5 minutes), cron(0 10 * * ? *) or, for EventBridge Scheduler, at(2027-01-31T09:00:00)."
CALENDAR_END = datetime.datetime(9999, 12, 30, tzinfo=datetime.UTC)  # a day less, so that every zone can show it

Schedule = Cron | datetime.timedelta | datetime.datetime


@dataclass(frozen=True)
class Firing:
    """A time at which a schedule fires, in its time zone, or is `skipped` as the clocks go forward; `note` says what is unusual."""

    time: datetime.datetime
    note: str = ""
    skipped: bool = False


def next_firings(expression: str, after: datetime.datetime, count: int, timezone: str = "UTC") -> list[datetime.datetime]:
    """The next `count` times after `after` at which the schedule fires, in order, in the time zone; fewer where it ends.

    Rules run in UTC; a time zone (an IANA name) and `at(...)` are EventBridge Scheduler's. An `after` without a zone is in
    the schedule's. A rate counts from `after`: a rule's first run is one interval after it was created, and a day is 24 hours.
    A cron time that daylight saving time leaves out is skipped; one that comes twice fires once, the first time.

    Raises `InvalidSchedule`. Sources: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html,
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
    """
    firings = (one.time for one in _firings(expression, after, timezone) if not one.skipped)
    return list(itertools.islice(firings, max(count, 0)))


def firings_table(expression: str, after: datetime.datetime, count: int, timezone: str = "UTC") -> pd.DataFrame:
    """The next `count` times, those skipped among them: `local time`, `UTC` (empty where skipped) and a `note`.

    Takes and raises the same as `next_firings`.
    """
    rows = []
    for one in itertools.islice(_firings(expression, after, timezone), max(count, 0)):
        utc = "" if one.skipped else one.time.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
        rows.append((one.time.strftime("%a %Y-%m-%d %H:%M:%S"), utc, one.note))
    return pd.DataFrame(rows, columns=["local time", "UTC", "note"])


def describe_schedule(expression: str, timezone: str = "UTC") -> str:
    """The schedule in words, such as `at 18:00 on Monday to Friday (UTC)`. Raises `InvalidSchedule`."""
    schedule = _parse(expression)
    _zone(timezone)
    if isinstance(schedule, datetime.timedelta):
        value, unit = expression[len("rate(") : -1].split()
        words = f"every {unit}" if int(value) == 1 else f"every {int(value)} {unit}"
        return (
            f"{words} ({'24 hours' if value == '1' else 'of 24 hours each'}, whatever the clocks do)"
            if unit.startswith("day")
            else words
        )
    if isinstance(schedule, datetime.datetime):
        return f"once, on {schedule:%Y-%m-%d at %H:%M:%S} ({timezone}; EventBridge Scheduler only)"
    return f"{cron_words(schedule)} ({timezone})"


def _parse(expression: str) -> Schedule:
    """A cron expression, the interval of a rate, or the time of an at expression, without a zone."""
    if len(expression) > 256:
        refuse("A schedule expression has at most 256 characters.")
    if found := CRON.fullmatch(expression):
        return parse_cron(found[1])
    if found := RATE.fullmatch(expression):
        value, unit, plural = int(found[1]), found[2], bool(found[3])
        if value == 0 or plural != (value > 1):
            refuse("A rate is a number above 0, with minute, hour or day for 1 and minutes, hours or days above.")
        return datetime.timedelta(**{f"{unit}s": value})
    if found := AT.fullmatch(expression):
        return _at(found[1])
    refuse(EXAMPLES)


def _at(text: str) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        refuse(f"The calendar has no {text}.")
    if not YEARS.low <= time.year <= YEARS.high:
        refuse(f"The year must be {YEARS.low} to {YEARS.high}.")
    return time


def _zone(timezone: str) -> datetime.tzinfo:
    if timezone == "UTC":
        return datetime.UTC
    try:
        return zoneinfo.ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidSchedule(
            f"There is no time zone {timezone!r}.", "Give an IANA name such as Europe/Berlin or UTC."
        ) from error


def _firings(expression: str, after: datetime.datetime, timezone: str) -> Iterator[Firing]:
    """The schedule's firings after a time, those skipped among them."""
    schedule, zone = _parse(expression), _zone(timezone)
    try:
        after = after.replace(tzinfo=zone) if after.tzinfo is None else after.astimezone(zone)
        moment = after.astimezone(datetime.UTC)
    except OverflowError as error:
        raise InvalidSchedule(f"{after} is at an end of the calendar.", "Give a time between the years 2 and 9998.") from error
    if isinstance(schedule, datetime.timedelta):
        return _rate_firings(schedule, after)
    times = schedule.times(after) if isinstance(schedule, Cron) else iter((schedule,))
    firings = (_on_the_clock(time.replace(tzinfo=zone)) for time in times)
    return (one for one in firings if one.time.astimezone(datetime.UTC) > moment)


def _rate_firings(interval: datetime.timedelta, after: datetime.datetime) -> Iterator[Firing]:
    """Every interval from `after` on, by elapsed time; ends with the calendar."""
    time = after.astimezone(datetime.UTC)
    while CALENDAR_END - time > interval:
        time += interval
        yield Firing(time.astimezone(after.tzinfo))


def _on_the_clock(time: datetime.datetime) -> Firing:
    """A wall-clock time as a firing: skipped where the clocks jump over it, marked where it comes twice."""
    real = time.astimezone(datetime.UTC).astimezone(time.tzinfo)
    if real.replace(tzinfo=None) != time.replace(tzinfo=None):
        return Firing(time, f"skipped: the clocks go forward over {time:%H:%M} that day", skipped=True)
    if time.replace(fold=1).utcoffset() != time.utcoffset():
        return Firing(time, f"the clocks go back and {time:%H:%M} comes twice: fires once")
    return Firing(time)
