"""The rules of KubeRay's published CRDs (ray.io/v1) and of the pods in them, as far as our files go.

Written from the field reference of KubeRay 1.5 and 1.6 (RayClusterSpec, RayJobSpec and what they hold) and of
Kubernetes 1.28 (PodSpec). Kubernetes drops keys that it does not know, so a misspelt one would be lost without a word:
here every object is closed, and a key that is missing from these tables is an error, in our files or in these tables.
"""

from __future__ import annotations

from typing import Any

STRING, BOOL, NUMBER = {"type": "string"}, {"type": "boolean"}, {"type": "number", "minimum": 0}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2147483647}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}  # a DNS label
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
_LABEL = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
VARIABLE = {"type": "string", "pattern": r"^[A-Za-z_][A-Za-z0-9_]*$"}


def closed(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """An object with these keys and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def each(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def mapping(values: dict[str, Any], keys: str | None = None) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values} | ({"propertyNames": {"pattern": keys}} if keys else {})


LABELS = mapping({"type": "string", "maxLength": 63}, _LABEL)
METADATA = closed(name=NAME, namespace=NAME, labels=LABELS, annotations=mapping(STRING))
RESOURCES = closed(requests=mapping(QUANTITY), limits=mapping(QUANTITY))
REFERENCE = closed(("name",), name=NAME, optional=BOOL)
ENV_FROM = each(closed(secretRef=REFERENCE, configMapRef=REFERENCE, prefix=STRING))
ENV = each(closed(("name",), name=VARIABLE, value=STRING, valueFrom=closed(secretKeyRef=mapping({}))))
TOLERATION = closed(
    key=STRING, value=STRING, operator={"enum": ["Exists", "Equal"]},
    effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]}, tolerationSeconds=COUNT,
)  # fmt: skip
PORT = closed(
    ("containerPort",), name=NAME, protocol={"enum": ["TCP", "UDP"]},
    containerPort={"type": "integer", "minimum": 1, "maximum": 65535},
)  # fmt: skip
EXEC = closed(exec=closed(("command",), command=each(STRING)))
CONTAINER = closed(
    ("name", "image"), name=NAME, image=STRING, imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
    command=each(STRING), args=each(STRING), env=ENV, envFrom=ENV_FROM, ports=each(PORT), resources=RESOURCES,
    lifecycle=closed(preStop=EXEC, postStart=EXEC), volumeMounts=each(mapping({})), securityContext=mapping({}),
    livenessProbe=mapping({}), readinessProbe=mapping({}),
)  # fmt: skip
POD = closed(
    ("spec",), metadata=METADATA,
    spec=closed(
        ("containers",), containers={"type": "array", "items": CONTAINER, "minItems": 1},
        initContainers=each(CONTAINER), serviceAccountName=NAME,
        restartPolicy={"enum": ["Always", "OnFailure", "Never"]}, terminationGracePeriodSeconds=COUNT,
        nodeSelector=mapping(STRING), tolerations=each(TOLERATION),
        affinity=mapping({}), volumes=each(mapping({})), securityContext=mapping({}), priorityClassName=STRING,
        imagePullSecrets=each(REFERENCE),
    ),
)  # fmt: skip
AUTOSCALER = closed(
    version={"enum": ["v1", "v2"]}, upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    idleTimeoutSeconds=COUNT, resources=RESOURCES, image=STRING, imagePullPolicy=STRING, env=ENV, envFrom=ENV_FROM,
    volumeMounts=each(mapping({})), securityContext=mapping({}),
)  # fmt: skip
GROUP: dict[str, Any] = {  # of head and workers
    "template": POD, "rayStartParams": mapping(STRING), "labels": LABELS, "resources": mapping(QUANTITY),
}  # fmt: skip
HEAD = closed(
    ("template",), headService=mapping({}), enableIngress=BOOL,
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, **GROUP,
)  # fmt: skip
WORKERS = closed(
    ("groupName", "minReplicas", "maxReplicas", "template"), groupName=NAME, replicas=COUNT, minReplicas=COUNT,
    maxReplicas=COUNT, numOfHosts=COUNT, idleTimeoutSeconds=COUNT, suspend=BOOL,
    scaleStrategy=closed(workersToDelete=each(STRING)), **GROUP,
)  # fmt: skip
CLUSTER_SPEC = closed(
    ("headGroupSpec",), rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"}, enableInTreeAutoscaling=BOOL,
    autoscalerOptions=AUTOSCALER, headGroupSpec=HEAD, workerGroupSpecs=each(WORKERS), suspend=BOOL, managedBy=STRING,
    headServiceAnnotations=mapping(STRING), gcsFaultToleranceOptions=mapping({}), authOptions=mapping({}),
)  # fmt: skip
JOB_SPEC = closed(
    (), entrypoint=STRING, runtimeEnvYAML=STRING, jobId=STRING, metadata=mapping(STRING), rayClusterSpec=CLUSTER_SPEC,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]}, backoffLimit=COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1}, ttlSecondsAfterFinished=COUNT, suspend=BOOL,
    shutdownAfterJobFinishes=BOOL, entrypointNumCpus=NUMBER, entrypointNumGpus=NUMBER, entrypointResources=STRING,
    clusterSelector=mapping(STRING), submitterPodTemplate=POD, submitterConfig=closed(backoffLimit=COUNT),
    deletionStrategy=mapping({}), managedBy=STRING,
)  # fmt: skip


def document(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    required = ("apiVersion", "kind", "metadata", "spec")
    return closed(required, apiVersion={"const": "ray.io/v1"}, kind={"const": kind}, metadata=METADATA, spec=spec)


SCHEMAS = {"RayCluster": document("RayCluster", CLUSTER_SPEC), "RayJob": document("RayJob", JOB_SPEC)}
