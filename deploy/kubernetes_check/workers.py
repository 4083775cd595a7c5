"""What must hold for the workers of an Indexed Job or of Kubeflow Trainer: index or rank, arguments, folders, permitted calls."""

from .manifests import containers, pod_spec, pod_template

# Objects that create workers, which end; the pods of all other objects serve.
KINDS = ("Job", "TrainingRuntime")
VARIABLES = ("AWS_REGION", "AWS_ENDPOINT_URL")
COMPONENT = "app.kubernetes.io/component"
TEACHER_PORT, PUBLISH_PORT = 50051, 8003


def problems(subject, subjects, project):
    """What is wrong with an object that creates workers or gives them work, as texts."""
    if subject["kind"] == "Job":
        yield from of_recording(subject)
        yield from of_arguments(containers(subject)[0]["args"], "record", subject, project)
    elif subject["kind"] == "TrainingRuntime":
        yield from of_runtime(subject)
    elif subject["kind"] == "TrainJob":
        yield from of_train_job(subject, subjects, project)
    if subject["kind"] in KINDS:
        yield from of_worker(subject)
        yield from of_calls(subject, subjects)


def of_recording(job):
    """Each worker of an Indexed Job finds its share."""
    spec = job["spec"]
    if spec.get("completionMode") != "Indexed":
        yield "completionMode is not Indexed, so workers have no index"
    if f"--of={spec['completions']}" not in containers(job)[0]["args"]:
        yield "--of is not the number of completions"
    if spec["parallelism"] > spec["completions"]:
        yield "parallelism exceeds the completions"


def of_runtime(runtime):
    """Kubeflow Trainer finds the workers' container, and sets the variables from which they know their rank."""
    spec = runtime["spec"]
    if "torch" not in spec["mlPolicy"]:
        yield "without the policy torch, workers have no rank"
    (job,) = spec["template"]["spec"]["replicatedJobs"]
    label = job["template"]["metadata"]["labels"].get("trainer.kubeflow.org/trainjob-ancestor-step")
    names = [job["name"], *(container["name"] for container in containers(runtime))]
    if label != "trainer" or job["replicas"] != 1 or names != ["node", "node"]:
        yield "Kubeflow Trainer does not know the workers by these names, this label and one replica"


def of_train_job(job, subjects, project):
    """Each pod is one worker of a runtime of this chart."""
    reference, trainer = job["spec"]["runtimeRef"], job["spec"]["trainer"]
    runtimes = [one for one in subjects if one["kind"] == reference["kind"] and one["metadata"]["name"] == reference["name"]]
    if not runtimes:
        yield f"no {reference['kind']} {reference['name']}"
        return
    # student-trainer refuses PET_NPROC_PER_NODE above 1, and Kubeflow Trainer derives it from the CPUs by default.
    if trainer.get("numProcPerNode") != 1:
        yield "numProcPerNode is not 1"
    if "--stopped-exit-code=1" not in trainer["args"]:
        yield "a worker that is evicted would count as complete"
    yield from of_arguments(trainer["args"], "run", runtimes[0], project)


def of_arguments(arguments, command, workers, project):
    """Options and keys exist, and every folder is in a volume of the workers."""
    if arguments[0] != command:
        yield f"the command is {arguments[0]}"
    mounts = [mount["mountPath"] for mount in containers(workers)[0]["volumeMounts"]]
    for argument in arguments[1:]:
        option, _, value = argument.removeprefix("--").partition("=") if argument.startswith("--") else ("", "", argument)
        if option and option not in project.options:
            yield f"student-trainer has no option --{option}"
        if option == "set":
            key, _, value = value.partition("=")
            if key not in project.run_keys:
                yield f"configs/run.toml has no key {key}"
        if value.startswith("/") and not any(value == mount or value.startswith(f"{mount}/") for mount in mounts):
            yield f"{value} is in no volume"


def of_worker(subject):
    pod = pod_spec(subject)
    if pod.get("restartPolicy") != "Never":
        yield "podFailurePolicy needs restartPolicy Never"
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        yield from (f"no volume {one['name']}" for one in container["volumeMounts"] if one["name"] not in volumes)
        names = [variable["name"] for variable in container.get("env", [])]
        yield from (f"unknown variable {name}" for name in names if name not in VARIABLES)


def of_calls(subject, subjects):
    """The network policies permit what the workers call."""
    policies = [one["spec"] for one in subjects if one["kind"] == "NetworkPolicy"]
    labels = pod_template(subject)["metadata"]["labels"]
    callees = [({**labels, COMPONENT: "teacher"}, TEACHER_PORT)]
    if subject["kind"] == "TrainingRuntime":
        callees += [({**labels, COMPONENT: "inference"}, PUBLISH_PORT), (labels, None)]
    for callee, port in callees:
        for direction, peer, caller, called in [("Egress", "to", labels, callee), ("Ingress", "from", callee, labels)]:
            if not any(permits(policy, direction, peer, caller, called, port) for policy in policies):
                yield f"no network policy permits the {direction.lower()} of calls to {callee[COMPONENT]}"


def permits(policy, direction, peer, pod, other, port):
    """Whether a policy of the pod's component permits traffic with the other pod, on one port or (None) on all."""
    selects = policy["podSelector"].get("matchLabels", {})
    # A policy without the component in its labels is the one for all pods.
    if selects.get(COMPONENT) != pod[COMPONENT] or not selects.items() <= pod.items() or direction not in policy["policyTypes"]:
        return False
    return any(
        any(
            "podSelector" in one and one["podSelector"].get("matchLabels", {}).items() <= other.items()
            for one in rule.get(peer, [])
        )
        and ("ports" not in rule or port in [one["port"] for one in rule["ports"]])
        for rule in policy.get(direction.lower(), [])
    )
