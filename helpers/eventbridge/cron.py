"""Cron expressions as EventBridge reads them: six fields, and the minutes on the wall clock that they name."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from helpers.aws import RunbookError

DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
MESSAGE = "Parameter ScheduleExpression is not valid."
FIELDS = ("minutes", "hours", "day-of-month", "month", "day-of-week", "year")


class InvalidSchedule(RunbookError):
    """EventBridge would refuse the schedule expression: `what` is its message, `remedy` what to change."""


def refuse(remedy: str) -> NoReturn:
    """Raise `InvalidSchedule` with EventBridge's message, which gives no reason, and the reason as the remedy."""
    raise InvalidSchedule(MESSAGE, remedy)


@dataclass(frozen=True)
class Field:
    """A field's name, its lowest and highest value, and the names of its values in order; `wraps` where 22-2 is a range."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    wraps: bool = True

    def value(self, text: str) -> int:
        """A number or a name of this field as a number."""
        if text.upper() in self.names:
            return self.names.index(text.upper()) + self.low
        if not (text.isascii() and text.isdigit() and len(text) <= 4 and self.low <= int(text) <= self.high):
            refuse(
                f"{text!r} is no {self.name}: give {self.low} to {self.high}{f' or {self.names[0]} to {self.names[-1]}' if self.names else ''}."
            )
        return int(text)

    def values(self, text: str) -> set[int]:
        """The values that one part of a list names: a value, a range, either with a step, or *."""
        span, slash, step_text = text.partition("/")
        if slash and not (step_text.isascii() and step_text.isdigit() and len(step_text) <= 4 and int(step_text)):
            refuse(f"The step of {text!r} in {self.name} must be a number above 0.")
        step = int(step_text) if slash else 1
        first, dash, last = span.partition("-")
        if span == "*":
            return set(range(self.low, self.high + 1, step))
        start = self.value(first)
        end = self.value(last) if dash else self.high if slash else start
        if end >= start:
            return set(range(start, end + 1, step))
        if not self.wraps:
            refuse(f"The range {span!r} in {self.name} ends before it begins.")
        size = self.high - self.low + 1
        return {(at - self.low) % size + self.low for at in range(start, end + size + 1, step)}

    def parse(self, text: str) -> tuple[int, ...]:
        """The values of a whole field, in order."""
        return tuple(sorted(set().union(*(self.values(part) for part in text.split(",")))))


MINUTES = Field("minutes", 0, 59)
HOURS = Field("hours", 0, 23)
DAYS = Field("day-of-month", 1, 31)
MONTHS = Field("month", 1, 12, MONTH_NAMES)
WEEKDAYS = Field("day-of-week", 1, 7, DAY_NAMES)
YEARS = Field("year", 1970, 2199, wraps=False)


@dataclass(frozen=True, order=True)
class Day:
    """Days of a month that belong together.

    `kind` is "day" (`value` of the month), "weekday" (every `value` of the week, Sunday is 1), "last day" (`value` days
    before it), "last workday", "nearest workday" (to day `value`), "last weekday" (the last `value` of the week) or
    "nth weekday" (the `nth` `value` of the week).
    """

    kind: str
    value: int = 0
    nth: int = 0

    def of(self, year: int, month: int) -> set[int]:
        """Its days in that month; empty where the month has none."""
        length = calendar.monthrange(year, month)[1]
        if self.kind == "day":
            return {self.value} if self.value <= length else set()
        if self.kind == "last day":
            return {length - self.value} if self.value < length else set()
        if self.kind in ("last workday", "nearest workday"):
            day = self.value or length
            return {_nearest_workday(year, month, day, length)} if day <= length else set()
        same = [day for day in range(1, length + 1) if _weekday(year, month, day) == self.value]
        if self.kind == "weekday":
            return set(same)
        if self.kind == "last weekday":
            return {same[-1]}
        return {same[self.nth - 1]} if self.nth <= len(same) else set()


@dataclass(frozen=True)
class Cron:
    """A parsed cron expression: the values of each field in order, and the days as rules of either day field."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[Day, ...]
    months: tuple[int, ...]
    years: tuple[int, ...]

    def days_of(self, year: int, month: int) -> list[int]:
        """The days of that month on which it fires."""
        return sorted(set().union(*(day.of(year, month) for day in self.days)))

    def times(self, start: datetime.datetime) -> Iterator[datetime.datetime]:
        """Its minutes on the wall clock from `start` on, without a zone; ends after the year 2199.

        Whole months without a day are passed over at once, so a fifth Monday of February costs no more than a few thousand
        looks at a calendar, and an expression that never fires ends.
        """
        start = start.replace(tzinfo=None)
        for year in self.years:
            if year < start.year:
                continue
            for month in self.months:
                if (year, month) < (start.year, start.month):
                    continue
                for day in self.days_of(year, month):
                    if datetime.date(year, month, day) >= start.date():
                        yield from self._minutes_of(datetime.datetime(year, month, day), start)

    def _minutes_of(self, day: datetime.datetime, start: datetime.datetime) -> Iterator[datetime.datetime]:
        for hour in self.hours:
            for minute in self.minutes:
                time = day.replace(hour=hour, minute=minute)
                if time >= start:
                    yield time


def parse_cron(text: str) -> Cron:
    """The six fields between the brackets of `cron(...)`. Raises `InvalidSchedule`.

    Day-of-week L is Saturday, MON/2 steps to the end of the week: what AWS does there is not recorded.
    Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
    """
    fields = text.split()
    if len(fields) != len(FIELDS):
        refuse(f"A cron expression has six fields ({', '.join(FIELDS)}); this one has {len(fields)}.")
    minutes, hours, day, month, weekday, year = fields
    if (day == "?") == (weekday == "?"):
        refuse("Name the days in one of day-of-month and day-of-week, and write ? in the other.")
    days = _weekdays(weekday) if day == "?" else _days(day)
    return Cron(MINUTES.parse(minutes), HOURS.parse(hours), days, MONTHS.parse(month), YEARS.parse(year))


def _days(text: str) -> tuple[Day, ...]:
    """The rules of a day-of-month field."""
    days: set[Day] = set()
    for part in text.split(","):
        if part == "L":
            days.add(Day("last day"))
        elif part == "LW":
            days.add(Day("last workday"))
        elif part.startswith("L-"):
            if not (part[2:].isascii() and part[2:].isdigit() and len(part) <= 4 and int(part[2:]) <= 30):
                refuse(f"{part!r} in day-of-month: L- is followed by the days before the last, 0 to 30.")
            days.add(Day("last day", int(part[2:])))
        elif part.endswith("W"):
            days.add(Day("nearest workday", DAYS.value(part[:-1])))
        else:
            days |= {Day("day", value) for value in DAYS.values(part)}
    return tuple(sorted(days))


def _weekdays(text: str) -> tuple[Day, ...]:
    """The rules of a day-of-week field."""
    if "#" in text:
        name, _, nth = text.partition("#")
        if nth not in ("1", "2", "3", "4", "5"):
            refuse("# stands alone in day-of-week, as a day, # and 1 to 5: 2#1 is the first Monday of the month.")
        return (Day("nth weekday", WEEKDAYS.value(name), int(nth)),)
    days: set[Day] = set()
    for part in text.split(","):
        if part == "L":
            days.add(Day("weekday", WEEKDAYS.high))
        elif part.endswith("L"):
            days.add(Day("last weekday", WEEKDAYS.value(part[:-1])))
        else:
            days |= {Day("weekday", value) for value in WEEKDAYS.values(part)}
    return tuple(sorted(days))


def _weekday(year: int, month: int, day: int) -> int:
    """The day of the week, Sunday is 1."""
    return (calendar.weekday(year, month, day) + 1) % 7 + 1


def _nearest_workday(year: int, month: int, day: int, length: int) -> int:
    """The Monday to Friday nearest to a day, in the same month."""
    weekday = _weekday(year, month, day)
    if weekday == 7:
        return day - 1 if day > 1 else day + 2
    if weekday == 1:
        return day + 1 if day < length else day - 2
    return day
