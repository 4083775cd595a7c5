"""Negative controls: mistakes that the check must refuse."""

import copy

from .manifests import RenderError, helm


def container(subject):
    return subject["spec"]["template"]["spec"]["containers"][0]


def pod(subject):
    return subject["spec"]["template"]["spec"]


def rename(mapping, old, new):
    mapping[new] = mapping.pop(old)


# (kind, name, mistake): mistakes that a schema refuses.
MISSPELT = [
    ("Deployment", "retort-teacher", lambda it: rename(container(it), "readinessProbe", "readinesProbe")),
    ("Deployment", "retort-inference", lambda it: it["spec"].update(replicas="two")),
    ("Deployment", "retort-inference", lambda it: it.update(apiVersion="apps/v2")),
    ("StatefulSet", "retort-trainer", lambda it: rename(it["spec"], "volumeClaimTemplates", "volumeClaimTemplate")),
    ("NetworkPolicy", "retort-inference", lambda it: rename(it["spec"], "ingress", "ingres")),
    ("PodDisruptionBudget", "retort-inference", lambda it: rename(it["spec"], "maxUnavailable", "maxUnavailible")),
    ("HorizontalPodAutoscaler", "retort-teacher", lambda it: it["spec"].pop("maxReplicas")),
    ("ScaledObject", "retort-teacher", lambda it: rename(it["spec"], "minReplicaCount", "minReplicas")),
    ("ScaledObject", "retort-teacher", lambda it: it["spec"]["triggers"][0]["metadata"].update(threshold=1)),
    ("ServiceMonitor", "retort-teacher", lambda it: rename(it["spec"]["endpoints"][0], "interval", "intervall")),
    ("PrometheusRule", "retort-alerts", lambda it: rename(it["spec"]["groups"][0]["rules"][0], "expr", "expression")),
    ("ClusterServingRuntime", "retort", lambda it: rename(it["spec"], "protocolVersions", "protocols")),
    ("ClusterServingRuntime", "retort", lambda it: rename(it["spec"]["containers"][0], "image", "picture")),
    ("InferenceService", "student", lambda it: rename(it["spec"]["predictor"]["model"], "storageUri", "storageURI")),
]

# (kind, name, mistake): mistakes against the project's invariants.
UNSAFE = [
    ("Deployment", "retort-teacher", lambda it: container(it).pop("resources")),
    ("Deployment", "retort-teacher", lambda it: container(it).pop("livenessProbe")),
    ("Deployment", "retort-teacher", lambda it: container(it)["securityContext"].pop("readOnlyRootFilesystem")),
    ("Deployment", "retort-teacher", lambda it: pod(it)["securityContext"].update(runAsNonRoot=False)),
    ("Deployment", "retort-teacher", lambda it: pod(it).update(enableServiceLinks=True)),
    ("Deployment", "retort-teacher", lambda it: container(it).update(image="retort-teacher:latest")),
    ("Deployment", "retort-teacher", lambda it: container(it).update(image="retort-teacher")),
    ("Deployment", "retort-teacher", lambda it: container(it)["ports"][0].update(containerPort=50052)),
    ("Deployment", "retort-teacher", lambda it: container(it)["env"].append({"name": "RETORT_TEACHER__GRCP__CREDIT"})),
    ("Deployment", "retort-inference", lambda it: pod(it).update(terminationGracePeriodSeconds=15)),
    ("StatefulSet", "retort-trainer", lambda it: pod(it).update(terminationGracePeriodSeconds=20)),
    ("StatefulSet", "retort-trainer", lambda it: pod(it).update(automountServiceAccountToken=True)),
    ("Service", "retort-inference", lambda it: it["spec"]["ports"][0].update(port=8001)),
    ("ScaledObject", "retort-teacher", lambda it: it["spec"]["triggers"][0]["metadata"].update(query="retort_trainer_run")),
    ("PrometheusRule", "retort-alerts", lambda it: it["spec"]["groups"][0]["rules"].pop()),
]

# Values that the chart refuses.
VALUES = [
    ["teacher.replica=2"],
    ["teacher.autoscaling.kind=vpa"],
    ["inference.replicas=two"],
    ["inference.replicas=2"],
    ["inference.store.url=ftp://host"],
]

COUNT = len(MISSPELT) + len(UNSAFE) + len(VALUES)


def accepted(renderings, schemas, project):
    """The mistakes that were not refused, as texts."""
    for index, (kind, name, mistake) in enumerate(MISSPELT):
        _, subject = wrong(renderings, kind, name, mistake)
        if not schemas.problems(subject):
            yield f"MISSPELT[{index}], in {kind} {name}"
    for index, (kind, name, mistake) in enumerate(UNSAFE):
        subjects, _ = wrong(renderings, kind, name, mistake)
        if not project.problems(subjects):
            yield f"UNSAFE[{index}], in {kind} {name}"
    for settings in VALUES:
        try:
            helm(settings=settings)
        except RenderError:
            continue
        yield f"the value {', '.join(settings)}"


def wrong(renderings, kind, name, mistake):
    """The first rendering with this object, and the object, both with the mistake."""
    for subjects in copy.deepcopy(renderings):
        for subject in subjects:
            if (subject["kind"], subject["metadata"]["name"]) == (kind, name):
                mistake(subject)
                return subjects, subject
    raise LookupError(f"no rendering has a {kind} {name}")
