"""A parsed cron expression in words."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Sequence

from helpers.eventbridge.cron import DAYS, HOURS, MINUTES, MONTHS, WEEKDAYS, YEARS, Cron, Day, Field

WEEKDAY_WORDS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
ORDINALS = ("first", "second", "third", "fourth", "fifth")
FEW = 4  # what is more than this many is not listed one by one


def cron_words(cron: Cron) -> str:
    """When it fires, such as `every 5 minutes from 08:00 to 17:55 on Monday to Friday, in January`."""
    time, day = _time_words(cron.minutes, cron.hours), _day_words(cron.days)
    parts = [f"{time} {day or ('' if time.startswith('every') else 'every day')}".rstrip()]
    if not _is_all(cron.months, MONTHS):
        parts.append("in " + _runs(cron.months, lambda month: calendar.month_name[month]))
    if not _is_all(cron.years, YEARS):
        few = len(_spans(cron.years)) <= FEW
        parts.append(
            "in " + (_runs(cron.years, str) if few else f"{len(cron.years)} of the years {cron.years[0]} to {cron.years[-1]}")
        )
    return ", ".join(parts)


def _time_words(minutes: Sequence[int], hours: Sequence[int]) -> str:
    if len(minutes) * len(hours) <= FEW:
        return "at " + _list([f"{hour:02}:{minute:02}" for hour in hours for minute in minutes])
    every, spans = _step(minutes, MINUTES), _spans(hours)
    if not every or len(spans) > FEW:
        return f"at minute {_runs(minutes, str)} of {'every hour' if _is_all(hours, HOURS) else _hour_words(hours)}"
    often = "every minute" if every == 1 else f"every {every} minutes"
    if _is_all(hours, HOURS):
        return often if minutes[0] == 0 else f"{often} from minute {minutes[0]} of each hour on"
    return f"{often} {_list([f'from {first:02}:{minutes[0]:02} to {last:02}:{minutes[-1]:02}' for first, last in spans])}"


def _hour_words(hours: Sequence[int]) -> str:
    every = _step(hours, HOURS)
    if every > 1 and hours[0] == 0:
        return f"every {every} hours from 00"
    return ("the hour " if len(hours) == 1 else "the hours ") + _runs(hours, lambda hour: f"{hour:02}")


def _day_words(days: Sequence[Day]) -> str:
    weekdays = [day.value for day in days if day.kind == "weekday"]
    numbers = [day.value for day in days if day.kind == "day"]
    if _is_all(numbers, DAYS) or _is_all(weekdays, WEEKDAYS):
        return ""
    parts = []
    if weekdays:
        parts.append(_runs(weekdays, lambda value: WEEKDAY_WORDS[value - 1]))
    if numbers:
        parts.append(f"day {_runs(numbers, str)} of the month")
    parts += [_special(day) for day in days if day.kind not in ("day", "weekday")]
    return "on " + _list(parts)


def _special(day: Day) -> str:
    if day.kind == "last day":
        return f"the day that is {day.value} before the last of the month" if day.value else "the last day of the month"
    if day.kind == "last workday":
        return "the last Monday to Friday of the month"
    if day.kind == "nearest workday":
        return f"the Monday to Friday nearest to day {day.value} of the month"
    which = ORDINALS[day.nth - 1] if day.kind == "nth weekday" else "last"
    return f"the {which} {WEEKDAY_WORDS[day.value - 1]} of the month"


def _is_all(values: Sequence[int], field: Field) -> bool:
    return len(values) == field.high - field.low + 1


def _step(values: Sequence[int], field: Field) -> int:
    """The even step that fills the field from a value below it on and goes on over its end; 0 where there is none."""
    size = field.high - field.low + 1
    step = size // len(values) if len(values) > 1 else 0
    even = step and values[0] - field.low < step and size % step == 0
    return step if even and tuple(values) == tuple(range(values[0], field.high + 1, step)) else 0


def _spans(values: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of neighbouring values as (first, last)."""
    spans: list[tuple[int, int]] = []
    for value in values:
        if spans and spans[-1][1] == value - 1:
            spans[-1] = (spans[-1][0], value)
        else:
            spans.append((value, value))
    return spans


def _runs(values: Sequence[int], word: Callable[[int], str]) -> str:
    """Values as words, three or more neighbours as `first to last`."""
    parts: list[str] = []
    for first, last in _spans(values):
        parts += [f"{word(first)} to {word(last)}"] if last - first > 1 else [word(value) for value in range(first, last + 1)]
    return _list(parts)


def _list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
