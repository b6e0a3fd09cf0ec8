"""Component: what a run would surely break on, before it starts; and where its tasks run."""

from kfp import dsl
from kfp.dsl import Markdown, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def doctor(
    cluster: dict,
    store: str,
    deploy: dict,
    image: str,
    secret: str,
    node_selector: dict,
    tolerations: list,
    queue: str,
    findings: Output[Markdown],
) -> dict:
    """Check the cluster, or without one this machine, and end the run with one line when it would surely break.

    Args:
        cluster: How phases run on a cluster; empty: each where its component runs.
        store: Where artifacts go, s3://bucket/prefix; a probe object is written there and removed.
        deploy: Settings of the phase `deploy`; with a `name` KServe is needed too.
        image: Image of the pods that phases start, where `cluster` names none.
        secret: Their secret, likewise.
        node_selector: Labels of their nodes, likewise.
        tolerations: Their tolerations, likewise.
        queue: Kueue's local queue for them, likewise.
        findings: The table of checks.

    Returns:
        The cluster settings with all of that filled in, for every other task.
    """
    from pathlib import Path

    from mantus.launch.component import complete
    from mantus.launch.doctor import guard

    given = {"secret": secret, "node_selector": node_selector, "tolerations": tolerations, "queue": queue}
    whole = complete(cluster, image=image, **given)
    Path(findings.path).write_text(guard(whole, store, bool(deploy.get("name"))))
    return whole
