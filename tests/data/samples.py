"""Texts that pass every rule, for tests that break one at a time."""

import polars as pl

from mantus.data.corpus import document_id

SENTENCES = [
    "The river ran past the old mill, and nobody who lived there could say how long it had done so.",
    "In the spring the water came over its banks and left a fine grey mud upon the lower fields.",
    "A stranger once asked the miller what he thought about the flood, but he only laughed at that.",
    "They have a saying in the village: be kind to the water, for it was here with us before the stones.",
    "When autumn came the apples were carried to the market town by boat, and sold before noon.",
]
PROSE = "\n\n".join(SENTENCES)
CODE = 'def area(width, height):\n    """The area of a rectangle."""\n    return width * height\n\n' * 4


def frame_of(*texts: str, form: str = "prose") -> pl.DataFrame:
    rows = [(document_id(text), text, "s", f"u{n}", "", "", "", form) for n, text in enumerate(texts)]
    return pl.DataFrame(rows, schema=["id", "text", "source", "url", "license", "lang", "added", "form"], orient="row")
