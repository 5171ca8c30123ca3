"""When schedules fire, against recorded and derived cases and against a plain reading of each field."""

import datetime
import zoneinfo
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.eventbridge.schedules import InvalidSchedule, describe_schedule, firings_table, next_firings

NOW = datetime.datetime(2026, 1, 15, 10, 7, tzinfo=datetime.UTC)
NAMES = {"SUN": 1, "MON": 2, "TUE": 3, "WED": 4, "THU": 5, "FRI": 6, "SAT": 7}


def answer(case):
    """The case's next five firings, or EventBridge's message."""
    after = datetime.datetime.fromisoformat(case["after"]) if "after" in case else NOW
    try:
        return [time.isoformat() for time in next_firings(case["expr"], after, 5)]
    except InvalidSchedule as error:
        return error.what


def wrong(cases):
    """The cases that are answered differently; validity alone where no times are given."""
    found = []
    for case in cases:
        got = answer(case)
        if "next5" in case:
            right = got == case["next5"]
        else:
            right = (got == "Parameter ScheduleExpression is not valid.") != case["valid"]
        if not right:
            found.append((case["expr"], got))
    return found


def test_our_own_cases_fire_when_they_should_those_uncertain_on_aws_too(own):
    assert len(own("schedules")) == 81
    assert wrong(own("schedules")) == []


def test_the_recorded_cases_fire_when_they_should(recorded):
    assert wrong(recorded("schedules")) == []


@pytest.mark.parametrize(
    "expression",
    [
        "", "cron", "rate(5 minutes", "cron(* * * * ? *) ", "cron((* * * * ? *))", "cron(0 0 ? * 3#1,6#3 *)", "cron(0 0 ? * 2#6 *)",
        "cron(0 0 ? * 2#0 *)", "cron(0 0 32W * ? *)", "cron(0 0 W * ? *)", "cron(0 0 L-31 * ? *)", "cron(0 0 L- * ? *)", "cron(0/0 * * * ? *)",
        "cron(/5 * * * ? *)", "cron(5- * * * ? *)", "cron(1,,2 * * * ? *)", "cron(0 24 * * ? *)", "cron(0 0 1 1 ? 1969)", "cron(0 0 1 1 ? 2029-2027)",
        "cron(0 0 2#1 * ? *)", "cron(0 0 ? * 3W *)", "cron(0 0 * ? ? *)", "cron(0 0 * * ? ?)", "cron(٣ 0 * * ? *)", "rate(٣ minutes)", "rate(1.5 hours)",
        "at(2026-02-30T00:00:00)", "at(2026-01-01 00:00:00)", "at(0001-01-01T00:00:00)", "cron(" + "0," * 150 + "0 0 * * ? *)",
    ],
)  # fmt: skip
def test_an_expression_outside_the_grammar_is_refused_with_the_message_of_eventbridge_and_a_remedy(expression):
    with pytest.raises(InvalidSchedule) as caught:
        next_firings(expression, NOW, 1)
    assert caught.value.what == "Parameter ScheduleExpression is not valid."
    assert caught.value.remedy.endswith(".") or caught.value.remedy.endswith(")")


def test_a_field_that_is_wrong_is_named():
    with pytest.raises(InvalidSchedule, match="'71' is no minutes: give 0 to 59"):
        describe_schedule("cron(71 8 1 * ? *)")
    with pytest.raises(InvalidSchedule, match="write \\? in the other"):
        describe_schedule("cron(0 8 * * * *)")


def test_a_day_that_never_comes_ends_the_search():
    assert next_firings("cron(0 0 30 2 ? *)", NOW, 5) == []
    assert next_firings("cron(0 0 1 1 ? 2000)", NOW, 5) == []


def test_a_far_year_is_found_and_the_last_year_ends_the_list():
    times = next_firings("cron(59 23 31 12 ? *)", datetime.datetime(2198, 1, 1, tzinfo=datetime.UTC), 5)
    assert [time.year for time in times] == [2198, 2199]


def test_a_rate_counts_elapsed_time_from_the_start_with_its_seconds():
    start = datetime.datetime(2026, 1, 1, 0, 0, 30, tzinfo=datetime.UTC)
    assert [str(time) for time in next_firings("rate(2 hours)", start, 2)] == [
        "2026-01-01 02:00:30+00:00",
        "2026-01-01 04:00:30+00:00",
    ]
    assert next_firings("rate(999999999 days)", start, 2) == []


def test_a_one_time_schedule_fires_once_and_not_after_its_time():
    assert [str(time) for time in next_firings("at(2026-07-01T09:00:05)", NOW, 3, "Asia/Tokyo")] == ["2026-07-01 09:00:05+09:00"]
    assert next_firings("at(2026-01-15T10:07:00)", NOW, 3) == []


def test_a_time_that_the_clocks_go_over_is_skipped_and_marked():
    after = datetime.datetime(2026, 3, 28, 3)
    assert [time.day for time in next_firings("cron(30 2 * * ? *)", after, 2, "Europe/Berlin")] == [30, 31]
    table = firings_table("cron(30 2 * * ? *)", after, 3, "Europe/Berlin")
    assert list(table["UTC"]) == ["", "2026-03-30 00:30:00", "2026-03-31 00:30:00"]
    assert table["note"][0] == "skipped: the clocks go forward over 02:30 that day"
    assert next_firings("at(2026-03-29T02:30:00)", after, 1, "Europe/Berlin") == []


def test_a_time_that_comes_twice_fires_once_and_is_marked():
    after = datetime.datetime(2026, 10, 25, 0, 59)
    table = firings_table("cron(0 * * * ? *)", after, 4, "Europe/Berlin")
    assert list(table["UTC"].str[11:16]) == ["23:00", "00:00", "02:00", "03:00"]
    assert [bool(note) for note in table["note"]] == [False, True, False, False]


def test_days_of_a_rate_are_24_hours_when_the_clocks_change():
    times = next_firings("rate(1 day)", datetime.datetime(2026, 3, 28, 12), 2, "Europe/Berlin")
    assert [time.hour for time in times] == [13, 13]


def test_a_time_without_a_zone_is_in_the_zone_of_the_schedule():
    assert (
        str(next_firings("cron(0 9 * * ? *)", datetime.datetime(2026, 1, 1, 8, 59), 1, "Asia/Tokyo")[0])
        == "2026-01-01 09:00:00+09:00"
    )


@pytest.mark.parametrize("expression", ["cron(0 9 * * ? *)", "rate(1 day)"])
def test_a_time_at_an_end_of_the_calendar_is_refused(expression):
    with pytest.raises(InvalidSchedule, match="end of the calendar"):
        next_firings(expression, datetime.datetime(1, 1, 1), 1, "Asia/Tokyo")


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "", "../etc/passwd", "America", "/etc"])
def test_an_unknown_time_zone_is_refused(zone):
    with pytest.raises(InvalidSchedule, match="IANA"):
        next_firings("rate(1 day)", NOW, 1, zone)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("cron(0 18 ? * MON-FRI *)", "at 18:00 on Monday to Friday (UTC)"),
        ("cron(0 10 * * ? *)", "at 10:00 every day (UTC)"),
        ("cron(0/15 * * * ? *)", "every 15 minutes (UTC)"),
        ("cron(0/5 8-17 ? * MON-FRI *)", "every 5 minutes from 08:00 to 17:55 on Monday to Friday (UTC)"),
        ("cron(15 10 ? * 6L 2026-2030)", "at 10:15 on the last Friday of the month, in 2026 to 2030 (UTC)"),
        ("cron(0 9 15W 1,7 ? *)", "at 09:00 on the Monday to Friday nearest to day 15 of the month, in January and July (UTC)"),
        ("cron(30 4 ? 2 2#5 *)", "at 04:30 on the fifth Monday of the month, in February (UTC)"),
        ("cron(5 */2 * * ? *)", "at minute 5 of every 2 hours from 00 every day (UTC)"),
        ("cron(10/20 * * * ? *)", "every 20 minutes from minute 10 of each hour on (UTC)"),
        ("cron(10/20 8-9 * * ? *)", "every 20 minutes from 08:10 to 09:50 (UTC)"),
        ("cron(1/1 * * * ? *)", "at minute 1 to 59 of every hour every day (UTC)"),
        ("rate(1 hour)", "every hour"),
        ("rate(7 days)", "every 7 days (of 24 hours each, whatever the clocks do)"),
        ("at(2027-01-31T09:00:00)", "once, on 2027-01-31 at 09:00:00 (UTC; EventBridge Scheduler only)"),
    ],
)
def test_a_schedule_is_told_in_words(expression, words):
    assert describe_schedule(expression) == words


# a part of a list with the values that it stands for, by a plain reading
def parts(low, high):
    values = st.integers(low, high)
    single = values.map(lambda value: (str(value), {value}))
    ranges = st.tuples(values, values).map(sorted).map(lambda pair: (f"{pair[0]}-{pair[1]}", set(range(pair[0], pair[1] + 1))))
    steps = st.tuples(values, st.integers(1, high)).map(
        lambda pair: (f"{pair[0]}/{pair[1]}", set(range(pair[0], high + 1, pair[1])))
    )
    return st.one_of(st.just(("*", set(range(low, high + 1)))), single, ranges, steps)


def fields(low, high, extra=None):
    part = parts(low, high) if extra is None else st.one_of(parts(low, high), extra)
    return st.lists(part, min_size=1, max_size=3).map(
        lambda found: (",".join(text for text, _ in found), set().union(*(values for _, values in found)))
    )


weekday_names = st.sampled_from(sorted(NAMES)).map(lambda name: (name, {NAMES[name]}))


@st.composite
def crons(draw):
    """An expression, and a function that says whether a minute is in it."""
    minutes, hours, months = draw(fields(0, 59)), draw(fields(0, 23)), draw(fields(1, 12))
    by_weekday = draw(st.booleans())
    days = draw(fields(1, 7, weekday_names) if by_weekday else fields(1, 31))
    text = f"{minutes[0]} {hours[0]} {'?' if by_weekday else days[0]} {months[0]} {days[0] if by_weekday else '?'} *"

    def holds(time):
        day = time.isoweekday() % 7 + 1 if by_weekday else time.day
        return time.minute in minutes[1] and time.hour in hours[1] and time.month in months[1] and day in days[1]

    return f"cron({text})", holds


@settings(max_examples=60, deadline=None)
@given(crons(), st.datetimes(datetime.datetime(1975, 1, 1), datetime.datetime(2190, 1, 1)))
def test_firings_are_all_the_minutes_that_satisfy_the_fields_and_no_others(cron, start):
    expression, holds = cron
    after = start.replace(tzinfo=datetime.UTC)
    first = after.replace(second=0, microsecond=0) + datetime.timedelta(minutes=1)
    window = [first + datetime.timedelta(minutes=minute) for minute in range(3 * 1440)]
    wanted = [time for time in window if holds(time)]
    got = next_firings(expression, after, len(wanted) + 1)
    assert got[: len(wanted)] == wanted
    assert all(time > window[-1] for time in got[len(wanted) :])
    assert all(earlier < later for earlier, later in pairwise(got))
    assert all(holds(time) for time in got)


CHANGES = {  # time zones with the UTC days on which their clocks change; Lord Howe's by half an hour
    "America/New_York": [datetime.datetime(2026, 3, 8), datetime.datetime(2026, 11, 1)],
    "Australia/Lord_Howe": [datetime.datetime(2026, 4, 4), datetime.datetime(2026, 10, 3)],
    "Europe/Berlin": [datetime.datetime(2026, 3, 29), datetime.datetime(2026, 10, 25)],
}


@settings(max_examples=40, deadline=None)
@given(
    crons(),
    st.sampled_from([(zone, day) for zone, days in CHANGES.items() for day in days]),
    st.timedeltas(datetime.timedelta(hours=-8), datetime.timedelta(hours=20)),
)
def test_where_the_clocks_change_each_wall_clock_time_that_exists_fires_once(cron, change, offset):
    expression, holds = cron
    zone = zoneinfo.ZoneInfo(change[0])
    after = (change[1] + offset).replace(tzinfo=datetime.UTC)
    first = after.replace(second=0, microsecond=0) + datetime.timedelta(minutes=1)
    window = [(first + datetime.timedelta(minutes=minute)).astimezone(zone) for minute in range(1440)]
    wanted = [time for time in window if holds(time) and not time.fold]
    got = next_firings(expression, after, len(wanted) + 1, change[0])
    assert got[: len(wanted)] == wanted
    assert all(time.astimezone(datetime.UTC) > window[-1].astimezone(datetime.UTC) for time in got[len(wanted) :])


SPECIAL_DAYS = st.one_of(
    st.integers(1, 31).map(lambda day: f"{day}W"), st.just("L"), st.just("LW"), st.integers(0, 30).map(lambda days: f"L-{days}")
)  # fmt: skip
SPECIAL_WEEKDAYS = st.one_of(
    st.tuples(st.integers(1, 7), st.integers(1, 5)).map(lambda pair: f"{pair[0]}#{pair[1]}"), st.sampled_from(sorted(NAMES)).map(lambda name: f"{name}L")
)  # fmt: skip


def weekday_of(day):
    return day.isoweekday() % 7 + 1


def special_holds(text, day):
    """Whether L, LW, L-n, nW, n#k or nL names that day, by looking at the days around it."""
    left = (day.replace(day=28) + datetime.timedelta(days=4)).replace(day=1) - datetime.timedelta(days=1) - day
    if "#" in text:
        name, nth = text.split("#")
        return weekday_of(day) == int(name) and (day.day + 6) // 7 == int(nth)
    if text[:3] in NAMES:
        return weekday_of(day) == NAMES[text[:3]] and left.days < 7
    if text == "L" or text.startswith("L-"):
        return left.days == int(text[2:] or 0)
    month = [day.replace(day=1) + datetime.timedelta(days=n) for n in range(day.day + left.days)]
    target = month[-1].day if text == "LW" else int(text[:-1])
    workdays = [one for one in month if one.isoweekday() <= 5]
    return target <= len(month) and day == min(workdays, key=lambda one: abs(one.day - target))


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(SPECIAL_DAYS.map(lambda day: f"{day} * ?"), SPECIAL_WEEKDAYS.map(lambda day: f"? * {day}")),
    st.dates(datetime.date(1975, 1, 1), datetime.date(2190, 1, 1)),
)
def test_special_days_fall_on_each_day_that_they_name_and_no_other(days, start):
    text = days.replace("?", "").replace("*", "").strip()
    after = datetime.datetime.combine(start, datetime.time(12), tzinfo=datetime.UTC)
    window = [start + datetime.timedelta(days=number) for number in range(1, 400)]
    wanted = [day for day in window if special_holds(text, day)]
    got = [time.date() for time in next_firings(f"cron(0 12 {days} *)", after, len(wanted) + 1)]
    assert got[: len(wanted)] == wanted
    assert all(day > window[-1] for day in got[len(wanted) :])


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=40),
        st.text("0123456789*/?-,#LW MONFRI()", max_size=30).map(lambda text: f"cron({text})"),
        st.text("0123456789 minutehorsdy", max_size=15).map(lambda text: f"rate({text})"),
    )
)
def test_any_text_is_a_schedule_with_words_or_is_refused(text):
    try:
        times = next_firings(text, NOW, 3)
    except InvalidSchedule:
        return
    assert times == sorted(times)
    assert describe_schedule(text)
