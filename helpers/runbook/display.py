"""Cards: what a run shows, as HTML in JupyterLab and in the report, as readable text elsewhere."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

COLOURS = {
    "done": "#2e7d32", "earlier": "#2e7d32", "planned": "#1565c0", "running": "#616161", "failed": "#c62828",
    "not approved": "#ef6c00", "in doubt": "#ef6c00", "rolled back": "#6a1b9a", "pass": "#2e7d32", "warn": "#ef6c00", "fail": "#c62828",
}  # fmt: skip
IMAGE = re.compile(r'<img [^>]*alt="(?P<title>[^"]*)" src="data:image/png;base64,(?P<data>[^"]*)">')
NOTHING = "nothing"
NO_WRITES = "<p>No writes.</p>"
EARLIER = "carried out earlier in this run"
MARKS = {"pass": "✓ pass", "warn": "! warn", "fail": "✗ fail"}
WIDEST = 100  # characters of a column of text
SIGNS = {"Create": "+", "Put": "~", "Copy": "+", "Delete": "-"}
TABLE = "border-collapse:collapse;margin:6px 0;font-size:13px;text-align:left"
CELL = "padding:3px 12px 3px 0;border-bottom:1px solid rgba(128,128,128,.25);vertical-align:top;text-align:left;white-space:normal;max-width:46em;overflow-wrap:break-word"


@dataclass(frozen=True)
class Card:
    """Something to show under a title: HTML, and the same as text."""

    html: str
    text: str
    title: str = ""

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def display(card: Card) -> None:
    """Show a card: rich where IPython runs, as text elsewhere."""
    try:
        from IPython import get_ipython
        from IPython.display import display as show
    except ImportError:  # pragma: no cover
        print(card.text)
        return
    if get_ipython() is None:
        print(card.text)
        return
    # a figure of its own is kept by viewers that take pictures out of HTML, as those of repositories do
    show(Card(IMAGE.sub("", card.html), card.text, card.title))
    for found in IMAGE.finditer(card.html):
        show(Picture(base64.b64decode(found["data"]), html.unescape(found["title"])))


@dataclass(frozen=True)
class Picture:
    """A PNG with its title."""

    png: bytes
    title: str

    def _repr_png_(self) -> bytes:
        return self.png

    def __repr__(self) -> str:
        return f"[figure: {self.title}]"


def card(title: str, status: str, body_html: str, body_text: str, note: str = "") -> Card:
    """A card with a title, a status that also reads in black and white, and a body."""
    colour = COLOURS.get(status, "#616161")
    head = f'<b style="font-size:15px">{html.escape(title)}</b> <span style="color:{colour};font-weight:600">{status}</span>'
    tail = f' <span style="opacity:.7">{html.escape(note)}</span>' if note else ""
    shown = f'<div style="border-left:5px solid {colour};padding:6px 14px;margin:8px 0"><div style="break-after:avoid">{head}{tail}</div><div>{body_html}</div></div>'
    text = f"== {title} {f'[{status}]' if status else ''} {note}".rstrip() + ("\n" + body_text if body_text else "")
    return Card(shown, text, title)


def table(frame: pd.DataFrame, marks: bool = False) -> str:
    """A DataFrame as a plain HTML table; with `marks` its first column is an outcome. One without rows says `nothing`."""
    if frame.empty:
        return f"<p>{NOTHING}</p>"
    head = "".join(f'<th style="{CELL};white-space:nowrap">{html.escape(str(name))}</th>' for name in frame.columns)
    rows = []
    for row in frame.itertuples(index=False):
        cells = [html.escape(as_text(value)) for value in row]
        if marks and cells and cells[0] in MARKS:
            cells[0] = f'<span style="color:{COLOURS[cells[0]]};font-weight:600;white-space:nowrap">{MARKS[cells[0]]}</span>'
        rows.append("<tr>" + "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells) + "</tr>")
    return f'<div style="overflow-x:auto"><table style="{TABLE}"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def figure(drawing: Any) -> str:
    """A matplotlib figure as an inline image."""
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    data = base64.b64encode(buffer.getvalue()).decode()
    title = " ".join((drawing.axes[0].get_title() or drawing.axes[0].get_title(loc="left")).split()) if drawing.axes else ""
    return f'<img style="max-width:100%" alt="{html.escape(title)}" src="data:image/png;base64,{data}">'


def table_card(title: str, frame: pd.DataFrame) -> Card:
    """A table of checks (first column `outcome`) as a card; its status is the worst outcome."""
    outcomes = set(frame["outcome"])
    status = next((one for one in ("fail", "warn") if one in outcomes), "pass")
    counts = ", ".join(f"{(frame['outcome'] == one).sum()} {one}" for one in ("pass", "warn", "fail") if one in outcomes)
    return card(title, status, table(frame, marks=True), _columns(frame), counts)


def evidence_card(title: str, evidence: Any) -> Card:
    """A table, with its figure where it has one."""
    return card(title, "", _evidence_html(evidence), _evidence_text(evidence))


def gate_card(name: str, question: str, by: str) -> Card:
    """A gate and who opened it."""
    return card(f"Gate: {name}", "planned" if by == "needs approval" else "done", f"{html.escape(question)}<br><i>{html.escape(by)}</i>", f"{question}\n{by}")


def step_card(run: Any, step: Any) -> Card:
    """A step's outcome with its evidence and the calls that made it."""
    shown = "done" if step.status == "earlier" else step.status
    note = f"{step.duration_s:.1f} s" if step.status != "earlier" else EARLIER
    parts, texts = [], []
    for evidence in step.evidence:
        parts.append(_evidence_html(evidence))
        texts.append(_evidence_text(evidence))
    if step.error:
        way = f"Resume: runbook resume {run.id}   Roll back: runbook rollback {run.id}" if run.mode != "plan" else ""
        parts.append(f'<p style="color:{COLOURS["failed"]}">{html.escape(step.error)}</p><p><code>{way}</code></p>')
        texts += [step.error, way]
    if run.mode == "plan":
        writes = [call for call in step.calls if call.write]
        parts.append(plan_html(writes))
        texts.append(plan_text(writes))
    elif step.calls:
        parts.append(_calls_html(step.calls))
    return card(step.title, shown, "".join(parts), "\n".join(text for text in texts if text), note)


def run_card(run: Any) -> Card:
    """Who runs what, where, in which mode."""
    touches = {"rehearse": "a local cloud, no AWS account", "plan": "the real account, reads only", "apply": "the real account, with gates"}[run.mode]
    frame = pd.DataFrame(
        [
            ("mode", f"{run.mode}: {touches}"),
            ("account", run.aws.account + (f" ({run.aws.alias})" if run.aws.alias else "")),
            ("region", run.aws.region),
            ("caller", run.aws.caller),
            ("run id", f"{run.id} (to resume: the parameter run_id, or `runbook resume {run.id}`)"),
        ],
        columns=["", " "],
    )
    return card(run.runbook, "running", table(frame), _columns(frame))


def summary_card(run: Any) -> Card:
    """The end of a run: the steps on a time line, what was made and deleted, the measured numbers."""
    from helpers.runbook import timeline

    writes = run.writes()
    parts = []
    if run.mode == "plan":
        parts.append(f"<p><b>{count_of(len(writes), 'write')}, none sent.</b></p>" + plan_html(writes))
    else:
        parts.append(figure(timeline.draw(run)))
        frame = pd.DataFrame([(_sign(w), w["service"], w["operation"], w["resource"], w["request_id"]) for w in writes], columns=["", "service", "operation", "resource", "request id"])
        parts.append(table(frame) if writes else NO_WRITES)
    text = plan_text(writes)
    return card("Summary", "planned" if run.mode == "plan" else "done", "".join(parts), text, count_of(len(writes), "write"))


def plan_html(writes: list[Any]) -> str:
    """The writes of a plan as a reviewer reads them."""
    return f'<pre style="font-size:13px;line-height:1.35;background:transparent">{html.escape(plan_text(writes))}</pre>' if writes else NO_WRITES


def plan_text(writes: list[Any]) -> str:
    """One block a write: `+ create`, `~ change`, `- delete`, and its parameters below."""
    lines = []
    for write in writes:
        one = write if isinstance(write, dict) else vars(write)
        lines.append(f"{_sign(one)} {one['service']}:{one['operation']}  {one['resource']}")
        lines += [f"      {name} = {value if type(value) is int else as_text(value)}" for name, value in one["parameters"].items()]
    return "\n".join(lines)


def _sign(write: dict[str, Any]) -> str:
    return next((sign for verb, sign in SIGNS.items() if write["operation"].startswith(verb)), "~")


def _calls_html(calls: list[Any]) -> str:
    rows = [(c.service, c.operation, c.resource, "write" if c.write else "read", f"{c.duration_ms:.0f}", c.retries, c.error_code, c.request_id) for c in calls]
    writes = sum(c.write for c in calls)
    frame = pd.DataFrame(rows, columns=["service", "operation", "resource", "kind", "ms", "retries", "error", "request id"])
    return f'<details><summary style="opacity:.75">{count_of(len(calls), "call")}, {count_of(writes, "write")}</summary>{table(frame)}</details>'


def _evidence_html(evidence: Any) -> str:
    if isinstance(evidence, pd.DataFrame):
        return table(evidence)
    if hasattr(evidence, "table"):
        drawing = evidence.figure() if hasattr(evidence, "figure") else None
        return table(evidence.table()) + (figure(drawing) if drawing is not None else "")
    return evidence._repr_html_() if hasattr(evidence, "_repr_html_") else f"<p>{html.escape(str(evidence))}</p>"


def _evidence_text(evidence: Any) -> str:
    if isinstance(evidence, pd.DataFrame):
        return _columns(evidence)
    return _columns(evidence.table()) if hasattr(evidence, "table") else str(evidence)


def _columns(frame: pd.DataFrame) -> str:
    """A DataFrame as left-aligned columns. A longer text than a column's width is not cut, and only moves the rest of its row: half a command is none."""
    if frame.empty:
        return NOTHING
    rows = [[as_text(value) for value in row] for row in frame.itertuples(index=False)]
    if any(str(name).strip() for name in frame.columns):
        rows.insert(0, [str(name) for name in frame.columns])
    widths = [min(max(map(len, column)), WIDEST) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def count_of(number: int, thing: str) -> str:
    """`1 call`, `34 calls`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def as_text(value: Any) -> str:
    """A value as a reader wants it: yes and no, thousands with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else str(value)
