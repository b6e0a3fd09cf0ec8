"""The checks in order, and what a pipeline's first task makes of them."""

import os
import sys
from collections.abc import Iterator
from typing import Any

from mantus import console
from mantus.launch import kubernetes
from mantus.launch.cluster import Cluster, parse_cluster
from mantus.launch.doctor.checks import Check, lacking, markdown
from mantus.launch.doctor.laptop import laptop
from mantus.launch.doctor.store import check_store, is_internal

TASK = "doctor"


def diagnose(cluster: Cluster | None, store: str = "", serving: bool = True) -> list[Check]:
    """Check this machine, or with `cluster` that cluster.

    store: URI to write a probe object to, '' for none.  serving: whether releases are to be deployed there too.
    """
    if cluster is None:
        return [*laptop(), *([check_store(store)] if store else [])]
    return list(_cluster(cluster, store, serving))


def guard(cluster: dict[str, Any], store: str, serving: bool) -> str:
    """What the first task of a pipeline does: the findings as Markdown.

    It ends this process with exit 1 and one line when the run would surely break; ValueError when `cluster` is wrong.
    """
    from mantus.launch.component import whole_numbers

    settings = parse_cluster(whole_numbers(cluster))
    checks = diagnose(settings if settings.executor else None, store, serving)
    if wrong := lacking(checks):
        line = "; ".join(f"{check.name}: {check.line}" for check in wrong)
        console.emit({"started": TASK})
        console.emit({"failed": TASK, "error": line})
        print(f"mantus: {TASK}: {line}", file=sys.stderr)
        raise SystemExit(1)
    return markdown(checks)


def _cluster(cluster: Cluster, store: str, serving: bool) -> Iterator[Check]:
    """Stops where what follows could only say the same again."""
    from mantus.launch.doctor.cluster import Site, api, look
    from mantus.launch.doctor.probe import probe

    try:
        client = kubernetes.connect()
        yield api(client)
        with kubernetes.refusals():
            site = Site(cluster, client, cluster.namespace or kubernetes.namespace(), serving)
            found = list(look(site))
            yield from found
            broken = {check.name for check in found if check.state == "lacks"}
            if store and "secret" not in broken:
                reached = _reach(store, site.secret)
                yield reached
                broken |= {reached.name} if reached.state == "lacks" else set()
            if not broken & {"namespace", "rights", "secret", "account", "quota", "queue", "gpus"}:
                yield probe(site, "" if "store" in broken else store)
    except kubernetes.ClusterError as error:
        yield Check("api", "lacks", str(error))


def _reach(store: str, secret: dict[str, str]) -> Check:
    """The store as seen from here, with the secret's settings where they could be read."""
    if not secret and not os.environ.get("AWS_ACCESS_KEY_ID") and store.startswith("s3://"):
        return Check("store", "unknown", "no credentials here; the pod below tries it")
    endpoint = secret.get("AWS_ENDPOINT_URL", "") if secret else os.environ.get("AWS_ENDPOINT_URL", "")
    if is_internal(endpoint) and not kubernetes.in_pod():
        return Check("store", "unknown", f"{endpoint} is known only inside the cluster; the pod below tries it")
    return check_store(store, secret or None)
