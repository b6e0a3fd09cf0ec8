"""lm-evaluation-harness that knows `--model mantus`: `mantus lm-eval --model mantus --model_args pretrained=DIR ...`.

It knows lm-eval's command line, nothing of our phases.
"""

import sys


def main(words: list[str]) -> None:
    """Run lm-eval's own command line with our model registered."""
    from lm_eval.__main__ import cli_evaluate

    import mantus.evaluation.adapter  # noqa: F401 - its import registers the name

    arguments, sys.argv = sys.argv, ["lm-eval", *words]
    try:
        cli_evaluate()
    finally:
        sys.argv = arguments


if __name__ == "__main__":
    main(sys.argv[1:])
