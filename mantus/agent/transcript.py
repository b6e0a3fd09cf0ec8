"""Append conversations to a file of JSON lines, without secrets.

It knows what secrets look like and which ones this process holds, not what a conversation is about.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HIDDEN = "[secret]"
NAMED = re.compile(r"(?i)(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|AUTH|PASSPHRASE)(_|$)")
"""Names of environment variables whose values are secrets."""
SHORTEST = 6
"""A shorter value is no secret; hiding it would only spoil the text."""
SHAPES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bhf_[A-Za-z0-9]{20,}|\bxox[abprs]-[\w-]{10,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|(?<=://)[^/\s:@]{1,256}:[^/\s@]{1,256}(?=@)"
    r"|(?i:(?<=bearer )[\w.~+/-]{8,}=*)",
    re.DOTALL,
)
"""Private keys, keys of well-known services, JSON web tokens, passwords in addresses, bearer tokens."""


def append(path: Path, row: Mapping[str, Any], secrets: tuple[str, ...] = ()) -> None:
    """Add one line; strings in it lose the secrets of the environment, the given ones, and what looks like one."""
    with path.open("a", encoding="utf-8", errors="replace") as stream:
        stream.write(line(row, secrets))


def line(row: Mapping[str, Any], secrets: tuple[str, ...] = ()) -> str:
    """One line of a transcript."""
    return json.dumps(redacted(row, secrets), ensure_ascii=False) + "\n"


def redacted(value: Any, secrets: tuple[str, ...] = ()) -> Any:
    """The same of anything that JSON can hold."""
    known = sorted({*held(os.environ), *(secret for secret in secrets if len(secret) >= SHORTEST)}, key=len)
    return _hide(value, known[::-1])


def held(environment: Mapping[str, str]) -> list[str]:
    """The secrets that an environment holds."""
    return [value for name, value in environment.items() if NAMED.search(name) and len(value) >= SHORTEST]


def _hide(value: Any, known: list[str]) -> Any:
    if isinstance(value, str):
        for secret in known:
            # A call's arguments are JSON inside a string, where a secret is spelled with escapes.
            for spelled in {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}:
                value = value.replace(spelled, HIDDEN)
        return SHAPES.sub(HIDDEN, value)
    if isinstance(value, Mapping):
        return {_hide(key, known): _hide(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hide(item, known) for item in value]
    return value
