"""The cost of a corpus of some tokens, as formulas: text, processor time, storage, shuffles, memory, requests.

It knows the design of the data phases; rates and sizes are given. Everything goes backwards from the tokens wanted.
"""

from mantus.data.corpus import PART_BYTES
from mantus.launch.plan.arithmetic import Formula, Input

F = Formula

CODE = "constant of the code"
CONSTANTS = (
    Input("part_bytes", PART_BYTES, "B", "text of a part of a corpus", CODE),
    Input("dedup_document_memory", 50, "B", "held of each document by the process that finds copies", CODE),
    Input(
        "tokenizer_document_memory", 220, "B", "held of each document of the sample by the process that draws it", CODE
    ),
    Input("entry_bytes", 150, "B", "of a manifest for each file", CODE),
    Input("record_bytes", 16, "B", "a band's record: its hash and the document's number", "design"),
    Input("sort_memory", 64, "B", "held of each record while a segment is sorted: 8 arrays of 8 bytes", "design"),
    Input("object_bytes", 8 << 20, "B", "an object that a shuffle writes should have at least", "design"),
    Input("usable_memory", 0.5, "", "share of a machine's memory that tasks plan with", "assumed"),
    Input("hot_share", 0.01, "", "share of documents that have one value of a band in common, at worst", "assumed"),
)

TEXT = (
    F("token_bytes", "2 if vocab_size <= 65536 else 4", "B", "a stored token", shown=False),
    F("kept_bytes", "tokens * bytes_per_token", "B", "text that becomes tokens"),
    F("cleaned_bytes", "kept_bytes / dedup_survival", "B", "text that passes the rules"),
    F("collected_bytes", "cleaned_bytes / clean_survival", "B", "text collected"),
    F("page_bytes", "collected_bytes * page_bytes_per_text", "B", "WARC to read, unpacked"),
    F("warc_bytes", "page_bytes * packed", "B", "WARC to read, as it lies"),
    F("kept_documents", "kept_bytes / kept_document_bytes", "documents", "documents kept"),
    F("cleaned_documents", "cleaned_bytes / cleaned_document_bytes", "documents", "documents that pass the rules"),
    F("collected_documents", "collected_bytes / collected_document_bytes", "documents", "documents collected"),
)
TIME = (
    F("collect_h", "page_bytes / 1e6 * collect_s_per_mb / 3600", "h", "collect: processor hours"),
    F("clean_h", "collected_bytes / 1e6 * clean_s_per_mb / 3600", "h", "clean"),
    F("sign_h", "cleaned_bytes / 1e6 * sign_s_per_mb / 3600", "h", "dedup: signatures"),
    F("judge_h", "cleaned_bytes / 1e6 * judge_s_per_mb / 3600", "h", "dedup: copies, writing"),
    F("tokenizer_h", "(kept_bytes / 1e6 * scan_s_per_mb + sample_mb * learn_s_per_mb) / 3600", "h", "tokenizer"),
    F("tokenize_h", "kept_bytes / 1e6 * tokenize_s_per_mb / 3600", "h", "tokenize"),
    F("cpu_h", "collect_h + clean_h + sign_h + judge_h + tokenizer_h + tokenize_h", "h", "all data phases"),
)
MACHINES = F("machines", "ceil(cpu_h / (cores * hours))", "", "machines for those hours, work divided evenly")
HOURS = F("hours", "cpu_h / (cores * machines)", "h", "hours on those machines, work divided evenly")
STORAGE = (
    F("corpus_store", "collected_bytes * collected_stored", "B", "corpus (parquet)"),
    F("clean_store", "cleaned_bytes * cleaned_stored", "B", "clean (parquet)"),
    F("dedup_store", "kept_bytes * kept_stored", "B", "dedup (parquet)"),
    F("index_store", "kept_documents * index_document_bytes", "B", "index of dedup: bands, hashes, URLs"),
    F("tokens_store", "tokens * token_bytes + 8 * kept_documents", "B", "token shards"),
    F("store", "corpus_store + clean_store + dedup_store + index_store + tokens_store", "B", "all artifacts"),
    F("signatures", "cleaned_documents * index_document_bytes", "B", "scratch of dedup: signatures"),
    F("shingles", "cleaned_bytes * shingles_per_text", "B", "scratch of dedup: shingles"),
    F("peak_dedup", "corpus_store + clean_store + dedup_store + index_store + signatures + shingles", "B",
      "peak in dedup", shown=False),
    F("peak_store", "max(peak_dedup, store + tokens_store)", "B", "peak, scratch included"),
)  # fmt: skip
SHUFFLES = (
    F("task_memory", "memory_bytes / cores * usable_memory", "B", "memory of a task, one a core"),
    F("bands_bytes", "cleaned_documents * bands * record_bytes", "B", "dedup: band records"),
    F("segments", "ceil(cleaned_documents * sort_memory / task_memory)", "", "segments of each band"),
    F("segment_memory", "cleaned_documents / segments * sort_memory", "B", "memory to sort a segment"),
    F("hot_memory", "segment_memory + hot_share * cleaned_documents * sort_memory", "B",
      "the same with a value that many share"),
    F("union_find", "8 * cleaned_documents", "B", "union-find over all documents, in one process"),
    F("band_writers", "max(1, floor(bands_bytes / (bands * segments * object_bytes)))", "",
      "tasks that may write bands, for objects of that size"),
    F("parts", "ceil(collected_bytes / part_bytes)", "objects", "parts of a corpus"),
    F("band_objects", "min(band_writers, parts) * bands * segments", "objects", "objects with band records"),
    F("naive_band_objects", "parts * bands * segments", "objects", "the same if each part wrote its own"),
    F("shuffled_tokens", "tokens * token_bytes", "B", "tokenize: tokens put into buckets"),
    F("buckets", "2 ** ceil(log(max(1, 2 * shuffled_tokens / task_memory)) / log(2))", "", "buckets, a power of two"),
    F("spread", "sqrt(2 * log(max(2, buckets)) * exp(size_sigma ** 2) * buckets / kept_documents)", "",
      "how much larger than the mean the largest bucket is: log-normal sizes, normal sums", shown=False),
    F("bucket_memory", "2 * shuffled_tokens / buckets * (1 + spread)", "B",
      "memory of the largest bucket, put in order"),
    F("bucket_writers", "max(1, floor(shuffled_tokens / (buckets * object_bytes)))", "",
      "tasks that may write buckets, for objects of that size"),
    F("bucket_objects", "min(bucket_writers, parts) * buckets", "objects", "objects of buckets"),
    F("naive_bucket_objects", "parts * buckets", "objects", "the same if each part wrote its own"),
    F("shuffle_bytes", "2 * (bands_bytes + shuffled_tokens)", "B", "shuffle volume: written once, read once"),
)  # fmt: skip
NETWORK = (
    F("network_bytes", "warc_bytes + 2 * corpus_store + 3 * clean_store + 3 * dedup_store + index_store"
      " + shuffle_bytes + tokens_store", "B", "moved between machines and store"),
    F("network_rate", "network_bytes * 8 / (machines * hours * 3600)", "bit/s", "of each machine, on average"),
    F("shards", "buckets * ceil(tokens / buckets / shard_tokens)", "objects", "token shards, buckets their own"),
    F("put_requests", "puts(parts, corpus_store) + puts(parts, clean_store) + puts(parts, dedup_store)"
      " + puts(parts, index_store) + puts(band_objects, bands_bytes) + puts(bucket_objects, shuffled_tokens)"
      " + puts(shards, tokens_store) + shards", "requests", "PUT"),
    F("get_requests", "gets(parts, corpus_store) + 2 * gets(parts, clean_store) + 2 * gets(parts, dedup_store)"
      " + gets(band_objects, bands_bytes) + gets(bucket_objects, shuffled_tokens)", "requests", "GET and HEAD"),
    F("dedup_object", "dedup_store / parts", "B", "an object of the dedup artifact"),
    F("manifest_bytes", "2 * parts * entry_bytes", "B", "manifest of the dedup artifact"),
)  # fmt: skip
TODAY = (
    F("today_h", "(collect_h + clean_h + sign_h) / (machines * cores) + judge_h + tokenizer_h + tokenize_h / cores",
      "h", "hours: dedup's end and tokenizer in one process, tokenize on one machine"),
    F("today_dedup_memory", "cleaned_documents * dedup_document_memory", "B", "memory of dedup's last process"),
    F("today_dedup_disk", "clean_store + signatures + shingles + dedup_store + index_store", "B",
      "disk of that process"),
    F("today_tokenizer_memory",
      "min(kept_documents, sample_mb * 1e6 / kept_document_bytes) * tokenizer_document_memory", "B",
      "memory of tokenizer's sample"),
    F("gathered", "2 * min(1, machines - 1)", "", "times that shared work moves once more, and back", shown=False),
    F("today_network",
      "warc_bytes + (1 + gathered) * (corpus_store + clean_store) + gathered * (signatures + shingles)"
      " + machines * (corpus_store + clean_store) + 3 * dedup_store + index_store + tokens_store", "B",
      "moved: every pod fetches its whole input, the last one gathers"),
    F("today_max_tokens", "tokens * memory_bytes / today_dedup_memory", "tokens",
      "the most tokens that fit the memory of one machine"),
)  # fmt: skip
PRICES = {
    "machine_hour": F("machines_cost", "cpu_h / cores * machine_hour", "", "machines"),
    "tb_month": F("store_cost", "store / 1e12 * tb_month", "", "artifacts, for a month"),
    "million_puts": F("put_cost", "put_requests / 1e6 * million_puts", "", "PUT"),
    "million_gets": F("get_cost", "get_requests / 1e6 * million_gets", "", "GET and HEAD"),
}
"""What a price given by the user is multiplied with."""


def sections(by_hours: bool, prices: list[str]) -> dict[str, tuple[Formula, ...]]:
    """All formulas in order, by the heading of the table. by_hours: hours are given and machines are asked for."""
    cost = tuple(PRICES[name] for name in PRICES if name in prices)
    total = F("cost", " + ".join(formula.name for formula in cost), "", "together")
    found = {
        "text": TEXT,
        "processor time": (*TIME, MACHINES if by_hours else HOURS),
        "storage": STORAGE,
        "tasks and shuffles": SHUFFLES,
        "network and requests": NETWORK,
        "as the code divides work today": TODAY,
    }
    return {**found, "cost": (*cost, total)} if cost else found
