"""Component: what became of a run -> one page, whatever happened."""

from kfp import dsl
from kfp.dsl import Markdown, Output, PipelineTaskFinalStatus

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def summary(store: str, status: PipelineTaskFinalStatus, page: Output[Markdown]):
    """Say what became of the run: its state, what stopped it, every task's artifact, every figure and its bar.

    Args:
        store: Where artifacts go, s3://bucket/prefix; tasks left their records there.
        status: The run's state, from KFP.
        page: The summary.
    """
    from pathlib import Path

    from mantus.launch.component import records
    from mantus.report.show import conclusion

    Path(page.path).write_text(conclusion(status.state, status.error_message or "", records(store)))
