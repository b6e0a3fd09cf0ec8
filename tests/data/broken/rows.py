"""Broken rows and texts: lines, encodings, compression and parquet."""

import bz2
import gzip
import json
import lzma
import zlib
from pathlib import Path

from tests.data.broken.case import MB, PROSE, Case, case, repeated, write


def rows(folder: Path, data: bytes, name: str = "rows.jsonl", kind: str = "jsonl") -> dict[str, object]:
    return {"type": kind, "path": write(folder, name, data)}


def line(text: str = PROSE, **fields: str) -> bytes:
    return json.dumps({"text": text, **fields}).encode() + b"\n"


@case
def one_very_long_line_of_rows(folder: Path, size: int) -> Case:
    path = repeated(folder / "rows.jsonl", b"x", size, line() + b'{"text": "', b'"}\n' + line("two"))
    return Case({"type": "jsonl", "path": path}, {"line too long": 1}, 2)


@case
def one_very_long_line_of_text(folder: Path, size: int) -> Case:
    path = repeated(folder / "text.txt", b"word ", size)
    return Case({"type": "text", "path": path, "document_kb": 1024}, {}, size)


@case
def rows_nested_without_end(folder: Path, _: int) -> Case:
    return Case(rows(folder, line() + b"[" * 1_000_000 + b"\n" + line("two")), {"not json": 1}, 2)


@case
def rows_with_an_endless_number(folder: Path, _: int) -> Case:
    return Case(rows(folder, line() + b'{"text": "a", "id": ' + b"9" * 100_000 + b"}\n"), {"not json": 1}, 1)


@case
def rows_with_zeros(folder: Path, _: int) -> Case:
    return Case(rows(folder, line("a\0b") + line()), {"binary": 1}, 1)


@case
def rows_with_half_letters(folder: Path, _: int) -> Case:
    return Case(rows(folder, line("\ud800") + line(PROSE, url="\udc80") + line(license="\ud800")), {"not utf-8": 3})


@case
def rows_that_are_not_utf8(folder: Path, _: int) -> Case:
    return Case(rows(folder, b'{"text": "caf\xe9"}\n' + line()), {"not utf-8": 1}, 1)


@case
def rows_that_are_no_rows(folder: Path, _: int) -> Case:
    return Case(rows(folder, b'[1]\n"a"\n3\nnull\n{"text": 5}\n' + line()), {"no field 'text'": 5}, 1)


@case
def rows_in_a_gzip_bomb(folder: Path, size: int) -> Case:
    return Case(
        rows(folder, gzip.compress(line() + b" " * (size + 70) * MB)), {"line too long": 1, "compression bomb": 1}, 1
    )


@case
def rows_in_an_xz_bomb(folder: Path, size: int) -> Case:
    packed = lzma.compress(line() + b" " * (size + 70) * MB, preset=1)
    return Case(rows(folder, packed), {"line too long": 1, "compression bomb": 1}, 1)


@case
def rows_in_a_zst_bomb(folder: Path, size: int) -> Case:
    return Case(rows(folder, zst(line() + b" " * (size + 70) * MB)), {"line too long": 1, "compression bomb": 1}, 1)


@case
def rows_in_cut_zst(folder: Path, _: int) -> Case:
    return Case(rows(folder, zst(line() * 10)[:-5]), {"damaged compression": 1}, 0)


@case
def rows_in_cut_xz(folder: Path, _: int) -> Case:
    return Case(rows(folder, lzma.compress(line() * 10)[:-30]), {"damaged compression": 1}, 10)


@case
def rows_in_damaged_gzip(folder: Path, _: int) -> Case:
    packed = bytearray(gzip.compress(line() * 10))
    packed[30] ^= 255
    return Case(rows(folder, bytes(packed)), {"damaged compression": 1}, 0)


@case
def rows_compressed_twice(folder: Path, _: int) -> Case:
    return Case(rows(folder, gzip.compress(bz2.compress(line()))), {"nested compression": 1})


@case
def rows_in_an_xz_that_asks_for_gigabytes(folder: Path, _: int) -> Case:
    packed = bytearray(lzma.compress(line()))
    stop = 12 + (packed[12] + 1) * 4 - 4
    assert packed[14:16] == b"\x21\x01"
    packed[16] = 40  # a dictionary of 4 GiB
    packed[stop : stop + 4] = zlib.crc32(packed[12:stop]).to_bytes(4, "little")
    return Case(rows(folder, bytes(packed)), {"damaged compression": 1})


def zst(data: bytes) -> bytes:
    import pyarrow

    packed: bytes = pyarrow.Codec("zstd").compress(data, asbytes=True)
    return packed


def table(folder: Path, columns: dict[str, object], **options: object) -> str:
    import pyarrow
    import pyarrow.parquet as parquet

    path = folder / "rows.parquet"
    parquet.write_table(pyarrow.table(columns), path, **options)
    return str(path)


@case
def parquet_cut_off(folder: Path, _: int) -> Case:
    path = Path(table(folder, {"text": [PROSE]}))
    path.write_bytes(path.read_bytes()[:-10])
    return Case({"type": "parquet", "path": str(path)}, {"not parquet": 1})


@case
def parquet_with_a_hole(folder: Path, _: int) -> Case:
    path = Path(table(folder, {"text": [f"{n} {PROSE}" for n in range(999)]}, compression="zstd", use_dictionary=False))
    data = bytearray(path.read_bytes())
    data[60:160] = bytes(100)
    path.write_bytes(data)
    return Case({"type": "parquet", "path": str(path)}, {"damaged compression": 1})


@case
def parquet_of_an_end_alone(folder: Path, _: int) -> Case:
    data = b"PAR1" + bytes(20) + (2**31 - 1).to_bytes(4, "little") + b"PAR1"
    return Case({"type": "parquet", "path": write(folder, "rows.parquet", data)}, {"not parquet": 1})


@case
def parquet_that_is_a_bomb(folder: Path, size: int) -> Case:
    texts = ["x" * (30 * MB)] * (2 + size // 30)
    path = table(folder, {"text": texts}, compression="zstd", use_dictionary=False)
    return Case({"type": "parquet", "path": path}, {"compression bomb": 1})


@case
def parquet_with_one_long_value_in_all_rows(folder: Path, size: int) -> Case:
    import pyarrow

    column = pyarrow.array(["x" * (size * MB // 10)]).dictionary_encode()
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 20, pyarrow.int32()), column.dictionary)
    path = table(folder, {"text": column}, compression="none")
    return Case({"type": "parquet", "path": path}, {"text too long": 20} if size > 320 else {}, 0 if size > 320 else 20)


@case
def parquet_that_is_not_utf8(folder: Path, _: int) -> Case:
    import pyarrow

    column = pyarrow.array([b"caf\xe9", PROSE.encode()], pyarrow.binary()).view(pyarrow.string())
    return Case({"type": "parquet", "path": table(folder, {"text": column})}, {"not utf-8": 1}, 1)


@case
def parquet_without_texts(folder: Path, _: int) -> Case:
    return Case({"type": "parquet", "path": table(folder, {"text": [1, 2]})}, {"no field 'text'": 2})


@case
def text_in_utf16(folder: Path, _: int) -> Case:
    return Case(rows(folder, PROSE.encode("utf-16"), "a.txt", "text"), {"not utf-8": 1})


@case
def text_of_zeros(folder: Path, size: int) -> Case:
    return Case({"type": "text", "path": repeated(folder / "a.txt", b"\0", size)}, {"not utf-8": 1})
