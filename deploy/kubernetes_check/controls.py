"""Negative controls: mistakes that the check must refuse."""

import copy

from .manifests import RenderError, helm, name_of, pod_spec


def container(subject):
    return pod_spec(subject)["containers"][0]


def pod(subject):
    return pod_spec(subject)


def argument(subject, start, value):
    """Replaces the argument that begins like this."""
    arguments = subject["spec"]["trainer"]["args"] if subject["kind"] == "TrainJob" else container(subject)["args"]
    index = next(index for index, one in enumerate(arguments) if one.startswith(start))
    arguments[index] = value


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
    ("Job", "retort-recording", lambda it: rename(it["spec"], "completionMode", "completionsMode")),
    ("Job", "retort-recording", lambda it: rename(it["spec"], "backoffLimitPerIndex", "backOffLimitPerIndex")),
    ("Job", "retort-recording", lambda it: it["spec"]["podFailurePolicy"]["rules"][0].pop("action")),
    ("Job", "retort-recording", lambda it: rename(container(it)["volumeMounts"][0], "readOnly", "readonly")),
    ("TrainingRuntime", "retort-training", lambda it: rename(it["spec"], "mlPolicy", "mlpolicy")),
    ("TrainingRuntime", "retort-training", lambda it: it["spec"]["mlPolicy"]["torch"].update(numProcPerNode="auto")),
    ("TrainingRuntime", "retort-training", lambda it: rename(it["spec"]["template"]["spec"], "replicatedJobs", "jobs")),
    ("TrainingRuntime", "retort-training", lambda it: rename(container(it), "volumeMounts", "mounts")),
    ("TrainJob", "retort-student", lambda it: rename(it["spec"]["trainer"], "numNodes", "nodes")),
    ("TrainJob", "retort-student", lambda it: it["spec"]["trainer"].update(numProcPerNode="auto")),
    ("TrainJob", "retort-student", lambda it: it["spec"].pop("runtimeRef")),
    ("Workflow", "record-", lambda it: rename(it["spec"], "entrypoint", "entryPoint")),
    ("Workflow", "record-", lambda it: it["spec"]["templates"][1]["retryStrategy"].update(limits="6")),
    ("Workflow", "record-", lambda it: rename(it["spec"]["templates"][1]["container"], "image", "picture")),
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
    ("Job", "retort-recording", lambda it: it["spec"].pop("completionMode")),
    ("Job", "retort-recording", lambda it: it["spec"].update(completions=7)),
    ("Job", "retort-recording", lambda it: it["spec"].update(parallelism=9)),
    ("Job", "retort-recording", lambda it: pod(it).update(restartPolicy="OnFailure")),
    ("Job", "retort-recording", lambda it: pod(it)["securityContext"].update(runAsNonRoot=False)),
    ("Job", "retort-recording", lambda it: argument(it, "--of", "--off=8")),
    ("Job", "retort-recording", lambda it: argument(it, "--set=soft", "--set=soft_targets.folder=/soft-target")),
    ("Job", "retort-recording", lambda it: argument(it, "--set=soft", "--set=soft_target.folder=/soft-targets")),
    ("Job", "retort-recording", lambda it: container(it)["volumeMounts"][0].update(name="runs")),
    ("NetworkPolicy", "retort-recording", lambda it: it["spec"]["egress"].pop(1)),
    ("NetworkPolicy", "retort-teacher-recording", lambda it: it["spec"]["ingress"][0]["ports"][0].update(port=50061)),
    ("TrainingRuntime", "retort-training", lambda it: it["spec"]["mlPolicy"].pop("torch")),
    ("TrainingRuntime", "retort-training", lambda it: container(it).update(name="worker")),
    ("TrainingRuntime", "retort-training", lambda it: container(it)["securityContext"].pop("capabilities")),
    ("TrainJob", "retort-student", lambda it: it["spec"]["runtimeRef"].update(name="training")),
    ("TrainJob", "retort-student", lambda it: it["spec"]["trainer"].pop("numProcPerNode")),
    ("TrainJob", "retort-student", lambda it: argument(it, "--stopped", "--stopped-exit-code=0")),
    ("TrainJob", "retort-student", lambda it: argument(it, "--scratch", "--scratch=/scratch")),
    ("TrainJob", "retort-student", lambda it: argument(it, "/etc", "/etc/retort/student.toml")),
    ("NetworkPolicy", "retort-training", lambda it: it["spec"].pop("ingress")),
    ("NetworkPolicy", "retort-inference-training", lambda it: it["spec"]["podSelector"]["matchLabels"].clear()),
]

# Values that the chart refuses.
VALUES = [
    ["teacher.replica=2"],
    ["teacher.autoscaling.kind=vpa"],
    ["inference.replicas=two"],
    ["inference.replicas=2"],
    ["inference.store.url=ftp://host"],
    ["recording.enabled=true", "recording.workers=0"],
    ["recording.enabled=true", "recording.softTargets.claim="],
    ["training.runtime=true", "training.jobs[0].name=student"],
    ["training.runtime=true", "training.jobs[0].name=teacher", "training.jobs[0].config=a", "training.jobs[0].workers=2"],
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
            if (subject["kind"], name_of(subject)) == (kind, name):
                mistake(subject)
                return subjects, subject
    raise LookupError(f"no rendering has a {kind} {name}")
