"""The Slack message of an Amplify deployment."""

import json

import pytest

from helpers.eventbridge.preview import preview
from helpers.eventbridge.slack import amplify_message
from helpers.eventbridge.transformers import NotDelivered, render

RULE = {
    "rule_name": "amplify",
    "rule_arn": "arn:aws:events:ap-northeast-1:123456789012:rule/amplify",
    "ingestion_time": "2026-01-01T00:00:01Z",
}


def event(status="SUCCEED", branch="main"):
    detail = {"appId": "d1abc", "branchName": branch, "jobId": "0000000002", "jobStatus": status}
    return {
        "version": "0",
        "id": "e1",
        "detail-type": "Amplify Deployment Status Change",
        "source": "aws.amplify",
        "region": "ap-northeast-1",
        "detail": detail,
    }


@pytest.mark.parametrize("status", ["SUCCEED", "FAILED"])
def test_the_message_tells_result_branch_verification_url_and_console_link(status):
    message = json.loads(render(*amplify_message("foo"), event(status), **RULE))
    assert (message["channel"], message["text"]) == ("foo", "Amplifyデプロイ完了通知")
    heading, result, branch, url, console = message["blocks"]
    assert heading["text"] == {"type": "mrkdwn", "text": ":github: プルリクエスト環境"}
    assert result["elements"][0]["text"] == f"*結果*: {status}"
    assert branch["elements"][0]["text"] == "*ブランチ名*: main"
    assert url["elements"][0]["text"] == "*検証URL*: https://main.d1abc.amplifyapp.com"
    assert console["elements"][0]["elements"] == [
        {
            "type": "link",
            "url": "https://ap-northeast-1.console.aws.amazon.com/amplify/home?region=ap-northeast-1#/d1abc/main/0000000002",
            "text": "Amplifyコンソール",
        }
    ]


def test_every_block_has_the_shape_that_block_kit_asks_for():
    message = json.loads(render(*amplify_message("foo"), event(), **RULE))
    needed = {"section": "text", "context": "elements", "rich_text": "elements"}
    assert all(needed[block["type"]] in block for block in message["blocks"])
    texts = [
        message["blocks"][0]["text"],
        *(text for block in message["blocks"] if block["type"] == "context" for text in block["elements"]),
    ]
    assert all(text["type"] == "mrkdwn" and 0 < len(text["text"]) <= 3000 for text in texts)


def test_a_branch_with_a_quote_is_not_sent_and_the_preview_names_it():
    paths, template = amplify_message("foo")
    with pytest.raises(NotDelivered, match="<branchName>"):
        render(paths, template, event(branch='fix-"quotes"'), **RULE)
    risks = preview(paths, template, event()).risks.set_index("placeholder")
    assert list(risks.index) == ["<jobStatus>", "<branchName>", "<appId>", "<jobId>"]
    assert risks.loc["<branchName>", "a quote"].startswith("nothing is sent:")


def test_the_preview_says_that_a_slash_in_the_branch_gives_a_wrong_verification_url():
    paths, template = amplify_message("foo")
    note = preview(paths, template, event(branch="feature/login")).notes[0]
    assert note.startswith(
        "<branchName> and <appId> in https://<branchName>.<appId>.amplifyapp.com: a host name takes letters, digits and - only"
    )
    assert note.endswith("'feature/login' gives a wrong link.")
    assert "wrong link" not in preview(paths, template, event()).notes[0]
