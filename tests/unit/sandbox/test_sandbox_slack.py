import asyncio
import json
from pathlib import Path

import httpx
import pytest
from slack_sdk import WebClient, WebhookClient
from slack_sdk.errors import SlackApiError

from app.sandbox.runner import running
from app.sandbox.slack import Slack, SlackMode, SlackRule, slack_app

HEADER = {"type": "header", "text": {"type": "plain_text", "text": "Switch recommended"}}


@pytest.fixture
def client(url: str, slack: Slack) -> WebClient:
    return WebClient(token="xoxb-1", base_url=f"{url}/api/", timeout=3, retry_handlers=[])


def test_a_posted_message_is_recorded_and_can_be_updated(client: WebClient, slack: Slack) -> None:
    posted = client.chat_postMessage(channel="C1", text="first", blocks=[HEADER])
    client.chat_update(channel="C1", ts=posted["ts"], text="second")
    client.chat_postMessage(channel="C1", text="answer", thread_ts=posted["ts"])
    first, answer = slack.messages
    assert (first["text"], first["ts"]) == ("second", posted["ts"])
    assert first["history"] == [{"text": "first", "blocks": [HEADER], "attachments": None}]
    assert answer["thread_ts"] == posted["ts"]


def test_a_file_is_uploaded_in_three_steps(client: WebClient, slack: Slack) -> None:
    posted = client.chat_postMessage(channel="C1", text="x")
    client.files_upload_v2(
        channel="C1",
        thread_ts=posted["ts"],
        filename="chart.png",
        content=b"\x89PNG....",
        title="T",
    )
    (file,) = slack.files.values()
    assert file["received_bytes"] == 8
    assert (file["name"], file["title"], file["thread_ts"]) == ("chart.png", "T", posted["ts"])
    assert file["head"] == b"\x89PNG....".hex()


def test_who_am_i_and_where_are_answered(client: WebClient) -> None:
    assert client.auth_test()["ok"]
    assert client.conversations_info(channel="C1")["channel"]["is_archived"] is False


def test_a_message_without_a_token_is_refused(url: str, slack: Slack) -> None:
    refused = httpx.post(f"{url}/api/chat.postMessage", json={"channel": "C1", "text": "x"})
    assert refused.json() == {"ok": False, "error": "not_authed"}
    assert slack.messages == []


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        (SlackMode.INVALID_AUTH, "invalid_auth"),
        (SlackMode.CHANNEL_NOT_FOUND, "channel_not_found"),
        (SlackMode.IS_ARCHIVED, "is_archived"),
        ("restricted_action", "restricted_action"),
    ],
)
def test_slack_errors_are_told_and_record_nothing(
    client: WebClient, slack: Slack, mode: str, error: str
) -> None:
    slack.set_rule(SlackRule(mode=mode))
    with pytest.raises(SlackApiError, match=error):
        client.chat_postMessage(channel="C1", text="x")
    assert slack.messages == []
    assert slack.requests == 1


def test_rate_limits_and_breakdowns_have_their_status(url: str, slack: Slack) -> None:
    def post() -> httpx.Response:
        message = {"channel": "C1", "text": "x"}
        headers = {"authorization": "Bearer xoxb-1"}
        return httpx.post(f"{url}/api/chat.postMessage", json=message, headers=headers)

    slack.set_rule(SlackRule(mode=SlackMode.RATE_LIMITED, retry_after="7"))
    assert (post().status_code, post().headers["retry-after"]) == (429, "7")
    slack.set_rule(SlackRule(mode=SlackMode.SERVER_ERROR, times=1))
    assert post().status_code == 500
    assert post().json()["ok"] is True
    slack.set_rule(SlackRule(mode=SlackMode.HTML))
    assert post().text.startswith("<html>")


def test_a_hanging_slack_says_nothing(url: str, slack: Slack) -> None:
    slack.set_rule(SlackRule(mode=SlackMode.HANG))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/api/chat.postMessage", json={}, timeout=0.2)


def test_an_acknowledgement_may_be_lost(url: str, slack: Slack) -> None:
    slack.set_rule(SlackRule(mode=SlackMode.POST_THEN_DROP, times=1))
    headers = {"authorization": "Bearer xoxb-1"}
    message = {"channel": "C1", "text": "x"}
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{url}/api/chat.postMessage", json=message, headers=headers)
    assert [m["text"] for m in slack.messages] == ["x"]


def test_a_rule_may_touch_one_method_and_be_set_over_http(client: WebClient, url: str) -> None:
    rule = {"mode": "is_archived", "method": "chat.update"}
    assert httpx.post(f"{url}/_sandbox/slack", json=rule).json()["mode"] == "is_archived"
    posted = client.chat_postMessage(channel="C1", text="x")
    with pytest.raises(SlackApiError, match="is_archived"):
        client.chat_update(channel="C1", ts=posted["ts"], text="y")
    assert httpx.post(f"{url}/_sandbox/slack", json={"mood": 1}).status_code == 400
    shown = httpx.get(f"{url}/_sandbox/messages").json()
    assert [m["text"] for m in shown["messages"]] == ["x"]
    assert httpx.delete(f"{url}/_sandbox/messages").json()["messages"] == []


@pytest.mark.parametrize(
    "message",
    [
        {"text": "x" * 40_001},
        {"blocks": [{**HEADER, "text": {"type": "plain_text", "text": "x" * 151}}]},
        {"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}]},
        {"blocks": [{"type": "section", "fields": [{"type": "mrkdwn", "text": "x"}] * 11}]},
        {"blocks": [{"type": "divider"}] * 51},
        {"blocks": [{"type": "sektion"}]},
        {},
    ],
)
def test_messages_beyond_slacks_limits_are_refused(
    client: WebClient, slack: Slack, message: dict[str, object]
) -> None:
    with pytest.raises(SlackApiError, match=r"invalid_blocks|msg_too_long|no_text"):
        client.api_call("chat.postMessage", json={"channel": "C1", **message})
    assert slack.messages == []


def test_a_webhook_takes_messages_and_fails_in_its_own_words(url: str, slack: Slack) -> None:
    hook = WebhookClient(f"{url}/services/T0/B0/x", timeout=3, retry_handlers=[])
    assert hook.send(text="hello").body == "ok"
    assert [message["text"] for message in slack.messages] == ["hello"]
    for mode, status in (
        (SlackMode.INVALID_AUTH, 403),
        (SlackMode.CHANNEL_NOT_FOUND, 404),
        (SlackMode.IS_ARCHIVED, 410),
        (SlackMode.RATE_LIMITED, 429),
    ):
        slack.set_rule(SlackRule(mode=mode))
        assert hook.send(text="x").status_code == status
    assert len(slack.messages) == 1


def test_every_request_is_appended_to_the_log(tmp_path: Path) -> None:
    slack = Slack(log=tmp_path / "slack.jsonl", tokens=("xoxb-right",))

    async def play() -> None:
        async with running(slack_app(slack)) as url, httpx.AsyncClient(base_url=url) as http:
            for token in ("xoxb-right", "xoxb-wrong"):
                headers = {"authorization": f"Bearer {token}"}
                message = {"channel": "C1", "text": "x"}
                await http.post("/api/chat.postMessage", json=message, headers=headers)

    asyncio.run(play())
    slack.close()
    lines = [json.loads(line) for line in (tmp_path / "slack.jsonl").read_text().splitlines()]
    assert [line["outcome"] for line in lines] == ["ok", "not_authed"]
    assert len(slack.messages) == 1
