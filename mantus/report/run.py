"""Phase `report`: all artifacts of a run -> one self-contained page; of a corpus also its metadata.

It knows how the page is put together; what a section shows is in sections.py and corpus/.
"""

from html import escape
from importlib.resources import files
from typing import Any

from pydantic import Field

from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute

NOTE = "From text to an agent, by one pipeline; every number is from this run."
LIFE, CORPUS = "The life of one model", "A corpus, from its sources to its tokens"


class ReportConfig(PhaseConfig):
    """Settings of `mantus report`."""

    artifacts: list[ArtifactURI]
    """What to show, in the order in which it was made. Without a model among it, the page is about the corpus."""
    title: str = ""
    """Headline of the page ('' = one that fits what is shown)."""
    samples: int = Field(default=5, ge=0)
    """Dropped documents shown for each reason."""
    dataset: str = ""
    """Name of the corpus in croissant.json ('' = one made of its key)."""
    description: str = ""
    """What the corpus is, in croissant.json ('' = documents and sources)."""
    creator: str = "Mantus"
    """Who made the corpus, in croissant.json."""
    published: str = Field(default="", pattern=r"^(\d{4}-\d{2}-\d{2})?$")
    """When it was published, YYYY-MM-DD, in croissant.json ('' = the latest day on which a document was added to its
    source: a date that a second run finds again)."""
    url: str = ""
    """Where people read about the corpus, in croissant.json ('' = a name made of its key)."""


def run(config: ReportConfig) -> Manifest:
    """Draw the page, or find it."""
    return execute("report", config, lambda work: _produce(work, config))


def _produce(work: Work, config: ReportConfig) -> dict[str, Any]:
    from mantus.report.corpus import page as corpora
    from mantus.report.corpus.croissant import About

    manifests: list[Manifest] = work.manifests["artifacts"]
    found: dict[str, Any] = {}
    for manifest, folder in zip(manifests, work.inputs["artifacts"], strict=True):
        found.setdefault(manifest.kind, []).append((manifest, folder))
    corpus = corpora.look(found)
    if corpus and found.keys() <= corpora.DATA:
        shown = corpora.sections(corpus, config.samples)
        body = f'{corpora.head(corpus, shown)}<div class="grid2">{corpora.cards(shown)}{_lineage(manifests)}</div>'
        text = document(config.title or CORPUS, corpora.NOTE, body)
    else:
        folded = corpora.fold(corpora.sections(corpus, config.samples)) if corpus else ""
        text = page(config.title or LIFE, found, manifests, folded=folded)
    written = {"index.html": text}
    if corpus:
        about = About(config.dataset, config.description, config.creator, config.published, config.url)
        written |= corpora.files(corpus, about, work.store.uri)
    for name, content in written.items():
        (work.out / name).write_text(content, encoding="utf-8")
    return {"bytes": len(text.encode())}


def page(title: str, found: dict[str, Any], manifests: list[Manifest], note: str = NOTE, folded: str = "") -> str:
    """The whole HTML document: the sections for what is in `found`, the figures and lineage of `manifests`.

    folded: further sections, before the lineage.
    """
    from mantus.report import sections

    parts = (sections.corpus, sections.training, sections.evaluation, sections.release, sections.transcripts)
    cards = "".join(card for part in parts for card in part(found))
    body = f'{_tiles(manifests)}<div class="grid2">{cards}{folded}{_lineage(manifests)}</div>'
    return document(title, note, body)


def _lineage(manifests: list[Manifest]) -> str:
    from mantus.report import sections

    return sections.lineage(manifests) if len(manifests) > 1 else ""


def document(title: str, note: str, body: str) -> str:
    """A self-contained page."""
    style = files("mantus.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<style>{style}</style><main><h1>{escape(title)}</h1><p>{escape(note)}</p>{body}</main></html>\n"
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
