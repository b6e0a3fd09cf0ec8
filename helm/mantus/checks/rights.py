"""Ask the API server what the pipeline's account may do: all that launching needs, and nothing that it must not."""

import sys

from kubernetes import client, config

OWN = ("create", "get", "list", "watch", "patch", "delete")
READ = ("get", "list", "watch")
NEEDED = (
    ("kubeflow.org", "pytorchjobs", "", OWN),
    ("trainer.kubeflow.org", "trainjobs", "", OWN),
    ("batch", "jobs", "", OWN),
    ("serving.kserve.io", "inferenceservices", "", OWN),
    ("", "pods", "", READ),
    ("", "pods", "log", READ),
    ("", "events", "", READ),
    ("", "resourcequotas", "", ("get", "list")),
    ("", "services", "", ("get",)),
)
REFUSED = (
    ("", "secrets", "", ("list", "create")),
    ("", "pods", "exec", ("create",)),
    ("", "services", "proxy", ("create",)),
    ("", "pods", "", ("create",)),
    ("", "serviceaccounts", "token", ("create",)),
    ("rbac.authorization.k8s.io", "rolebindings", "", ("create", "patch")),
    ("apps", "deployments", "", ("create", "delete")),
)

namespace = sys.argv[1]
config.load_incluster_config()
api = client.AuthorizationV1Api()


def may(group: str, resource: str, sub: str, verb: str) -> bool:
    """Whether this account may."""
    about = {"namespace": namespace, "group": group, "resource": resource, "subresource": sub, "verb": verb}
    review = api.create_self_subject_access_review({"spec": {"resourceAttributes": about}})
    return bool(review.status.allowed)


wrong = [
    f"{'lacks' if wanted else 'should not have'} {verb} {resource}{'/' + sub if sub else ''} ({group or 'core'})"
    for wanted, rows in ((True, NEEDED), (False, REFUSED))
    for group, resource, sub, verbs in rows
    for verb in verbs
    if may(group, resource, sub, verb) is not wanted
]
if wrong:
    sys.exit(f"mantus: the pipeline's account in {namespace} " + "; ".join(wrong))
print(f"{namespace}: the pipeline's account has the rights it needs, and none of those it must not have")
