"""What a RayCluster and a RayJob may look like.

No package that pip installs was found to carry KubeRay's custom resource definitions. The fields
here are those of its API reference, ray.io/v1
(https://docs.ray.io/en/latest/cluster/kubernetes/references/api.html), as far as the manifests of
``deploy/`` need them: a field that is not listed is refused. Pod templates inside are Kubernetes's
own and held to its schema; what Ray's autoscaler makes of a cluster is in
``tests/unit/deploy/test_ray.py``.
"""

from __future__ import annotations

from typing import Any

TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}


def _closed(required: list[str], **fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": fields,
    }


ANYTHING: dict[str, Any] = {"type": "object"}
AUTOSCALER = _closed(
    [],
    resources=ANYTHING,
    securityContext=ANYTHING,
    idleTimeoutSeconds=COUNT,
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
)
HEAD = _closed(
    ["template"],
    rayStartParams=TEXTS,
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    template=ANYTHING,
)
WORKERS = _closed(
    ["groupName", "minReplicas", "maxReplicas", "template"],
    groupName={"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    numOfHosts=COUNT,
    rayStartParams=TEXTS,
    template=ANYTHING,
)
CLUSTER = _closed(
    ["headGroupSpec"],
    rayVersion={"type": "string"},
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=AUTOSCALER,
    headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": WORKERS, "minItems": 1},
)
JOB = _closed(
    ["entrypoint", "rayClusterSpec"],
    entrypoint={"type": "string", "minLength": 1},
    runtimeEnvYAML={"type": "string"},
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "SidecarMode"]},
    backoffLimit=COUNT,
    activeDeadlineSeconds=COUNT,
    shutdownAfterJobFinishes={"type": "boolean"},
    ttlSecondsAfterFinished=COUNT,
    rayClusterSpec=CLUSTER,
)
NAMED = _closed(
    ["name", "namespace"], name={"type": "string"}, namespace={"type": "string"}, labels=TEXTS
)
SCHEMAS = {
    kind: _closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=NAMED,
        spec=spec,
    )
    for kind, spec in (("RayJob", JOB), ("RayCluster", CLUSTER))
}
