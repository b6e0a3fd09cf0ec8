"""Small SVG plots: lines, bars, strips in a table, a graph of artifacts. Colours come from the page's style sheet.

It knows numbers and labels, not what they mean. Every plot has a title for screen readers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT, LEFT, BOTTOM = 560, 220, 52, 26


def svg(width: float, height: float, title: str, body: str) -> str:
    """An accessible SVG element that scales with the page."""
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img"><title>{escape(title)}</title>{body}</svg>'


def lines(title: str, unit: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> str:
    """A line chart of (name, [(x, y), ...]) series with a direct label at each line's end."""
    points = [point for _, curve in series for point in curve]
    if not points:
        return ""
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points) or 1
    low, high = min(y for _, y in points), max(y for _, y in points)
    span_x, span = (high_x - low_x) or 1, (high - low) or 1

    def place(x: float, y: float) -> str:
        across = LEFT + (x - low_x) / span_x * (WIDTH - LEFT - 78)
        return f"{across:.1f},{10 + (high - y) / span * (HEIGHT - BOTTOM - 20):.1f}"

    body = []
    for part in range(5):
        value = low + span * part / 4
        at = place(low_x, value).split(",")[1]
        body.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 78}" y1="{at}" y2="{at}"/>')
        body.append(f'<text class="tick" x="{LEFT - 6}" y="{at}" dy="4" text-anchor="end">{value:.3g}</text>')
    for number, (_, curve) in enumerate(series):
        path = " ".join(place(x, y) for x, y in curve)
        body.append(f'<polyline class="line c{number % 5}" points="{path}"/>')
    ends = [tuple(map(float, place(*curve[-1]).split(","))) for _, curve in series]
    for number, down in enumerate(_apart([down for _, down in ends])):
        name, curve = series[number]
        label = escape(f"{name} {curve[-1][1]:.3g}")
        across = ends[number][0] + 5
        body.append(f'<text class="label f{number % 5}" x="{across:.1f}" y="{down:.1f}" dy="4">{label}</text>')
    body.append(f'<text class="tick" x="{LEFT}" y="{HEIGHT - 6}">{low_x:g}</text>')
    body.append(
        f'<text class="tick" x="{WIDTH - 78}" y="{HEIGHT - 6}" text-anchor="end">{high_x:g} {escape(unit)}</text>'
    )
    return svg(WIDTH, HEIGHT, title, "".join(body))


def _apart(heights: Sequence[float], gap: float = 13) -> list[float]:
    """Heights moved up as far as needed for labels not to cover each other."""
    moved = list(heights)
    order = sorted(range(len(moved)), key=lambda index: -moved[index])
    for lower, upper in pairwise(order):
        moved[upper] = min(moved[upper], moved[lower] - gap)
    return moved


def bars(title: str, rows: Sequence[tuple[str, float, str]], width: int = WIDTH) -> str:
    """Horizontal bars of (label, value, shown value)."""
    if not rows:
        return ""
    longest = max(value for _, value, _ in rows) or 1
    body, label_width = [], 190
    for index, (label, value, shown) in enumerate(rows):
        top = 6 + index * 26
        long = max(1.0, value / longest * (width - label_width - 110))
        body.append(
            f'<text class="label" x="{label_width - 8}" y="{top + 13}" text-anchor="end">{escape(label[:30])}</text>'
        )
        body.append(
            f'<rect class="bar b{index % 5}" x="{label_width}" y="{top}" width="{long:.1f}" height="18" rx="3"/>'
        )
        body.append(f'<text class="tick" x="{label_width + long + 6:.1f}" y="{top + 13}">{escape(shown)}</text>')
    return svg(width, 10 + 26 * len(rows), title, "".join(body))


@dataclass(frozen=True, slots=True)
class Strip:
    """A row of `strips`: a bar in coloured parts, and numbers behind it."""

    label: str
    parts: Sequence[tuple[int, float, str]]
    """Colour (0 to 5), length, what it is."""
    cells: Sequence[str]
    """Under the table's other headings."""
    start: float = 0
    """Where the bar begins."""
    kind: str = ""
    """Class of the row: `total` or `drop`."""


def strips(title: str, head: Sequence[str], rows: Sequence[Strip]) -> str:
    """A table of horizontal bars whose letters keep their size on a narrow screen; nothing without rows.

    head: of the labels, then of the cells.
    """
    if not rows:
        return ""
    longest = max(row.start + sum(size for _, size, _ in row.parts) for row in rows) or 1
    heads = "".join(f'<th scope="col"{" class=n" if at else ""}>{escape(name)}</th>' for at, name in enumerate(head))
    heads = heads.replace("</th>", '</th><td class="strip"></td>', 1)
    body = "".join(_strip(row, 1000 / longest) for row in rows)
    return f'<table class="strips"><caption>{escape(title)}</caption><tr class="head">{heads}</tr>{body}</table>'


def _strip(row: Strip, scale: float) -> str:
    at, drawn, said = row.start * scale, [], []
    for colour, size, name in row.parts:
        drawn.append(
            f'<rect class="b{colour}" x="{at:.2f}" y="0" width="{max(2.5, size * scale):.2f}" height="14">'
            f"<title>{escape(name)}</title></rect>"
        )
        said.append(name)
        at += size * scale
    alt = escape("; ".join(said), quote=True) or "nothing"
    drawing = (
        f'<svg viewBox="0 0 1003 14" preserveAspectRatio="none" role="img" aria-label="{alt}">{"".join(drawn)}</svg>'
    )
    cells = "".join(f"<td class=n>{escape(cell)}</td>" for cell in row.cells)
    kind = f' class="{row.kind}"' if row.kind else ""
    return f'<tr{kind}><th scope="row">{escape(row.label)}</th><td class="strip">{drawing}</td>{cells}</tr>'


def legend(names: Sequence[tuple[int, str]]) -> str:
    """What the colours mean."""
    dot = '<svg viewBox="0 0 10 10" aria-hidden="true"><rect class="b{}" width="10" height="10" rx="2"/></svg>'
    items = "".join(f"<li>{dot.format(colour)}{escape(name)}</li>" for colour, name in names)
    return f'<ul class="legend">{items}</ul>' if len(names) > 1 else ""


def graph(title: str, nodes: Sequence[tuple[str, str, str]], edges: Sequence[tuple[str, str]]) -> str:
    """A layered graph of (id, name, detail) nodes; each stands right of everything that it was made from."""
    level: dict[str, int] = {}
    for identity, _, _ in nodes:  # nodes come in the order in which they were made
        sources = [level[a] for a, b in edges if b == identity and a in level]
        level[identity] = max(sources, default=-1) + 1
    rows: dict[int, int] = {}
    place: dict[str, tuple[float, float]] = {}
    for identity, _, _ in nodes:
        column = level[identity]
        place[identity] = (12 + column * 128, 14 + rows.setdefault(column, 0) * 58)
        rows[column] += 1
    body = []
    for start, end in edges:
        if start in place and end in place:
            (x1, y1), (x2, y2) = place[start], place[end]
            a, b = x1 + 104, y1 + 19
            body.append(f'<path class="edge" d="M{a},{b} C{a + 24},{b} {x2 - 24},{y2 + 19} {x2},{y2 + 19}"/>')
    for identity, name, detail in nodes:
        x, y = place[identity]
        body.append(f'<rect class="node" x="{x}" y="{y}" width="104" height="38" rx="6"/>')
        body.append(f'<text class="label" x="{x + 8}" y="{y + 16}">{escape(name)}</text>')
        body.append(f'<text class="tick" x="{x + 8}" y="{y + 30}">{escape(detail)}</text>')
    return svg(24 + 128 * (max(rows, default=0) + 1), 20 + 58 * max(rows.values(), default=1), title, "".join(body))
