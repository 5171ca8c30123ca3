"""What is seen of a fleet while it runs."""

from __future__ import annotations

import io
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from rich.console import Console

from helpers.fleet.run import Ended
from helpers.fleet.targets import Target
from helpers.fleet.view import Lines, Terminal, view

TARGET = Target(1, 1, "efs_mount", Path("x"), {}, "fs-1", "012345678901", "eu-west-1")
FAILED = Ended("failed", 1, "There is no file system 'fs-1'. Remedy: Correct it.")


def fleet(**more):
    told = {"mode": "apply", "part": "wave 1", "total": 20, "counts": Counter(done=3, failed=1), "running": {TARGET: time.time() - 7}, "waiting": [], "where": {}}
    return SimpleNamespace(**{**told, **more})


def shown(width: int, draw) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with Terminal(console) as terminal:
        draw(terminal)
    return console.file.getvalue()


def test_a_terminal_shows_the_part_the_counts_what_runs_and_keeps_what_failed():
    def draw(terminal):
        terminal.ended(fleet(), TARGET, FAILED, 2.0)
        terminal.update(fleet(waiting=[(0, TARGET)]))

    text = shown(120, draw)
    for one in ("apply, wave 1: 4 of 20 ended: 3 done, 1 failed", "7 s", "fs-1 · 012345678901 · eu-west-1", "1 wait because AWS asked to slow down", "failed", "There is no file system 'fs-1'."):
        assert one in text
    assert "Remedy" not in text and not any("━" in line and "fs-1" in line for line in text.splitlines())


def test_many_running_ones_are_counted_and_not_all_named():
    many = {Target(n, n, "efs_mount", Path("x"), {}, f"fs-{n}"): time.time() - n for n in range(40)}
    assert "and 28 more" in shown(100, lambda terminal: terminal.update(fleet(running=many)))


def test_the_worker_of_a_cluster_is_named():
    assert "efs_mount on w7" in shown(120, lambda terminal: terminal.update(fleet(where={1: "w7"})))


def test_without_a_terminal_each_run_is_a_line(capsys):
    assert isinstance(view(), Lines)
    with view() as lines:
        lines.ended(fleet(where={1: "w7"}), TARGET, FAILED, 2.0)
        lines.update(fleet())
        lines.said("Stopped.")
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("4/20 fs-1 · 012345678901 · eu-west-1: failed, 2.0 s on w7  There is no file system 'fs-1'.") and second.endswith(" Stopped.")
