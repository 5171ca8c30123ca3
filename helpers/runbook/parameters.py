"""The parameters of a runbook: read from its notebook without running it, converted from text, checked.

A runbook declares them in the one code cell tagged `parameters`, one to a line:

    replication_group: str = "sessions"  # the group to upgrade

The types are str, int, float, bool, list[str], dict and Literal["a", "b"] (a choice); `| None` after one of them
allows None. Without `= ...` a parameter is required.
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import math
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.aws.errors import RunbookError

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = ("runbooks", "notebooks")
TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list[str]": list, "dict": dict}
TRUTH = {"true": True, "false": False}


class ParameterError(RunbookError):
    """Wrong parameters; `faults` holds one sentence for each of them."""

    def __init__(self, faults: Iterable[str], remedy: str = "") -> None:
        self.faults = list(faults)
        super().__init__(" ".join(self.faults), remedy)


@dataclass(frozen=True)
class Parameter:
    """A declared parameter; `type` is a key of TYPES or "choice", and `choices` are then its values."""

    name: str
    type: str
    default: Any = None
    help: str = ""
    required: bool = False
    choices: tuple[Any, ...] = ()
    optional: bool = False

    @property
    def annotation(self) -> str:
        """The type as a reader writes it: `str`, `"blue_green" or "in_place"`, `int or none`."""
        text = " or ".join(map(json.dumps, self.choices)) if self.type == "choice" else self.type
        return f"{text} or none" if self.optional else text


@dataclass(frozen=True)
class Runbook:
    """What a runbook's notebook says about itself; `minutes` is how long it takes, `policy` its IAM policy.

    `resource` is the parameter that names what a run is about, the one that differs over a fleet.
    """

    name: str
    path: Path
    title: str
    summary: str
    minutes: float | None
    gates: tuple[str, ...]
    policy: Any
    parameters: list[Parameter]
    resource: str = ""


# -- finding and reading a runbook ---------------------------------------------------------------------


def find(name: str | Path) -> Path:
    """The notebook of a runbook: a path that exists, or a name in runbooks/ or notebooks/ of the project.

    Raises `RunbookError` that names the nearest one.
    """
    path = Path(name)
    for candidate in (path, PROJECT / path):
        if path.suffix == ".ipynb" and candidate.is_file():
            return candidate.resolve()
    known = names()
    if path.stem in known and str(name) in {path.stem, path.name}:
        return known[path.stem]
    raise RunbookError(f"There is no runbook {str(name)!r}.{_nearest(path.stem, known)}", "`runbook list` names them.")


def names() -> dict[str, Path]:
    """The notebooks of the project that have a cell tagged `parameters`, by name."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted((PROJECT / folder).glob("*.ipynb")):
            if _cells(path):
                found.setdefault(path.stem, path)
    return found


def describe(name: str | Path) -> Runbook:
    """The runbook's title, summary, minutes, gates and policy (notebook metadata `runbook`) and its parameters."""
    path = find(name)
    notebook = _read(path)
    told = notebook.get("metadata", {}).get("runbook", {})
    heading, paragraph = _opening(notebook)
    return Runbook(
        name=path.stem,
        path=path,
        title=told.get("title") or heading or path.stem,
        summary=told.get("summary") or paragraph,
        minutes=told.get("minutes"),
        gates=tuple(told.get("gates", ())),
        policy=told.get("policy"),
        parameters=load(path),
        resource=told.get("resource", ""),
    )


def load(path: Path) -> list[Parameter]:
    """The parameters that the notebook at `path` declares, in order; nothing is executed.

    Raises `ParameterError` where there is not exactly one cell tagged `parameters`, or a line in it is no
    declaration.
    """
    cells = _cells(path)
    if len(cells) != 1:
        raise ParameterError([f"{Path(path).name} has {len(cells)} cells tagged `parameters`; it needs exactly one."])
    return parse(cells[0])


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunbookError(f"{path} cannot be read as a notebook: {error}.") from error


def _cells(path: Path) -> list[str]:
    """The sources of the code cells tagged `parameters`."""
    cells = (cell for cell in _read(path).get("cells", []) if cell["cell_type"] == "code")
    return ["".join(cell["source"]) for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]


def _opening(notebook: Mapping[str, Any]) -> tuple[str, str]:
    """The first heading and the first paragraph below it."""
    text = next(("".join(cell["source"]) for cell in notebook.get("cells", []) if cell["cell_type"] == "markdown"), "")
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text) if block.strip()]
    heading = blocks[0].splitlines()[0].lstrip("# ") if blocks and blocks[0].startswith("#") else ""
    paragraph = next((block for block in blocks if not block.startswith(("#", "|", "-", "`"))), "")
    return heading, " ".join(paragraph.split())


# -- parsing the cell ----------------------------------------------------------------------------------


def parse(source: str) -> list[Parameter]:
    """The parameters that the source of a `parameters` cell declares. Raises `ParameterError`."""
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ParameterError([f"The parameters cell is not Python: {error.msg} in line {error.lineno}."]) from error
    comments = _comments(source)
    found, faults = [], []
    for statement in statements:
        if _is_quiet(statement):
            continue
        try:
            found.append(_parameter(statement, comments))
        except ValueError as error:
            faults.append(f"Line {statement.lineno} of the parameters cell: {error}")
    faults += [f"{name} is declared twice." for name in sorted({p.name for p in found if [q.name for q in found].count(p.name) > 1})]
    if faults:
        raise ParameterError(faults)
    return found


def _is_quiet(statement: ast.stmt) -> bool:
    """Statements that declare nothing: a docstring, and the import that Literal needs."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return True
    return isinstance(statement, ast.ImportFrom) and statement.module in {"typing", "__future__"}


def _expression(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        raise ValueError(f"the type {text!r} is not Python.") from None


def _comments(source: str) -> dict[int, str]:
    """The comments by line number."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT}


def _parameter(statement: ast.stmt, comments: Mapping[int, str]) -> Parameter:
    name, annotation, value = _declaration(statement)
    default = _literal(value) if value is not None else None
    kind, choices, optional = _kind(annotation) if annotation is not None else (_inferred(default), (), False)
    lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    told = " ".join(comments[line] for line in lines if line in comments)
    parameter = Parameter(name, kind, default, told, value is None, choices, optional)
    fault = _fault(parameter, default) if value is not None else ""
    if fault:
        raise ValueError(f"the default of {fault}")
    return parameter


def _declaration(statement: ast.stmt) -> tuple[str, ast.expr | None, ast.expr | None]:
    """The name, annotation and value of `name: annotation = value`, `name: annotation` or `name = value`."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id, statement.annotation, statement.value
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, None, statement.value
    raise ValueError('only declarations such as `name: str = "value"  # help` belong here.')


def _literal(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        raise ValueError(f"the default `{ast.unparse(value)}` is not a plain value.") from None


def _inferred(default: Any) -> str:
    """The type of a declaration without annotation, from its default."""
    kind = next((name for name, of in TYPES.items() if type(default) is of), None)
    if kind is None:
        raise ValueError(f"it needs a type: {', '.join(TYPES)} or Literal[...].")
    return kind


def _kind(annotation: ast.expr) -> tuple[str, tuple[Any, ...], bool]:
    """The type, the choices, and whether None is allowed, of an annotation."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _kind(_expression(annotation.value))
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr) and ast.unparse(annotation.right) == "None":
        return (*_kind(annotation.left)[:2], True)
    if isinstance(annotation, ast.Subscript):
        outer = ast.unparse(annotation.value).removeprefix("typing.")
        if outer == "Optional":
            return (*_kind(annotation.slice)[:2], True)
        if outer == "Literal":
            values = _literal(annotation.slice)
            return "choice", values if isinstance(values, tuple) else (values,), False
    text = ast.unparse(annotation)
    kind = "list[str]" if text == "list" else "dict" if text.startswith("dict[") else text
    if kind not in TYPES:
        raise ValueError(f"the type `{text}` is not one of {', '.join(TYPES)}, Literal[...].")
    return kind, (), False


# -- converting text -----------------------------------------------------------------------------------


def convert(parameters: Iterable[Parameter], texts: Mapping[str, str]) -> dict[str, Any]:
    """The values that `texts` (name to text, as typed on a command line) stand for; defaults are left out.

    Text stays text for a str: `012345678901` and `7.10` survive. An int is digits with a sign, a bool is `true` or
    `false` in any case and nothing else (`yes` and `1` are refused, because half the tools read them differently), a
    list is `a,b` or JSON, a dict is JSON, and `none` is None where that is allowed. Raises one `ParameterError` that
    tells all faults: unknown names with the nearest one, bad values, missing required parameters.
    """
    return _collect(parameters, texts, _from_text)


def _collect(parameters: Iterable[Parameter], given: Mapping[str, Any], read: Any) -> dict[str, Any]:
    """Apply `read` to each value given; all faults become one error."""
    declared = {parameter.name: parameter for parameter in parameters}
    faults = [f"There is no parameter {name}.{_nearest(name, declared)}" for name in given if name not in declared]
    faults += [f"{p.name} is required: {p.help or p.annotation}." for p in declared.values() if p.required and p.name not in given]
    values = {}
    for name, parameter in declared.items():
        try:
            if name in given:
                values[name] = read(parameter, given[name])
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ParameterError(faults)
    return values


def _from_text(parameter: Parameter, text: str) -> Any:
    if parameter.optional and text.lower() == "none":
        return None
    value = _READERS[parameter.type](parameter, text)
    fault = _fault(parameter, value)
    if fault:
        raise ValueError(fault)
    return value


def _read_int(parameter: Parameter, text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError(f"{parameter.name} is {text!r}, which is not a whole number.")
    return int(text)


def _read_float(parameter: Parameter, text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        raise ValueError(f"{parameter.name} is {text!r}, which is not a number.")
    return float(text)


def _read_bool(parameter: Parameter, text: str) -> bool:
    if text.lower() not in TRUTH:
        raise ValueError(f"{parameter.name} is {text!r}: write true or false.")
    return TRUTH[text.lower()]


def _read_list(parameter: Parameter, text: str) -> list[str]:
    if text.lstrip().startswith("["):
        return _read_json(parameter, text)
    return [part.strip() for part in text.split(",") if part.strip()]


def _read_json(parameter: Parameter, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        example = '\'{"key": "value"}\'' if parameter.type == "dict" else "a,b or '[\"a\", \"b\"]'"
        raise ValueError(f"{parameter.name} is {text!r}, which is not JSON ({error}): write {example}.") from None


def _read_choice(parameter: Parameter, text: str) -> Any:
    return next((choice for choice in parameter.choices if str(choice) == text), text)


_READERS = {
    "str": lambda _, text: text,
    "int": _read_int,
    "float": _read_float,
    "bool": _read_bool,
    "list[str]": _read_list,
    "dict": _read_json,
    "choice": _read_choice,
}


# -- checking values -----------------------------------------------------------------------------------


def check_values(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as declared, of Python values such as plain papermill injects; defaults are left out.

    `papermill -p` guesses types: it makes an int of account 012345678901 and the truthy text "false" of false. What
    was guessed wrong is refused with the option that passes it right. An int is good for a float. Raises one
    `ParameterError` that tells all faults.
    """
    return _collect(parameters, values, _checked)


def _checked(parameter: Parameter, value: Any) -> Any:
    if parameter.type == "float" and type(value) is int:
        value = float(value)
    fault = _fault(parameter, value)
    if fault:
        raise ValueError(f"{fault}{_papermill_remedy(parameter, value)}")
    return value


def _fault(parameter: Parameter, value: Any) -> str:
    """What is wrong with a value, as a sentence; empty where nothing is."""
    name = parameter.name
    if value is None:
        return "" if parameter.optional else f"{name} is None, but is declared {parameter.annotation}."
    if parameter.type == "choice":
        good = any(type(value) is type(choice) and value == choice for choice in parameter.choices)
        return "" if good else f"{name} is {value!r}: choose {parameter.annotation}.{_nearest(value, parameter.choices)}"
    if type(value) is not TYPES[parameter.type]:
        return f"{name} is {value!r}, {_article(value)}, but is declared {parameter.annotation}."
    if parameter.type == "float" and not math.isfinite(value):
        return f"{name} is {value!r}, which is not a number that can be used."
    if parameter.type == "list[str]" and not all(type(item) is str for item in value):
        return f"{name} holds {next(item for item in value if type(item) is not str)!r}, but is declared list[str]."
    return ""


def _article(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _papermill_remedy(parameter: Parameter, value: Any) -> str:
    """How papermill passes the value right."""
    if parameter.type in {"str", "choice"} and not isinstance(value, str):
        return f" papermill's -p guesses types (012345678901 loses its zero); write `-r {parameter.name} <text>` instead."
    if parameter.type == "bool" and isinstance(value, str):
        return f" papermill's -p knows only True and False: write `-p {parameter.name} {TRUTH.get(value.lower(), 'True')}`."
    if parameter.type in {"list[str]", "dict"} and isinstance(value, str):
        return f" papermill takes it as YAML: `-y '{parameter.name}: ...'`."
    return ""


def _nearest(name: Any, known: Iterable[Any]) -> str:
    """` Do you mean ...?`, or nothing."""
    near = difflib.get_close_matches(str(name), [str(one) for one in known], n=1)
    return f" Do you mean {near[0]}?" if near else ""
