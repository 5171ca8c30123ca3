"""What a fleet run leaves to read: index.html, self-contained and printable, and results.csv."""

from __future__ import annotations

import csv
import html
import io
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from helpers.fleet.causes import causes, split
from helpers.fleet.record import NEVER, Outcome, Record
from helpers.runbook import display, store
from helpers.runbook.redact import redact
from helpers.runbook.report import STYLE

COLUMNS = (
    "number", "runbook", "resource", "note", "account", "region", "status", "exit_code", "duration_s", "attempts", "writes", "changed", "error", "remedy", "run_id", "output", "report",
)  # fmt: skip
CAPACITY = "capacity.html"  # beside it, where analyses recorded rows
ORDER = ("failed", "in doubt", "not approved", "interrupted", NEVER, "planned", "rolled back", "done")  # what wants a look comes first
MORE_STYLE = """
body{max-width:1400px} h2{font-size:18px;margin:26px 0 6px}
table{border-collapse:collapse;width:100%;font-size:13px} th,td{text-align:left;vertical-align:top;padding:4px 12px 4px 0;border-bottom:1px solid #ddd} td.w{overflow-wrap:anywhere;min-width:12em} .wide{overflow-x:auto}
th{border-bottom:2px solid #888;white-space:nowrap} td.n,th.n{text-align:right} td.n,td.s,td.k{white-space:nowrap} td.s{font-weight:600} a{color:#0b57d0}
.cause{border-left:5px solid #c62828;padding:4px 14px;margin:10px 0;break-inside:avoid} .cause p{margin:3px 0} .who{color:#444;font-size:13px}
@media print{body{padding:0} .wide{overflow:visible} table,.who{font-size:11px} th,td{padding:3px 9px 3px 0} .files{display:none} a{color:inherit;text-decoration:none} @page{size:A4 landscape;margin:12mm}}
"""


def write(record: Record, facts: str = "") -> None:
    """Write index.html and results.csv of a fleet run into its folder, mode 0600."""
    outcomes = record.outcomes()
    rows = [_row(record, outcome) for outcome in outcomes]
    store.write_private(record.directory / "results.csv", redact(as_csv(rows, COLUMNS)))
    store.write_private(record.directory / "index.html", redact(_page(record, outcomes, rows, facts)))


def changed(result: dict[str, Any]) -> Counter[str]:
    """The writes of a run by operation, those of the plan in a plan; a write that was refused is none."""
    if result.get("mode") == "plan":
        writes = result.get("plan", [])
    else:
        writes = [call for call in result.get("calls", []) if call["write"] and call["sent"] and not call["error_code"]]
    return Counter(f"{one['service']} {one['operation']}" for one in writes)


def _row(record: Record, outcome: Outcome) -> dict[str, Any]:
    target, result = outcome.target, record.result_of(outcome)
    what, remedy = split(outcome.error) if outcome.error and not outcome.good else ("", "")
    writes = changed(result)
    files = files_of(record, outcome)
    return {
        "number": target.number, "runbook": target.runbook, "resource": target.resource, "note": target.note, "account": target.account or result.get("account", ""),
        "region": target.region or result.get("region", ""), "status": outcome.status, "exit_code": "" if outcome.exit_code is None else outcome.exit_code,
        "duration_s": f"{outcome.duration_s:.1f}" if outcome.run_id else "", "attempts": outcome.attempts, "writes": sum(writes.values()),
        "changed": "; ".join(f"{name} × {count}" if count > 1 else name for name, count in writes.items()), "error": what, "remedy": remedy, "run_id": outcome.run_id,
        "output": files.get("output", ""), "report": files.get("report", ""),
        "found": ", ".join(f"{count} {verdict}" for verdict, count in Counter(one["verdict"] for one in result.get("capacity", ())).items()),
    }  # fmt: skip


def files_of(record: Record, outcome: Outcome) -> dict[str, str]:
    """Where a run's notebook (`output`) and its `report` are, as seen from the fleet's folder; those that there are."""
    files = (("output", "output.ipynb"), ("report", "report.html"))
    return {name: f"../{outcome.run_id}/{file}" for name, file in files if outcome.run_id and (record.runs / outcome.run_id / file).exists()}


def linked(row: Mapping[str, Any]) -> str:
    """Links to a row's files."""
    return " ".join(f'<a href="{html.escape(row[name], quote=True)}">{label}</a>' for name, label in (("report", "report"), ("output", "notebook")) if row.get(name))


def as_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """The rows as CSV with a header; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    made = io.StringIO()
    writer = csv.DictWriter(made, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value for name, value in row.items()} for row in rows)
    return made.getvalue()


def _page(record: Record, outcomes: Sequence[Outcome], rows: Sequence[dict[str, Any]], facts: str) -> str:
    counts = Counter(one.status for one in outcomes)
    runbooks = ", ".join(f"{name} × {count}" for name, count in Counter(one.target.runbook for one in outcomes).items())
    began = min((one.began for one in outcomes if one.began), default=record.told["created"])
    ended = max((one.began + one.duration_s for one in outcomes if one.began), default=began)
    when = f"{time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(began))}, {ended - began:,.0f} s"
    head = " · ".join([f"mode {record.mode}", runbooks, f"file {record.told['file']}", *_one_place(rows), when])
    stopped = record.journal.of_type("stopped")
    newest = record.journal.of_type("started")
    why = [one["why"] for one in stopped if newest and one["at"] > newest[-1]["at"]]
    notes = "".join(f"<p>{html.escape(text)}</p>" for text in (facts, f"Stopped: {why[-1]}." if why else "") if text)
    numbers = [(str(len(rows)), "targets"), *((str(counts[status]), status) for status in sorted(counts, key=_place)), (str(sum(row["writes"] for row in rows)), "writes")]
    notes += f'<p><a href="{CAPACITY}">The capacity report</a>: what runs out first, what to do, and what it costs.</p>' if (record.directory / CAPACITY).exists() else ""
    return page(f"Fleet {record.id}", head, f'{notes}{counted(numbers)}{causes_of(outcomes)}<h2>Targets</h2>{_table(rows)}')


def counted(numbers: Sequence[tuple[str, str]]) -> str:
    """Numbers and their names as boxes in a row."""
    return '<div class="numbers">' + "".join(f"<div><b>{html.escape(value)}</b>{html.escape(name)}</div>" for value, name in numbers) + "</div>"


def page(title: str, facts: str, body: str) -> str:
    """A self-contained page that prints: its title, a line of facts, and what is in it as HTML."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title><style>{STYLE}{MORE_STYLE}</style></head><body>'
        f'<h1>{html.escape(title)}</h1><p class="facts">{html.escape(facts)}</p>{body}</body></html>'
    )


def _one_place(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The account and region where all targets have the same; else a column says it."""
    places = {(row["account"], row["region"]) for row in rows if row["account"] or row["region"]}
    return [" ".join(filter(None, one)) for one in places] if len(places) == 1 else []


def causes_of(outcomes: Sequence[Outcome]) -> str:
    """What went wrong by cause, with whom it concerns; nothing where all is well."""
    found = causes(outcomes)
    if not found:
        return ""
    parts = []
    for cause in found:
        labels = ", ".join(html.escape(one.target.label) for one in cause.outcomes)
        remedy = f"<p><b>Remedy:</b> {html.escape(cause.remedy)}</p>" if cause.remedy else ""
        parts.append(f'<div class="cause"><p><b>{len(cause.outcomes)} ×</b> {html.escape(cause.what)}</p>{remedy}<p class="who">{labels}</p></div>')
    return f"<h2>What went wrong, by cause</h2>{''.join(parts)}"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    with_account = any(row["account"] or row["region"] for row in rows) and not _one_place(rows)
    names = ["#", "target", "runbook", *(["account", "region"] if with_account else []), "status", "s", "what changed, or was found"]
    body = []
    for row in sorted(rows, key=lambda row: (_place(row["status"]), row["number"])):
        links = linked(row)
        changes = html.escape(_by_service(row["changed"]) or row["found"] or ("" if row["error"] else "nothing" if row["run_id"] else ""))
        error = f'<div style="color:{display.COLOURS["failed"]}">{html.escape(row["error"])}</div>' if row["error"] else ""
        place = f'<td class="k">{html.escape(row["account"])}</td><td class="k">{html.escape(row["region"])}</td>' if with_account else ""
        colour = display.COLOURS.get(row["status"], "#616161")
        body.append(
            f'<tr><td class="n">{row["number"]}</td><td class="w">{html.escape(row["resource"] or row["runbook"])}<div class="who">{html.escape(row["note"])}</div></td><td class="k">{html.escape(row["runbook"])}</td>{place}'
            f'<td class="s" style="color:{colour}">{html.escape(row["status"])}</td><td class="n">{row["duration_s"]}</td><td class="w">{changes}{error}</td><td class="k files">{links}</td></tr>'
        )
    head = "".join(f'<th{" class=n" if name in "#s" else ""}>{name}</th>' for name in names)
    return f'<div class="wide"><table><thead><tr>{head}<th class="files">files</th></tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _by_service(changed: str) -> str:
    """`logs CreateLogGroup; logs PutRetentionPolicy; iam CreateRole` as `logs: CreateLogGroup, PutRetentionPolicy; iam: CreateRole`."""
    services: dict[str, list[str]] = {}
    for one in filter(None, changed.split("; ")):
        service, _, operation = one.partition(" ")
        services.setdefault(service, []).append(operation)
    return "; ".join(f"{service}: {', '.join(operations)}" for service, operations in services.items())


def _place(status: str) -> int:
    return ORDER.index(status) if status in ORDER else len(ORDER)
