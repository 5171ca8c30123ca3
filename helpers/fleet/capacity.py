"""One capacity report over a fleet: what its analyses recorded, the first to run out first, with what it costs now and then.

Every number is one that a notebook recorded (`helpers.aws.capacity`); what is added up here are months' costs.
"""

from __future__ import annotations

import base64
import html
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone

from helpers.aws.capacity import AT_LIMIT, FITS, NO_ADVICE, RUNS_OUT, SAVES, VERDICTS, Row, money, of_json
from helpers.fleet.record import Outcome, Record
from helpers.fleet.report import CAPACITY, as_csv, causes_of, counted, files_of, linked, page
from helpers.runbook import store
from helpers.runbook.redact import redact

TABLE = "capacity.csv"
SILENT_DAYS, OLD_DAYS = 3, 7  # without a datapoint before it was read, and since it was read: older is stale
COLOURS = {AT_LIMIT: "#c62828", RUNS_OUT: "#c62828", "failed": "#c62828", NO_ADVICE: "#ef6c00", SAVES: "#1565c0", FITS: "#2e7d32"}
DAY_S = 86_400
STYLE = """<style>
td.m{white-space:nowrap} td.m,th.m{text-align:right} table.sums{width:auto;break-inside:avoid} table.sums td,table.sums th{padding-right:26px} td.d{min-width:7.5em} .who.k{white-space:nowrap}
figure{margin:10px 0;break-inside:avoid} figure img{max-width:100%;width:860px} .stale{color:#ef6c00} h2{break-after:avoid} @media print{figure img{width:720px}}
</style>"""


@dataclass(frozen=True)
class Finding:
    """A row and the run that recorded it; `stale` says why it may no longer hold, else it is empty."""

    row: Row
    outcome: Outcome
    stale: str = ""


@dataclass(frozen=True)
class Total:
    """The months' costs of a service in one currency: now, saved and needed more by what is advised, and of how many what is advised has no known cost."""

    service: str
    currency: str
    resources: int
    now: float
    saved: float
    more: float
    unknown: int

    @property
    def then(self) -> float:
        """After what is advised; what has no known cost stays as it is."""
        return self.now - self.saved + self.more


def write(record: Record) -> None:
    """Write capacity.html and capacity.csv of a fleet run into its folder, mode 0600, where analyses recorded rows or failed to."""
    findings, failed = collect(record)
    if findings or failed:
        store.write_private(record.directory / TABLE, redact(_csv(record, findings, failed)))
        store.write_private(record.directory / CAPACITY, redact(_page(record, findings, failed)))


def collect(record: Record, now: float = 0.0) -> tuple[list[Finding], list[Outcome]]:
    """The rows of the newest runs, the most urgent first, and the analyses that have none because they failed or did not run.

    A resource that several runs looked at is there once, as the run saw it that looked at the fewest. `now` is unix time.
    """
    analyses = [one for one in record.outcomes() if one.target.reads_only]
    results = [(one, record.result_of(one)) for one in analyses if one.good]
    found: dict[tuple[str, ...], Finding] = {}
    for outcome, result in sorted(results, key=lambda one: len(one[1].get("capacity", ()))):
        for row in map(of_json, result.get("capacity", ())):
            found.setdefault((row.service, row.account, row.region, row.resource), Finding(row, outcome, _stale(row, result["ended"], now or time.time())))
    return sorted(found.values(), key=lambda one: one.row.order()), [one for one in analyses if not one.good]


def totals(findings: Sequence[Finding]) -> list[Total]:
    """The costs by service and currency, the dearest first."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for one in findings:
        groups.setdefault((one.row.service, one.row.currency), []).append(one.row)
    made = [_total(service, currency, rows) for (service, currency), rows in groups.items()]
    return sorted(made, key=lambda one: -one.now)


def _total(service: str, currency: str, rows: Sequence[Row]) -> Total:
    savings = [one.saving for one in rows]
    unknown = sum(one.cost_now is None or one.cost_then is None for one in rows)
    return Total(service, currency, len(rows), sum(one.cost_now or 0.0 for one in rows), sum(one for one in savings if one > 0), -sum(one for one in savings if one < 0), unknown)


def _stale(row: Row, read: float, now: float) -> str:
    """Why a row may no longer hold; what is made up does not age."""
    if row.made_up:
        return ""
    if now - read > OLD_DAYS * DAY_S:
        return f"read {(now - read) / DAY_S:,.0f} days ago"
    if row.seen_until and read - (seen := datetime.fromisoformat(row.seen_until)).timestamp() > SILENT_DAYS * DAY_S:
        return f"no datapoint since {seen.astimezone(timezone.utc):%Y-%m-%d}"
    return ""


# -- for programs -----------------------------------------------------------------------------------------


COLUMNS = (*(one.name for one in fields(Row)), "stale", "target", "run_id", "output", "report")


def _csv(record: Record, findings: Sequence[Finding], failed: Sequence[Outcome]) -> str:
    rows = [{**asdict(one.row), "stale": one.stale, "target": one.outcome.target.label, "run_id": one.outcome.run_id, **files_of(record, one.outcome)} for one in findings]
    rows += [{"resource": one.target.resource, "verdict": one.status, "note": one.error, "target": one.target.label, "run_id": one.run_id, **files_of(record, one)} for one in failed]
    return as_csv(rows, COLUMNS)


# -- to read ----------------------------------------------------------------------------------------------


def _page(record: Record, findings: Sequence[Finding], failed: Sequence[Outcome]) -> str:
    counts = Counter(one.row.verdict for one in findings)
    sums = totals(findings)
    stale = sum(bool(one.stale) for one in findings)
    runbooks = Counter(one.target.runbook for one in {one.outcome.run_id: one.outcome for one in findings}.values())
    told = [f"mode {record.mode}", ", ".join(f"{name} × {count}" for name, count in runbooks.items()), f"file {record.told['file']}", time.strftime("%Y-%m-%d %H:%M:%S %Z")]
    days, costs = _figures(findings, sums)
    numbers = [(str(len(findings)), "resources"), *((str(counts[one]), one) for one in VERDICTS if counts[one])]
    numbers += [(str(count), name) for count, name in ((stale, "stale"), (len(failed), "analyses without a result")) if count]
    numbers += [(f"{money(one)} → {money(then)}", f"{currency} a month, now and as advised") for currency, one, then in _by_currency(sums)]
    body = [STYLE, *(f"<p>{html.escape(one)}</p>" for one in _notes(record, findings)), counted(numbers), causes_of(failed), days]
    body += [f"<h2>What it costs a month</h2>{_sums(sums)}{costs}" if sums else ""]
    body += [f"<h2>Every resource, what runs out first</h2>{_table(record, findings)}" if findings else ""]
    return page(f"Capacity of fleet {record.id}", " · ".join(filter(None, told)), "".join(body))


def _by_currency(sums: Sequence[Total]) -> list[tuple[str, float, float]]:
    currencies = dict.fromkeys(one.currency for one in sums)
    return [(each, sum(one.now for one in sums if one.currency == each), sum(one.then for one in sums if one.currency == each)) for each in currencies]


def _notes(record: Record, findings: Sequence[Finding]) -> list[str]:
    """What a reader must know before the numbers."""
    made_up = sum(one.row.made_up for one in findings)
    told = []
    if record.mode == "rehearse":
        told.append("A rehearsal: these are resources of local clouds with metrics that were seeded, and no account was asked.")
    if made_up:
        told.append(f"{made_up} of {len(findings)} resources are made up, and marked so." if made_up < len(findings) else "All of them are made up.")
    return told


def _sums(sums: Sequence[Total]) -> str:
    head = ("service", "resources", "currency", "now", "as advised", "saved", "needed more", "cost as advised not known")
    rows = [(one.service, str(one.resources), one.currency, money(one.now), money(one.then), money(one.saved), money(one.more), str(one.unknown) if one.unknown else "") for one in sums]
    for currency, now, then in _by_currency(sums) if len(sums) > 1 else ():
        some = [one for one in sums if one.currency == currency]
        unknown = sum(one.unknown for one in some)
        rows.append(("all", str(sum(one.resources for one in some)), currency, money(now), money(then), money(sum(one.saved for one in some)), money(sum(one.more for one in some)), str(unknown) if unknown else ""))
    titles = "".join(f'<th{" class=m" if place else ""}>{name}</th>' for place, name in enumerate(head))
    body = "".join("<tr>" + "".join(f'<td{" class=m" if place else ""}>{html.escape(text)}</td>' for place, text in enumerate(row)) + "</tr>" for row in rows)
    unknown = sum(one.unknown for one in sums)
    note = f'<p class="who">Of {unknown} it is not known what they cost as advised; they count as they are now.</p>' if unknown else ""
    return f'<div class="wide"><table class="sums"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>{note}'


def _table(record: Record, findings: Sequence[Finding]) -> str:
    names = ("resource", "verdict", "what limits it", "left", "runs out", "what to do", "now", "then", "")
    titles = "".join(f'<th class="{"m" if name in ("left", "now", "then") else "" if name else "files"}">{name or "files"}</th>' for name in names)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(_line(record, one) for one in findings)}</tbody></table></div>'


def _line(record: Record, one: Finding) -> str:
    row = one.row
    where = " · ".join(filter(None, (row.service, row.setting, "made up" if row.made_up else row.account, row.region)))
    stale = f'<div class="stale">{html.escape(one.stale)}</div>' if one.stale else ""
    return (
        f'<tr><td class="w">{html.escape(row.resource)}<div class="who">{html.escape(where)}</div></td><td class="s" style="color:{COLOURS.get(row.verdict, "#8a6d00")}">{html.escape(row.verdict)}{stale}</td>'
        f'<td>{html.escape(row.uses.strip())}</td><td class="m">{row.left}</td><td class="d">{_ends(row)}</td><td class="w"><b>{html.escape(row.recommended)}</b><div class="who">{html.escape(row.note)}</div></td>'
        f'<td class="m">{money(row.cost_now)}</td><td class="m">{money(row.cost_then)}</td><td class="k files">{linked(files_of(record, one.outcome))}</td></tr>'
    )


def _ends(row: Row) -> str:
    """When it runs out: the likely day, what that is of, and the band."""
    if row.no_day or not (row.p10 or row.p50):
        return html.escape(row.ends)
    band = f"P10 {row.p10 or '?'}<br>P90 {row.p90 or f'beyond {row.horizon} days'}"
    return f'<b>{html.escape(row.p50 or f"not before {row.p10}")}</b><div class="who k">{html.escape(row.what_ends)}<br>{band}</div>'


def _figures(findings: Sequence[Finding], sums: Sequence[Total]) -> list[str]:
    """The days and the costs as figures, each empty where it would show nothing."""
    import matplotlib

    matplotlib.use("Agg")  # whatever windows this machine has
    from helpers.fleet import capacity_figures

    drawn = [capacity_figures.draw_days([one.row for one in findings]), capacity_figures.draw_costs(sums)]
    return [f'<figure><img alt="{html.escape(one[0], quote=True)}" src="data:image/png;base64,{base64.b64encode(one[1]).decode()}"></figure>' if one else "" for one in drawn]
