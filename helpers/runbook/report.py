"""report.html: the cards of a run on one self-contained page that also prints."""

from __future__ import annotations

import html
import time
from typing import Any

from helpers.runbook import display, store

STYLE = """
body{font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;max-width:1100px;margin:24px auto;padding:0 20px;color:#1a1a1a;background:#fff}
h1{font-size:24px;margin:0 0 4px} .facts{color:#444;margin:0 0 18px}
code,pre{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,monospace;overflow-wrap:anywhere;white-space:pre-wrap}
.numbers{display:flex;flex-wrap:wrap;gap:12px;margin:14px 0} .numbers div{border:1px solid #bbb;border-radius:6px;padding:8px 14px}
.numbers b{display:block;font-size:21px} .numbers b.text{font-size:14px;line-height:1.6;overflow-wrap:anywhere}
thead{display:table-header-group} tr,img,.numbers div{break-inside:avoid}
@media print{details{display:none} body{margin:0;padding:0;max-width:none} div[style*="overflow-x"]{overflow:visible !important} @page{margin:12mm}}
"""


def write(run: Any) -> None:
    """Write report.html of `run` into its folder, mode 0600."""
    store.write_private(run.directory / "report.html", page(run))


def page(run: Any) -> str:
    """The report as HTML; every card shown in the life of the run, the newest of each title."""
    result = run.result()
    started = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(run.started))
    colour = display.COLOURS.get(result["status"], "#616161")
    facts = f"run {run.id} · mode {run.mode} · account {result.get('account', '?')} · {result.get('region', '?')} · {started}"
    error = f'<p style="color:{display.COLOURS["failed"]}">{html.escape(result["error"])}</p>' if result["error"] else ""
    cards = "".join(entry["html"] for entry in _newest(run))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(run.runbook)} {run.id}</title><style>{STYLE}</style></head><body>'
        f'<h1>{html.escape(run.runbook)} <span style="color:{colour}">{result["status"]}</span></h1><p class="facts">{html.escape(facts)}</p>{error}'
        f"{_numbers(result['metrics'])}{cards}</body></html>"
    )


def _newest(run: Any) -> list[dict[str, Any]]:
    """The card entries in order; a card that a resumed run shows again replaces the earlier one, unless it only says `earlier`."""
    entries: dict[str, dict[str, Any]] = {}
    for entry in run.journal.of_type("card"):
        if entry["title"] in entries and display.EARLIER in entry["html"]:
            continue
        entries[entry["title"]] = entry
    return list(entries.values())


UNITS = {"_ms": "{:,.0f} ms", "_s": "{:,.1f} s", "_usd": "{:,.2f} USD", "_cny": "{:,.2f} CNY"}
SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")
LONGEST_NUMBER = 16  # characters: what is longer, as a digest or a command, is text and not a number to read from afar


def _numbers(metrics: dict[str, Any]) -> str:
    shown = [_named(name, value) for name, value in metrics.items() if isinstance(value, (int, float, str)) and not isinstance(value, bool)]
    boxes = (f"<div><b{' class=text' if len(value) > LONGEST_NUMBER else ''}>{html.escape(value)}</b>{html.escape(name)}</div>" for name, value in shown)
    return '<div class="numbers">' + "".join(boxes) + "</div>" if shown else ""


def _named(name: str, value: Any) -> tuple[str, str]:
    """`write_gap_ms`, 108.3 -> `write gap`, `108 ms`."""
    suffix = next((one for one in (*UNITS, "_bytes") if name.endswith(one)), "")
    if not suffix or isinstance(value, str):
        return name.replace("_", " "), display.as_text(value)
    return name.removesuffix(suffix).replace("_", " "), _size(value) if suffix == "_bytes" else UNITS[suffix].format(value)


def _size(count: float) -> str:
    """`1.6 GiB`."""
    power = min(max(int(count).bit_length() - 1, 0) // 10, len(SIZES) - 1)
    return f"{count / 1024**power:,.{1 if power else 0}f} {SIZES[power]}"
