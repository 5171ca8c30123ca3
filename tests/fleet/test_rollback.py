"""A fleet taken back: listed, approved once, the last run first; a fault in one does not stop the others."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

PARAMETERS = """
mode: str = "rehearse"  # mode
name: str = ""  # the thing
approve: str = ""  # gates
plan_file: str = ""  # a plan
run_id: str = ""  # a run
"""
# Effects are found by their module when they are undone, in another process.
THINGS = """
from pathlib import Path
from helpers.aws import RunbookError, act, effect
LEDGER = Path(__file__).with_name("ledger")

def append(line):
    with LEDGER.open("a") as ledger:
        ledger.write(line + "\\n")

def take_back(name: str) -> None:
    "Take the thing away again."
    if LEDGER.with_name(f"stuck-{name}").exists():
        raise RunbookError(f"{name} is stuck.", "Unstick it.")
    append(f"undone {name}")

@effect(undo=take_back)
def put(name: str) -> str:
    act("efs", "CreateTags", name, lambda: append(f"done {name}"))
    return name
"""
CELL = """
from helpers.runbook import engine
from things import put
run = engine.start(NOTEBOOK, globals())
with run.step("Put"):
    put(name)
run.finish()
"""
CALLER = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::012345678901:user/me</Arn>
<UserId>A</UserId><Account>012345678901</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"""


class Sts(http.server.BaseHTTPRequestHandler):
    """An account that says who one is, and nothing else."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(CALLER)))
        self.end_headers()
        self.wfile.write(CALLER.encode())

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def account(monkeypatch) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sts)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "secret-of-a-test", "AWS_DEFAULT_REGION": "eu-west-1", "NO_PROXY": "127.0.0.1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture
def house(tmp_path, monkeypatch, account) -> Path:
    """A runbook whose effect can be undone, and a fleet file over three things."""
    (tmp_path / "things.py").write_text(THINGS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    tagged = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    path = tmp_path / "put.ipynb"
    body = nbformat.v4.new_code_cell(f"NOTEBOOK = {str(path)!r}\n{CELL}")
    nbformat.write(nbformat.v4.new_notebook(cells=[tagged, body], metadata={"runbook": {"resource": "name"}}), path)
    (tmp_path / "fleet.yaml").write_text(f"runbook: {path}\ntargets: [a, b, c]\n")
    return tmp_path


def ledger(house: Path) -> list[str]:
    return (house / "ledger").read_text().splitlines()


@pytest.mark.timeout(200)
def test_a_fleet_is_taken_back_as_a_whole_and_what_cannot_be_does_not_stop_the_rest(house, runbook):
    planned = runbook("fleet", house / "fleet.yaml", "--mode", "plan", "--run-id", "f1")
    assert planned.code == 2, planned.err
    refused = runbook("rollback", "f1")
    assert refused.code == 1 and "Fleet f1 was not applied" in refused.err
    done = runbook("fleet", "--plan", "f1", "--approve", re.search(r"Code: (\w+)", planned.err)[1], "--max-concurrency", "1")
    assert done.code == 0 and ledger(house) == ["done a", "done b", "done c"], done.err
    listed = runbook("rollback", "f1", "--mode", "plan")
    assert listed.code == 2 and "3 of 3 runs changed something; their roll back undoes 3 effects" in listed.out and "Take the thing away again." in listed.out
    asked = runbook("rollback", "f1")
    code = re.search(r"--approve (\w+)", asked.err)[1]
    assert asked.code == 3 and runbook("rollback", "f1", "--approve", "0" * 16).code == 3 and len(ledger(house)) == 3
    (house / "stuck-b").touch()
    back = runbook("rollback", "f1", "--approve", code)
    assert back.code == 4 and "2 rolled back, 1 failed" in back.out and "b is stuck." in back.out
    assert ledger(house)[3:] == ["undone c", "undone a"]
    page = (house / "runs" / "f1" / "index.html").read_text()
    assert "2</b>rolled back" in page and "1</b>failed" in page and "b is stuck." in page and page.count('class="cause"') == 1
    (house / "stuck-b").unlink()
    again = runbook("rollback", "f1", "--approve", re.search(r"--approve (\w+)", runbook("rollback", "f1").err)[1])
    assert again.code == 0 and "1 of 3 runs" in again.out and ledger(house)[5:] == ["undone b"]
    assert runbook("rollback", "f1").code == 0  # nothing is left
    assert "roll back begins" in runbook("runs", "show", "f1").out
    once_more = runbook("fleet", "--plan", "f1")
    assert once_more.code == 3 and "Its plan is not approved." in once_more.err  # what was taken back is not done again unasked
