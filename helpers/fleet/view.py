"""A fleet while it runs: a live table in a terminal, a line a run elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from helpers.fleet.record import GOOD
from helpers.fleet.run import Ended, Fleet
from helpers.fleet.targets import Target

SHOWN = 12  # runs of which the live view shows how long they have run
STYLES = {"done": "green", "planned": "blue", "rolled back": "magenta", "failed": "red", "in doubt": "yellow", "not approved": "yellow", "interrupted": "yellow"}


def counted(fleet: Fleet) -> str:
    """`12 of 50 ended: 11 done, 1 failed`."""
    told = ", ".join(f"{count} {status}" for status, count in sorted(fleet.counts.items()))
    return f"{sum(fleet.counts.values())} of {fleet.total} ended{': ' if told else ''}{told}"


def first_sentence(error: str, longest: int = 160) -> str:
    """What an error says first, on one line."""
    text = " ".join(error.partition(" Remedy: ")[0].split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


class Lines:
    """A line for each run that ends: for logs, pipes and CI."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, fleet: Fleet) -> None:
        """Nothing: a log has no live view."""

    def ended(self, fleet: Fleet, target: Target, ended: Ended, duration_s: float) -> None:
        """One line."""
        error = f"  {first_sentence(ended.error)}" if ended.status not in GOOD and ended.error else ""
        print(f"{_clock()} {sum(fleet.counts.values())}/{fleet.total} {target.label}: {ended.status}, {duration_s:.1f} s{_on(fleet, target)}{error}", flush=True)

    def said(self, sentence: str) -> None:
        """A sentence with the time."""
        print(f"{_clock()} {sentence}", flush=True)


class Terminal:
    """A bar, the counts, what runs now, and above it a line for what has failed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=5, transient=True)

    def __enter__(self) -> Terminal:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.__exit__(kind, error, trace)

    def update(self, fleet: Fleet) -> None:
        """Draw again."""
        self._live.update(self._picture(fleet))

    def ended(self, fleet: Fleet, target: Target, ended: Ended, duration_s: float) -> None:
        """Keep what has not gone well on the screen."""
        if ended.status not in GOOD:
            self._console.print(Text.assemble((f"{ended.status:12}", STYLES.get(ended.status, "")), f" {target.label}: {first_sentence(ended.error)}"))
        self.update(fleet)

    def said(self, sentence: str) -> None:
        """A sentence that stays."""
        self._console.print(Text(sentence))

    def _picture(self, fleet: Fleet) -> Any:
        table = Table.grid(padding=(0, 2))
        for target, since in sorted(fleet.running.items(), key=lambda one: one[1])[:SHOWN]:
            table.add_row(Text(f"{time.time() - since:5.0f} s", style="dim"), Text(target.label), Text(f"{target.runbook}{_on(fleet, target)}", style="dim"))
        more = len(fleet.running) - SHOWN
        if more > 0:
            table.add_row("", Text(f"and {more} more", style="dim"))
        if fleet.waiting:
            table.add_row("", Text(f"{len(fleet.waiting)} wait because AWS asked to slow down", style="yellow"))
        bar = Table.grid()  # a bar alone does not end its line
        bar.add_row(ProgressBar(total=max(fleet.total, 1), completed=sum(fleet.counts.values()), width=40))
        head = Text(f"{fleet.mode}, {fleet.part}: {counted(fleet)}", style="bold")
        return Group(head, bar, table)


def view() -> Lines | Terminal:
    """The live view where the output is a terminal, lines elsewhere."""
    console = Console(highlight=False, emoji=False)
    return Terminal(console) if console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty() else Lines()


def _on(fleet: Fleet, target: Target) -> str:
    """The worker that has the target, where the fleet is on a cluster."""
    worker = fleet.where.get(target.number)
    return f" on {worker}" if worker else ""


def _clock() -> str:
    return time.strftime("%H:%M:%S")
