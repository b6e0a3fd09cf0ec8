"""Component: release -> InferenceService."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(release: Input[Artifact], config: dict, cluster: dict, store: str, out: Output[Artifact]) -> str:
    """Serve a release behind KServe: canary, smoke test, then promotion or the old release as before.

    Args:
        release: A release that passed its gate.
        config: Settings of the phase `deploy` (see docs/phases.md); without `name` nothing is deployed.
        cluster: How phases run on a cluster; its namespace is where the service goes.
        store: Where artifacts go, s3://bucket/prefix.
        out: The record of what was done.

    Returns:
        The endpoint's address in the cluster, or nothing.
    """
    from mantus.launch.component import perform

    if not config.get("name"):
        print("deploy: no name given, so nothing is deployed")
        return ""
    settings = {"namespace": cluster.get("namespace", ""), **config}
    here = {"executor": ""}  # this process speaks to the cluster: never as a job of its own
    return str(perform("deploy", settings, store, out, {"release": release}, here).stats["endpoint"])
