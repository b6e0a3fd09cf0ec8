"""bfcl-eval's own decoder and checker over a file of answers; runs in the environment where bfcl-eval is installed.

`python official.py ANSWERS.jsonl VERDICTS.jsonl`. What bfcl-eval imports besides and does not need for this (parsers of
other languages, clients of vendors) is replaced by empty modules. It knows nothing of Mantus.
"""

import json
import sys
import types
import warnings
from collections import defaultdict
from pathlib import Path
from unittest.mock import MagicMock

warnings.filterwarnings("ignore")


def load() -> tuple:
    """The decoder, the check of its form, the checker, and the language."""
    for name in ("tree_sitter", "tree_sitter_java", "tree_sitter_javascript", "filelock", "tenacity"):
        sys.modules[name] = MagicMock()
    models = types.ModuleType("bfcl_eval.constants.model_config")
    models.MODEL_CONFIG_MAPPING = defaultdict(lambda: types.SimpleNamespace(underscore_to_dot=False))
    sys.modules[models.__name__] = models
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker
    from bfcl_eval.model_handler.utils import default_decode_ast_prompting
    from bfcl_eval.utils import is_empty_output, is_function_calling_format_output

    return default_decode_ast_prompting, is_function_calling_format_output, is_empty_output, ast_checker, Language


def main(answers: Path, verdicts: Path) -> None:
    """Write a verdict for each answer: the error's type, '' where it is right."""
    decode, well_formed, empty, check, language = load()

    def verdict(row: dict) -> str:
        about_relevance, irrelevant = "relevance" in row["category"], "irrelevance" in row["category"]
        try:
            calls = decode(row["text"]) if "text" in row else row["calls"]
        except Exception:  # noqa: BLE001 - whatever the decoder raises, the answer is no call
            missing = "relevance_error:decoder_failed" if about_relevance else "ast_decoder:decoder_failed"
            return "" if irrelevant else missing
        if about_relevance:
            called = not empty(calls)
            kind = "irrelevance_error:decoder_success" if irrelevant else "relevance_error:decoder_failed"
            return kind if called == irrelevant else ""
        if not well_formed(calls):
            return "ast_decoder:decoder_wrong_output_format"
        try:
            done = check(row["function"], calls, row["truth"], language.PYTHON, row["category"], "none")
        except Exception as error:  # noqa: BLE001 - the checker has no answer to some malformed values
            return f"crash:{type(error).__name__}"
        return "" if done["valid"] else done["error_type"]

    with answers.open() as lines, verdicts.open("w") as out:
        for line in lines:
            out.write(json.dumps(verdict(json.loads(line))) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
