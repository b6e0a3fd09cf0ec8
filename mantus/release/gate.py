"""The gate: what a variant cost against limits, and which layers to leave alone when it cost too much.

It knows measurements, not how they were taken or how variants are written.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from mantus.release.measure import Measured

SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Parts of all layers that are kept in bf16, one after the other, until a variant passes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What passes. All are changes against the trained model, as fractions; kl in nats a token."""

    max_ppl_change: float
    max_kl_mean: float
    max_kl_p99: float
    min_top1: float
    max_tool_drop: float

    def loosened(self, factor: float) -> "Limits":
        """The same for a format that may cost so many times as much; what tools may lose stays."""
        return Limits(
            self.max_ppl_change * factor,
            self.max_kl_mean * factor,
            self.max_kl_p99 * factor,
            1 - (1 - self.min_top1) * factor,
            self.max_tool_drop,
        )


Check = dict[str, Any]


def check(name: str, found: Measured, reference: Measured, limits: Limits) -> list[Check]:
    """One entry for each limit: {name, value, limit, passed, message}."""
    change = found.perplexity / reference.perplexity - 1
    checks = [
        _check(name, "perplexity change", change, limits.max_ppl_change, change <= limits.max_ppl_change, "{:.2%}"),
        _check(name, "KL mean", found.kl_mean, limits.max_kl_mean, found.kl_mean <= limits.max_kl_mean, "{:.4f}"),
        _check(name, "KL p99", found.kl_p99, limits.max_kl_p99, found.kl_p99 <= limits.max_kl_p99, "{:.4f}"),
        _check(name, "top-1 agreement", found.top1, limits.min_top1, found.top1 >= limits.min_top1, "{:.2%}"),
    ]
    if found.tools is not None and reference.tools is not None:
        drop = reference.tools - found.tools
        passed = drop <= limits.max_tool_drop + 1e-9
        checks.append(_check(name, "tool-selection drop", drop, limits.max_tool_drop, passed, "{:.2%}"))
    return checks


def _check(variant: str, name: str, value: float, limit: float, passed: bool, form: str) -> Check:
    message = f"{variant}: {name} {form.format(value)}, limit {form.format(limit)}"
    return {"name": name, "value": value, "limit": limit, "passed": bool(passed), "message": message}


def passes(checks: Collection[Check]) -> bool:
    """Whether nothing failed. A value that is no number fails."""
    return all(entry["passed"] for entry in checks)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A variant as it was written at last."""

    measured: Measured
    checks: list[Check]
    kept: list[str]
    """Layers that stayed in bf16."""


def attempt(
    write: Callable[[list[str]], Measured],
    judge: Callable[[Measured], list[Check]],
    ranking: Callable[[], list[str]],
) -> Attempt:
    """Write a variant; while it fails, again with more of its layers in bf16, the most sensitive first.

    write: writes with the layers that it is given left alone, and measures.  ranking: all layers, most sensitive
    first, or none where the format has no way to keep some; asked only when needed.  The last attempt is what stays.
    """
    measured = write([])
    checks, kept = judge(measured), list[str]()
    ranked = [] if passes(checks) else ranking()
    for share in SHARES if ranked else ():
        kept = sorted(ranked[: max(1, round(len(ranked) * share))])
        measured = write(kept)
        checks = judge(measured)
        if passes(checks):
            break
    return Attempt(measured, checks, kept)
