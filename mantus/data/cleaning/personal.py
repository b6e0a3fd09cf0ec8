"""What in a text belongs to one person or opens a door: addresses, numbers, keys; each replaced by one for examples.

It knows patterns and checksums, not documents.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["ipv6", "phone", "iban", "card", "secret"]

EMAIL = r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"
OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
FIRST = r"(?:1[1-9]|[2-9][0-9]|1[013-6][0-9]|12[0-689]|17[013-9]|18[0-9]|19[013-9]|2[01][0-9]|22[0-3])"
ADDRESS = rf"(^|[^0-9.]){FIRST}\.{OCTET}\.{OCTET}\.{OCTET}($|[^0-9.]|\.(?:\s|$))"
"""Public IPv4 addresses; first octets below 10 are too often version numbers, 172 and 192 too often private."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Something to replace."""

    column: str
    """Where it is counted."""
    likely: str
    """What a text has that may have one, for polars: only such texts are looked at closely."""
    found: re.Pattern[str]
    sound: Callable[[str], bool]
    """Whether a match is one: what a pattern cannot tell."""
    instead: str


def _public(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).is_global
    except ValueError:
        return False


def _luhn(text: str) -> bool:
    """Whether the digits of a payment card add up (ISO/IEC 7812)."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
    """Whether the check digits of an account number are right (ISO 13616)."""
    plain = re.sub(r"\s", "", text)
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _phone(text: str) -> bool:
    digits = sum(character.isdigit() for character in text)
    return 9 <= digits <= 15 and text.replace("\xa0", " ") != PATTERNS["phone"].instead


SECRETS = (
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----[^-]*(?:-(?!----)[^-]*)*"
    r"-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----",
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bgh[oprsu]_[A-Za-z0-9]{36,255}\b",
    r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b",
    r"\bglpat-[A-Za-z0-9_-]{20}\b",
    r"\bxox[abprs]-[A-Za-z0-9-]{20,}\b",
    r"\bAIza[0-9A-Za-z_-]{35}\b",
)
"""Private keys, and tokens that say by their first letters what they open."""

PATTERNS: dict[str, Pattern] = {
    "ipv6": Pattern(
        "ipv6_addresses",
        r"[23][0-9A-Fa-f]{3}:",
        re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]*[0-9A-Fa-f:](?![\w:])"),
        _public,
        "2001:db8::1",
    ),
    "phone": Pattern(
        "phones",
        r"\+\d|\d{3}\)? ?[-. ]\d{3}",
        re.compile(
            r"(?<![\w.+-])(?:\+[1-9]\d{0,2}(?:[ .\xa0-]?\(?\d{1,4}\)?){2,5}"
            r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}([-. ])\d{3}\1\d{4})(?![\w-]|\.\d)"
        ),
        _phone,
        "+1 202-555-0100",
    ),
    "iban": Pattern(
        "ibans",
        r"\b[A-Z]{2}\d{2} ?[A-Z0-9]{4}",
        re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
        lambda text: _iban(text) and text != PATTERNS["iban"].instead,
        "GB33 BUKB 2020 1555 5555 55",
    ),
    "card": Pattern(
        "cards",
        r"\d{4}[ -]?\d{4}",
        re.compile(
            r"(?<![\w.-])[3-6]\d{3}(?:([ -]?)\d{4}\1\d{4}\1\d{1,4}(?:\1\d{1,3})?|([ -]?)\d{6}\2\d{5})(?![\w-]|\.\d)"
        ),
        lambda text: _luhn(text) and text != PATTERNS["card"].instead,
        "4242 4242 4242 4242",
    ),
    "secret": Pattern(
        "secrets",
        "|".join((r"PRIVATE KEY", *(re.match(r"(?:\\b)?(.*)", secret)[1] for secret in SECRETS[1:]))),  # type: ignore[index]
        re.compile(f"(?=[-Agx])(?:{'|'.join(SECRETS)})"),
        lambda _: True,
        "removed_secret",
    ),
}

COUNTED = ("emails", "addresses")
"""Columns that are always there."""


def columns(also: Sequence[Kind]) -> tuple[str, ...]:
    """The columns of counts, in order."""
    return (*COUNTED, *(PATTERNS[kind].column for kind in also))


def counted(frame: Any, replace: bool, also: Sequence[Kind]) -> Any:
    """The frame with the columns of counts; its texts what they name replaced where `replace` or `also` says so."""
    import polars as pl

    frame = frame.with_columns(
        emails=pl.col("text").str.count_matches(EMAIL),
        addresses=pl.col("text").str.count_matches("(?m)" + ADDRESS),
    )
    if replace:
        frame = frame.with_columns(pl.col("text").pipe(without_pii))
    for kind in also:
        frame = _replaced(frame, PATTERNS[kind])
    return frame


def without_pii(text: Any) -> Any:
    """A text expression with e-mail and public IPv4 addresses replaced by addresses reserved for examples."""
    replaced = text.str.replace_all(EMAIL, "name@example.com")
    return replaced.str.replace_all("(?m)" + ADDRESS, "${1}192.0.2.1${2}")


def _replaced(frame: Any, pattern: Pattern) -> Any:
    import polars as pl

    texts, counts = frame["text"].to_list(), [0] * frame.height
    for place in frame["text"].str.contains(pattern.likely).arg_true().to_list():
        texts[place], counts[place] = replace(texts[place], pattern)
    return frame.with_columns(pl.Series("text", texts, pl.String), pl.Series(pattern.column, counts, pl.UInt32))


def replace(text: str, pattern: Pattern) -> tuple[str, int]:
    """A text without what the pattern finds, and how often that was."""
    num = 0

    def instead(found: re.Match[str]) -> str:
        nonlocal num
        if not pattern.sound(found[0]):
            return found[0]
        num += 1
        return pattern.instead

    return pattern.found.sub(instead, text), num
