"""The gate of an evaluation: each missed limit is one line, a kept one none."""

import pytest

from mantus.evaluation.gate import BITS, XZ_BITS, misses


@pytest.mark.parametrize(
    ("scores", "limits", "said"),
    [
        ({BITS: 1.9, XZ_BITS: 2.0}, {}, []),
        ({BITS: 2.0, XZ_BITS: 2.0}, {}, ["2 bits per byte of held-out text, xz -9e needs 2"]),
        ({BITS: 3.0, XZ_BITS: 2.0}, {"max_bits_per_byte": 3.5}, []),
        ({BITS: 3.0}, {"max_bits_per_byte": 2.5}, ["3 bits per byte of held-out text, at most 2.5 asked"]),
        ({"a.b": 0.5}, {"min_scores": {"a.b": 0.5}}, []),
        ({"a.b": 0.4}, {"min_scores": {"a.b": 0.5}}, ["a.b 0.4, at least 0.5 asked"]),
        ({"a.b": 0.4}, {"min_scores": {"a.c": 0.5}}, ["a.c: not measured; measured are a.b"]),
        ({}, {}, []),
    ],
)
def test_limits(scores: dict[str, float], limits: dict, said: list[str]):
    assert misses(scores, **limits) == said
