"""What every pod of a job runs: the phase that MANTUS_TASK_SPEC names, or this pod's share of it.

It knows exit codes that say whether to try again (128 and above), not who started it.
`python -m mantus.launch.jobs.pod`
"""

import json
import os
import sys

from mantus.launch.phases import PHASES, parse_config
from mantus.storage.phase import MadeElsewhere
from mantus.training.launch import InterruptedTraining

AGAIN = 143
"""Exit code of work that goes on when it is started again."""


def main() -> int:
    """Run the phase; the exit code: 0, 2 for wrong input, 1 for a failure, 143 when the same work may go on."""
    task = json.loads(os.environ["MANTUS_TASK_SPEC"])
    verb = task["verb"]
    name = os.environ.get("MANTUS_TASK", verb)
    try:
        PHASES[verb].run(parse_config(verb, task["settings"], where=name))
    except MadeElsewhere:
        return 0
    except ValueError as error:
        return _fail(name, error, 2)
    except InterruptedTraining as error:
        return _fail(name, error, AGAIN)
    except (OSError, RuntimeError) as error:
        return _fail(name, error, 1)
    return 0


def _fail(task: str, error: Exception, code: int) -> int:
    print(f"mantus: {task}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
