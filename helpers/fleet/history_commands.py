"""`runbook runs`: what was run, and one run's timeline."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="The runs there were: status, who, what, when.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def list_runs(
    context: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="The single runs of fleets too.")] = False,
    status: Annotated[str, typer.Option(help="Only those with this status.")] = "",
    runbook: Annotated[str, typer.Option(help="Only those of this runbook.")] = "",
) -> None:
    """List the runs, newest last; a fleet stands for its runs."""
    if context.invoked_subcommand:
        return
    from helpers.cli import print_table
    from helpers.fleet import history

    found = [one for one in history.runs(members=all_) if status in ("", one.status) and (not runbook or runbook in one.runbook.removeprefix("fleet of ").split(", "))]
    print_table(history.COLUMNS, history.rows(found))


@app.command("show")
def show_run(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    reads: Annotated[bool, typer.Option("--reads", help="Every call, those that only read too.")] = False,
) -> None:
    """Show a run's or a fleet's timeline, each write with its request id."""
    from helpers.cli import checked_run_id, print_table, shown_path
    from helpers.fleet import history
    from helpers.runbook import store

    one = history.known(checked_run_id(run_id))
    directory = store.run_directory(run_id)
    print(f"{one.id}: {one.runbook}, mode {one.mode}: {one.status}\nbegan {history.when(one.began)}, took {history.seconds(one.duration_s) or '?'}; {one.who}; {one.what}")
    if one.error:
        print(one.error)
    moments = history.timeline(directory, reads=reads)
    day = ""
    rows = []
    for moment in moments:
        date, _, clock = history.when(moment.at).partition(" ")
        rows.append((f"{date} {clock}" if date != day else f"{'':10} {clock}", moment.event, moment.about, moment.request_id))
        day = date
    print_table(("when", "what", "about", "request id"), rows)
    for name in ("report.html", "index.html", "output.ipynb"):
        if (directory / name).exists():
            print(shown_path(directory / name))
