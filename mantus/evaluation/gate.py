"""The gate of an evaluation: which limits its scores miss.

It knows scores by name, not how they were measured.
"""

from collections.abc import Mapping

BITS, XZ_BITS = "heldout.bits_per_byte", "heldout.xz_bits_per_byte"


def misses(
    scores: Mapping[str, float], max_bits_per_byte: float = 0.0, min_scores: Mapping[str, float] | None = None
) -> list[str]:
    """One line for each limit that is missed; empty when the gate is passed.

    scores: `task.metric` -> value.  max_bits_per_byte: of held-out text; 0: fewer than `xz -9e` needs for the same
    bytes.  min_scores: the least value of each score named.
    """
    found = []
    if BITS in scores:
        bits, xz = scores[BITS], scores.get(XZ_BITS, float("inf"))
        if max_bits_per_byte and bits > max_bits_per_byte:
            found.append(f"{bits:.4g} bits per byte of held-out text, at most {max_bits_per_byte:g} asked")
        if not max_bits_per_byte and bits >= xz:
            found.append(f"{bits:.4g} bits per byte of held-out text, xz -9e needs {xz:.4g}")
    for name, least in (min_scores or {}).items():
        if name not in scores:
            found.append(f"{name}: not measured; measured are {', '.join(sorted(scores))}")
        elif scores[name] < least:
            found.append(f"{name} {scores[name]:.4g}, at least {least:g} asked")
    return found
