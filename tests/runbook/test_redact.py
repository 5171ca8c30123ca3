"""Secrets are masked, and nothing else is."""

from __future__ import annotations

import pytest

from helpers.runbook.redact import hide, redact


def test_values_in_use_are_masked_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    hide("IQoJb3JpZ2luX2VjEXAMPLETOKEN")
    shown = redact("<td>wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY</td> and IQoJb3JpZ2luX2VjEXAMPLETOKEN.")
    assert shown == "<td>(secret)</td> and (secret)."


@pytest.mark.parametrize("text", ["password=hunter2hunter2", '"AuthToken": "a-long-auth-token-1"', "aws_session_token = FwoGZXIvYXdzEXAMPLE", "AKIAIOSFODNN7EXAMPLE"])
def test_what_looks_like_a_secret_is_masked(text: str) -> None:
    assert "(secret)" in redact(text)
    assert not any(part in redact(text) for part in ("hunter2", "auth-token-1", "FwoG", "FODNN7"))


@pytest.mark.parametrize("text", ["9fceb02d0ae598e95dc970b74767f19372d61af8", "arn:aws:iam::012345678901:role/ops", "password: none", "session:42"])
def test_commits_names_and_short_words_stay(text: str) -> None:
    assert redact(text) == text
