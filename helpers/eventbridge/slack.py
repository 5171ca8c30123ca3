"""The input transformer that turns an Amplify deployment event into a Slack message of Block Kit."""

from __future__ import annotations

import json
from typing import Any

AMPLIFY_PATHS = {
    "appId": "$.detail.appId",
    "branchName": "$.detail.branchName",
    "jobId": "$.detail.jobId",
    "jobStatus": "$.detail.jobStatus",
    "region": "$.region",
}
VERIFICATION_URL = "https://<branchName>.<appId>.amplifyapp.com"
CONSOLE_URL = "https://<region>.console.aws.amazon.com/amplify/home?region=<region>#/<appId>/<branchName>/<jobId>"


def amplify_message(channel: str, text: str = "Amplifyデプロイ完了通知") -> tuple[dict[str, str], str]:
    """The input paths and the template of a message that tells a deployment's result, branch, verification URL and console link.

    The console link is a rich text block: `<url|label>`, Slack's short form of a link, is not possible, as EventBridge takes
    all between < and > for a placeholder. A branch whose name holds a quote breaks the message, so that nothing is sent. The
    verification URL is right for branches of small letters, digits and hyphens: for feature/login Amplify serves feature-login,
    and a transformer cannot replace the slash (`preview` says so).

    Sources: https://docs.slack.dev/reference/block-kit/blocks, https://github.com/aws-amplify/amplify-hosting/issues/739 and 1270
    """
    message = {
        "channel": channel,
        "text": text,
        "blocks": [
            {"type": "section", "text": _mrkdwn(":github: プルリクエスト環境")},
            {"type": "context", "elements": [_mrkdwn("*結果*: <jobStatus>")]},
            {"type": "context", "elements": [_mrkdwn("*ブランチ名*: <branchName>")]},
            {"type": "context", "elements": [_mrkdwn(f"*検証URL*: {VERIFICATION_URL}")]},
            {
                "type": "rich_text",
                "elements": [{"type": "rich_text_section", "elements": [_link(CONSOLE_URL, "Amplifyコンソール")]}],
            },
        ],
    }
    return dict(AMPLIFY_PATHS), json.dumps(message, ensure_ascii=False)


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text}


def _link(url: str, text: str) -> dict[str, Any]:
    return {"type": "link", "url": url, "text": text}
