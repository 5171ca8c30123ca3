"""A notebook's own cells, run in the process of the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def run_cells(notebook: Path, until: str = "", **parameters: Any) -> dict[str, Any]:
    """Run the code cells of a notebook with these parameters, all or those before the first that contains `until`; returns its names."""
    cells = ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    exec(cells[0], names)
    names.update(parameters)
    for cell in cells[1:]:
        if until and until in cell:
            break
        exec(cell, names)
    return names
