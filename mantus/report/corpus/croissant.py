"""Croissant 1.0: a corpus and its token shards as a data set that other tools find, check and read.

It knows the vocabulary (http://mlcommons.org/croissant/1.0) and manifests, not what is in the files. Paths are those
within the store, so that the same artifacts give the same bytes wherever the store is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mantus.data.corpus import part_paths
from mantus.report.corpus.facts import Chain, Made, Survey
from mantus.report.corpus.provenance import DOCUMENTS, licences, sources

CONFORMS = "http://mlcommons.org/croissant/1.0"
PARQUET, OCTETS, JSON = "application/x-parquet", "application/octet-stream", "application/json"

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification asks for."""

MEANING = {
    "id": "blake2b of the text as it was collected, 16 bytes as hex",
    "text": "the document",
    "source": "name of the source it was read from",
    "url": "where it was read",
    "license": "SPDX name where known",
    "lang": "ISO 639-1; for code the language's file suffix",
    "added": "when it entered its source, ISO 8601; empty where unknown",
    "form": "prose or code",
    "cluster_id": "id of the document that stands for its copies: its own",
    "cluster_size": "how many documents it stands for, itself among them",
    "tokens": "its tokens in the shard, the end mark among them",
}
"""What columns hold; what is not here is a signal of quality."""


CONTENTS = {
    "parts": "the documents",
    "tokens": "ids, little-endian uint16, or uint32 beyond 65,536 of them; each document ends with <|endoftext|>",
    "offsets": "where the documents of a shard begin and the last one ends, little-endian uint64",
    "shard-documents": "which documents are in a shard, in its order",
}
"""What is in the sets of files."""


@dataclass(frozen=True, slots=True)
class About:
    """What only people know about a data set."""

    name: str
    description: str
    creator: str
    published: str
    """ISO 8601; '' is the latest day on which a document was added to its source."""
    url: str


def croissant(made: Chain, counted: Survey, about: About, store: str) -> dict[str, Any]:
    """The JSON-LD of the last corpus and of the shards made from it. store: URI of the report's own store."""
    final = made.final.manifest
    named = licences(counted)["licenses"]
    documents = sum(part.documents for part in counted.parts)
    told = (
        f"{documents:,} documents from {', '.join(stat['name'] for stat in sources(made)) or 'files'}, made by Mantus."
    )
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": about.name or f"mantus-{final.kind}-{final.key[:8]}",
        "description": about.description or told,
        "creator": {"@type": "sc:Organization", "name": about.creator},
        "datePublished": about.published or counted.newest or "1970-01-01",
        "url": about.url or f"urn:mantus:{final.kind}:{final.key}",
        "version": f"{final.mantus_version}+{final.key}",
        "license": [entry["reference"] or entry["licenseId"] for entry in named],
        "isLiveDataset": False,
        "distribution": list(_distribution(made, store)),
        "recordSet": list(_records(made)),
    }


def _distribution(made: Chain, store: str) -> Iterator[dict[str, Any]]:
    """Single files with their digests, and sets of them."""
    yield from _files("parts", "part-*.parquet", made.final, store)
    if tokenizer := made.made.get("tokenizer"):
        yield from _files("", "tokenizer.json", tokenizer, store)
    if tokens := made.made.get("tokens"):
        for name, pattern in (("tokens", "*.bin"), ("offsets", "*.idx"), ("shard-documents", f"*{DOCUMENTS}")):
            yield from _files(name, pattern, tokens, store)


def _files(name: str, pattern: str, made: Made, store: str) -> Iterator[dict[str, Any]]:
    """An artifact's files that match, and the set `name` of them; nothing where none does."""
    manifest = made.manifest
    own = f"{manifest.kind}/{manifest.key}"
    folder = own if manifest.uri == f"{store.rstrip('/')}/{own}" else manifest.uri
    entries = [entry for entry in manifest.files if fnmatchcase(entry.path, pattern)]
    form = {".parquet": PARQUET, ".json": JSON}.get(Path(pattern).suffix, OCTETS)
    for entry in entries:
        yield {
            "@type": "cr:FileObject",
            "@id": f"{manifest.kind}/{entry.path}",
            "name": entry.path,
            "contentUrl": f"{folder}/{entry.path}",
            "contentSize": f"{entry.bytes} B",
            "encodingFormat": form,
            "sha256": entry.sha256,
        }
    if entries and name:
        file_set = {"@type": "cr:FileSet", "@id": name, "name": name, "description": CONTENTS[name]}
        yield {**file_set, "encodingFormat": form, "includes": f"{folder}/{pattern}"}


def _records(made: Chain) -> Iterator[dict[str, Any]]:
    final = made.final
    unique = final.manifest.kind == "dedup"
    yield _record_set("documents", "parts", part_paths(final.folder)[0], unique)
    if tokens := made.made.get("tokens"):
        listed = sorted(tokens.folder.rglob(f"*{DOCUMENTS}"))
        if listed:
            yield _record_set("shard_documents", "shard-documents", listed[0], False)


def _record_set(name: str, files: str, example: Path, unique: bool) -> dict[str, Any]:
    """The columns of a set of parquet files of one schema."""
    import pyarrow.parquet as parquet

    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column.name}",
            "name": column.name,
            "description": MEANING.get(column.name, "signal of quality"),
            "dataType": _data_type(str(column.type)),
            "source": {"fileSet": {"@id": files}, "extract": {"column": column.name}},
        }
        for column in parquet.read_schema(example)
    ]
    key = {"key": {"@id": f"{name}/id"}} if unique else {}
    return {"@type": "cr:RecordSet", "@id": name, "name": name, **key, "field": fields}


def _data_type(arrow: str) -> str:
    """Arrow's name of a type -> schema.org's."""
    if "string" in arrow:
        return "sc:Text"
    if arrow == "bool":
        return "sc:Boolean"
    return "sc:Integer" if "int" in arrow else "sc:Float"
