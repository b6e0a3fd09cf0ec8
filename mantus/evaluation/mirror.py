"""lm-eval's own tasks, unmodified, on data sets that lie in a folder: nothing is fetched.

It knows where lm-eval looks for data and what it returns, not the tasks. The folder is laid out as the hub is:
`cais/mmlu`, `Rowan/hellaswag`, `EleutherAI/lambada_openai`, each as its download made it, since `load_dataset` prefers
a folder of that name beneath the working directory.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from mantus.evaluation.scores import Score, Z, share

DATASETS = {"mmlu": "cais/mmlu", "hellaswag": "Rowan/hellaswag", "lambada_openai": "EleutherAI/lambada_openai"}
"""Task, or how its name begins -> the data set that it reads."""
FOLDERS = {"mmlu": "mmlu/default", "hellaswag": "hellaswag", "lambada": "lambada"}
"""How a task's name begins -> the folder of lm-eval's task files that it is in."""
BOUNDED = ("acc", "acc_norm", "exact_match")
"""Metrics that are shares of documents."""
BOOTSTRAPS = 1000


def check(folder: Path, tasks: Sequence[str]) -> None:
    """ValueError names the data set of a task that the folder does not have."""
    if not folder.is_dir():
        raise ValueError(f"evaluate.mirror: {folder}: no such folder")
    for task in tasks:
        for name, dataset in DATASETS.items():
            if task.startswith(name) and not (folder / dataset).is_dir():
                raise ValueError(
                    f"evaluate.mirror: {folder}: no {dataset}, which {task} reads; fetch it where there is a network: "
                    f"hf download --repo-type dataset {dataset} --local-dir {dataset}"
                )


def fingerprint(folder: Path) -> str:
    """Of names and sizes of what the folder holds."""
    files = sorted(
        (path.relative_to(folder).as_posix(), path.stat().st_size) for path in folder.rglob("*") if path.is_file()
    )
    return hashlib.sha256(repr(files).encode()).hexdigest()


def measure(model: Any, tasks: Sequence[str], folder: Path, shots: int, limit: int, cache: Path) -> list[Score]:
    """Run tasks on an lm-eval model.  shots: examples before each question (-1: the task's own); limit: documents of
    each task (0: all).  ValueError names a task that lm-eval does not have.
    """
    with _offline(folder, cache):
        from lm_eval import simple_evaluate

        manager = _task_manager(tasks)
        known = set(manager.all_tasks)
        if unknown := sorted(set(tasks) - known):
            raise ValueError(f"evaluate.tasks: lm-eval has no task {unknown[0]!r}")
        done: dict[str, Any] = simple_evaluate(
            model=model,
            tasks=list(tasks),
            task_manager=manager,
            num_fewshot=None if shots < 0 else shots,
            limit=limit or None,
            bootstrap_iters=BOOTSTRAPS,
            log_samples=False,
        )
    return list(scores(done))


def _task_manager(tasks: Sequence[str]) -> Any:
    """lm-eval's index of its own task files: of the few folders that are asked for, else of all 14,000."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    folders = {folder for name, folder in FOLDERS.items() for task in tasks if task.startswith(name)}
    if all(task.startswith(tuple(FOLDERS)) for task in tasks):
        paths = [str(Path(lm_eval.__file__).parent / "tasks" / folder) for folder in sorted(folders)]
        manager = TaskManager(include_path=paths, include_defaults=False)
        if set(tasks) <= set(manager.all_tasks):
            return manager
    return TaskManager()


@contextmanager
def _offline(folder: Path, cache: Path) -> Iterator[None]:
    """Data sets come from `folder`, their arrow files go to `cache`, and the hub is never asked."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    datasets.disable_progress_bars()
    datasets.config.HF_DATASETS_CACHE = cache
    datasets.config.HF_HUB_OFFLINE = True
    try:
        with chdir(folder):
            yield
    finally:
        datasets.config.HF_DATASETS_CACHE = before


def scores(done: Mapping[str, Any]) -> Iterator[Score]:
    """One score for each metric: shares with Wilson's interval, the others with 1.96 standard errors on each side."""
    for task, found in {**done["results"], **done.get("groups", {})}.items():
        num = _num_documents(task, done)
        for key, value in found.items():
            metric, _, kind = key.partition(",")
            if not kind or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            name = metric if kind == "none" else f"{metric}_{kind}"
            better = bool(done.get("higher_is_better", {}).get(task, {}).get(metric, True))
            if metric in BOUNDED:
                bounds = share(task, name, [True] * round(value * num) + [False] * (num - round(value * num)), "model")
                low, high = bounds.low, bounds.high
            else:
                error = found.get(f"{metric}_stderr,{kind}")
                spread = Z * error if isinstance(error, int | float) else 0.0
                low, high = value - spread, value + spread
            yield Score(task, name, float(value), low, high, num, better, "lm-eval")


def _num_documents(task: str, done: Mapping[str, Any]) -> int:
    """Documents that a task, or the tasks of a group, were measured on."""
    parts = done.get("group_subtasks", {}).get(task) or [task]
    if parts == [task]:
        return int(done.get("n-samples", {}).get(task, {}).get("effective", 0))
    return sum(_num_documents(part, done) for part in parts)
