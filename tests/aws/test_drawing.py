"""What reports share: sentences in full and to the left, words that fit a page, dates in UTC."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import pandas as pd

from helpers.aws.drawing import COLUMNS, Sentences, dates, done, one_plot, say


def test_a_table_of_sentences_is_not_cut_and_reads_from_the_left():
    told = Sentences(pd.DataFrame({"why": ["a sentence of many words " * 20]}))._repr_html_()
    assert told.count("a sentence of many words") == 20
    assert told.count("text-align: left") >= 2 and "<td>" not in told and "<th>" not in told


def test_what_a_table_holds_is_text_and_no_markup():
    assert "<script>" not in Sentences(pd.DataFrame({"why": ["<script>"]}))._repr_html_()


def test_words_are_broken_between_words_where_a_page_ends(capsys):
    say("word " * 40, "2026-11-01 is a day")
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= COLUMNS and not line.startswith("ord") for line in lines)
    assert lines[-1] == "2026-11-01 is a day"


def test_dates_are_utc_whatever_the_zone_of_the_machine(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        figure, axes = one_plot(2)
        axes.plot([datetime(2026, 11, 1, hour, tzinfo=timezone.utc) for hour in (0, 6)], [0, 1])
        dates(axes)
        figure.canvas.draw()
        shown = [label.get_text() for label in axes.get_xticklabels()]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert "06:00" in shown and "15:00" not in shown and axes.get_xlabel() == "time (UTC)"
    assert done(figure) is figure
