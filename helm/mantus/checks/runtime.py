"""Read the serving runtime that InferenceServices of Mantus find by their model format."""

import sys

from kubernetes import client, config

namespace, scope, name = sys.argv[1:]
config.load_incluster_config()
api = client.CustomObjectsApi()
where = ("serving.kserve.io", "v1alpha1")
try:
    if scope == "Cluster":
        runtime = api.get_cluster_custom_object(*where, "clusterservingruntimes", name)
    else:
        runtime = api.get_namespaced_custom_object(*where, namespace, "servingruntimes", name)
except client.ApiException as error:
    sys.exit(f"mantus: serving runtime {name}: {error.status} {error.reason}")
formats = [item["name"] for item in runtime["spec"]["supportedModelFormats"] if item.get("autoSelect")]
if "mantus" not in formats or runtime["spec"].get("disabled"):
    sys.exit(f"mantus: serving runtime {name} does not serve the model format 'mantus' by itself")
print(f"{name}: serves {', '.join(formats)} with {runtime['spec']['containers'][0]['image']}")
