"""What is kept of a conversation: everything but secrets."""

import json
from pathlib import Path

import pytest

from mantus.agent import transcript
from mantus.agent.transcript import HIDDEN


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "sk-proj-abcdefghijklmnop1234",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "hf_abcdefghijklmnopqrstuvwxyz",
        "xoxb-1234567890-abc",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIE",
    ],
)
def test_what_looks_like_a_secret_is_hidden(secret: str):
    row = {"messages": [{"role": "tool", "content": f"found {secret} there"}], secret: [secret]}
    written = transcript.line(row)
    assert secret.split("\n")[0] not in written
    assert json.loads(written)["messages"][0]["content"].startswith(f"found {HIDDEN}")


def test_passwords_in_addresses_and_bearer_tokens_are_hidden():
    row = {"a": "https://me:hunter2@host/x", "b": "Authorization: Bearer abc.def-12345678", "c": "http://host:80/a@b"}
    assert json.loads(transcript.line(row)) == {
        "a": f"https://{HIDDEN}@host/x",
        "b": f"Authorization: Bearer {HIDDEN}",
        "c": "http://host:80/a@b",
    }


def test_secrets_of_the_environment_are_hidden_however_they_are_spelled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    secret = 'se"cr\\et-\u00e9'
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("MANTUS_API_KEY", "abc")
    monkeypatch.setenv("KEYBOARD", "keyboard-of-mine")
    rows = [secret, json.dumps({"a": secret}), json.dumps({"a": secret}, ensure_ascii=False), "abc keyboard-of-mine"]
    path = tmp_path / "t.jsonl"
    for row in rows:
        transcript.append(path, {"text": row, "count": 3, "none": None}, secrets=("given-one",))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert "cr" not in path.read_text(encoding="utf-8").replace("secret", "")
    assert [line["text"] for line in lines] == [HIDDEN, f'{{"a": "{HIDDEN}"}}', f'{{"a": "{HIDDEN}"}}', rows[3]]
    assert lines[0]["count"] == 3
    assert HIDDEN in transcript.line({"a": "it is given-one"}, ("given-one",))
