"""Cards read well as HTML and as text, and nothing in them is taken for markup."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from helpers.aws import Check, checks_table
from helpers.runbook import display
from helpers.runbook.report import _named


def test_what_a_service_says_is_never_taken_for_markup() -> None:
    card = display.evidence_card("<b>bold</b>", pd.DataFrame({"<i>": ["<script>alert(1)</script>"]}))
    assert "<script>" not in card.html
    assert "<b>bold" not in card.html
    assert "<script>alert(1)</script>" in card.text


def test_checks_come_with_the_worst_first_and_tell_their_number() -> None:
    checks = [Check("a", "pass", "fine"), Check("b", "fail", "broken", "Mend it."), Check("c", "warn", "odd")]
    card = display.table_card("Preflight", checks_table(checks))
    assert card.text.splitlines()[0] == "== Preflight [fail] 1 pass, 1 warn, 1 fail"
    assert [line.split()[0] for line in card.text.splitlines()[2:]] == ["fail", "warn", "pass"]
    assert card.html.index("✗ fail") < card.html.index("! warn") < card.html.index("✓ pass")


def test_a_plan_reads_as_create_change_delete() -> None:
    writes = [
        {"service": "elasticache", "operation": operation, "resource": "g", "parameters": {"N": 2}}
        for operation in ("CreateReplicationGroup", "ModifyReplicationGroup", "DeleteReplicationGroup")
    ]
    assert [line for line in display.plan_text(writes).splitlines() if "=" not in line] == [
        "+ elasticache:CreateReplicationGroup  g",
        "~ elasticache:ModifyReplicationGroup  g",
        "- elasticache:DeleteReplicationGroup  g",
    ]


def test_numbers_carry_their_units() -> None:
    assert _named("write_gap_ms", 108.3) == ("write gap", "108 ms")
    assert _named("keys_compared", 100845) == ("keys compared", "100,845")
    assert _named("arrived_after_s", 2.2) == ("arrived after", "2.2 s")
    assert _named("cost_a_month_before_usd", 300.764) == ("cost a month before", "300.76 USD")
    assert [_named("freed_bytes", count)[1] for count in (0, 1023, 1024, 1_771_449_728)] == ["0 bytes", "1,023 bytes", "1.0 KiB", "1.6 GiB"]
    assert [display.as_text(value) for value in (True, False, None, 0.1234, 12.34)] == ["yes", "no", "", "0.123", "12.3"]


def test_a_text_longer_than_its_column_is_shown_whole() -> None:
    command = "sudo mount -t nfs4 -o " + "noresvport," * 20 + "hard fs-1:/ /mnt/efs"
    lines = display.evidence_card("Commands", pd.DataFrame({"command": ["mount", command], "with": ["helper", "client"]})).text.splitlines()
    assert lines[2] == "mount".ljust(display.WIDEST) + "  helper"
    assert lines[3] == f"{command}  client"


def test_in_a_notebook_a_figure_is_an_image_of_its_own_and_in_the_report_part_of_its_card(monkeypatch) -> None:
    shown: list = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", shown.append)
    drawing = Figure()
    drawing.subplots().set_title('more < less & "so"', loc="left")

    class Evidence:
        def table(self) -> pd.DataFrame:
            return pd.DataFrame({"a": [1]})

        def figure(self) -> Figure:
            return drawing

    card = display.evidence_card("Found", Evidence())
    display.display(card)
    assert "<img" in card.html
    assert [type(one).__name__ for one in shown] == ["Card", "Picture"]
    assert "<img" not in shown[0]._repr_html_() and "<td" in shown[0]._repr_html_()
    assert shown[1]._repr_png_().startswith(b"\x89PNG")
    assert repr(shown[1]) == '[figure: more < less & "so"]'
