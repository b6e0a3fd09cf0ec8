"""Phase `report`: all artifacts of a run -> one self-contained page.

It knows how the page is put together; what a section shows is in sections.py.
"""

from html import escape
from importlib.resources import files
from typing import Any

from pydantic import Field

from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute

NOTE = "From text to an agent, by one pipeline; every number is from this run."


class ReportConfig(PhaseConfig):
    """Settings of `mantus report`."""

    artifacts: list[ArtifactURI]
    """What to show, in the order in which it was made."""
    title: str = Field(default="The life of one model")
    """Headline of the page."""


def run(config: ReportConfig) -> Manifest:
    """Draw the page, or find it."""

    def produce(work: Work) -> dict[str, Any]:
        manifests: list[Manifest] = work.manifests["artifacts"]
        found: dict[str, Any] = {}
        for manifest, folder in zip(manifests, work.inputs["artifacts"], strict=True):
            found.setdefault(manifest.kind, []).append((manifest, folder))
        text = page(config.title, found, manifests)
        (work.out / "index.html").write_text(text, encoding="utf-8")
        return {"bytes": len(text.encode())}

    return execute("report", config, produce)


def page(title: str, found: dict[str, Any], manifests: list[Manifest], note: str = NOTE) -> str:
    """The whole HTML document: the sections for what is in `found`, the figures and lineage of `manifests`."""
    from mantus.report import sections

    style = files("mantus.report").joinpath("style.css").read_text(encoding="utf-8")
    parts = (sections.corpus, sections.training, sections.evaluation, sections.release, sections.transcripts)
    cards = "".join(card for part in parts for card in part(found))
    lineage = sections.lineage(manifests) if len(manifests) > 1 else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{style}</style><main><h1>{escape(title)}</h1>"
        f"<p>{escape(note)}</p>"
        f'{_tiles(manifests)}<div class="grid2">{cards}{lineage}</div></main></html>\n'
    )


def _tiles(manifests: list[Manifest]) -> str:
    """The figures that phases put into their stats."""
    tiles = []
    for figure in (figure for manifest in manifests for figure in manifest.stats.get("figures", ())):
        bar = f" ({figure['bar']})" if figure.get("bar") else ""
        name = figure["name"].replace("_", " ")
        shown = f"{escape(format(figure['value'], '.4g'))} <small>{escape(figure['unit'])}</small>"
        tiles.append(f'<div class="tile"><b>{shown}</b><span>{escape(name + bar)}</span></div>')
    return f'<div class="tiles">{"".join(tiles)}</div>'
