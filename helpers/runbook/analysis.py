"""An analysis run headless: a notebook that changes nothing and has no mode; its report is the notebook as a page to print.

What its capacity cells recorded (`helpers.aws.capacity`) is kept in result.json as `capacity`.
"""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.aws import capacity
from helpers.runbook import store
from helpers.runbook.parameters import Parameter

if TYPE_CHECKING:
    from nbformat import NotebookNode

SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
MODE = "read"  # in the history of runs, where a runbook has rehearse, plan or apply


def is_analysis(parameters: Iterable[Parameter]) -> bool:
    """True for a notebook that declares no `mode`: it reads only, so there is nothing to plan, approve or resume."""
    return not any(one.name == "mode" for one in parameters)


def record(path: Path, values: Mapping[str, Any], directory: Path, began: float, fault: str) -> dict[str, Any]:
    """Write run.json, result.json and, of what was executed, report.html; returns the result. `fault` says why it failed, if it did."""
    status = "failed" if fault else "done"
    told = {"runbook": path.stem, "run_id": directory.name, "mode": MODE, "parameters": dict(values)}
    result = {**told, "status": status, "exit_code": store.EXIT_CODES[status], "error": fault, "started": began, "ended": time.time(), "steps": [], "calls": [], "metrics": {}}
    import nbformat  # `execute` has imported it by now, without what it would compile

    notebook = nbformat.read(directory / "output.ipynb", as_version=4)
    result["capacity"] = [] if fault else [row for cell in notebook.cells for row in capacity.read(cell.get("outputs", ()))]
    store.write_json(directory / "run.json", {**told, "created": began})
    store.write_private(directory / "report.html", _page(notebook, result))
    store.write_json(directory / "result.json", result)
    return result


def _page(notebook: NotebookNode, result: Mapping[str, Any]) -> str:
    """The executed notebook as one HTML page without its code, which loads nothing from elsewhere, under a line that says what it was run with."""
    from nbconvert.exporters import HTMLExporter  # it takes a second to import, and most runs need no page
    from nbformat.v4 import new_markdown_cell

    exporter = HTMLExporter(exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True)
    title = next((cell.source.splitlines()[0].lstrip("# ") for cell in notebook.cells if cell.cell_type == "markdown"), result["runbook"])
    notebook.cells.insert(1, new_markdown_cell(_facts(result)))
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    return SCRIPT.sub("", page)


def _facts(result: Mapping[str, Any]) -> str:
    """The run in a line: its id, when it began, and the parameters that were given."""
    given = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in result["parameters"].items()) or "none, so the defaults held"
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(result["started"]))
    return f"<small>Run {html.escape(result['run_id'])}, {when}. Parameters: {html.escape(given)}.</small>"
