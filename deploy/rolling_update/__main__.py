"""deploy/rolling-update.sh runs this: it has made the network, the bucket and the volumes."""

import os
import sys
import time

from kubernetes_check import manifests
from kubernetes_check.manifests import CHART, EXAMPLES, RenderError

from .engine import NETWORK, PREFIX, Failure, docker, say
from .load import Load
from .pods import Pod
from .service import Service

VERSION = os.environ["RETORT_VERSION"]
BUCKET = dict(line.split("=", 1) for line in os.environ["BUCKET_VARIABLES"].splitlines())
MODEL = "student"
# The claims and templates of claims of the chart, and the Docker volumes in their place.
VOLUMES = {
    "retort-data": f"{PREFIX}-data",
    "retort-teacher-model": f"{PREFIX}-runs",
    "runs": f"{PREFIX}-runs",
    "soft-targets": f"{PREFIX}-soft-targets",
}
# The Secret of the example; the rest of the bucket's variables are values of the chart.
SECRETS = {"retort-s3": {name: BUCKET[name] for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]}}


def main():
    try:
        run()
    except (Failure, RenderError) as failure:
        sys.exit(f"\nFAILED: {failure}")


def run():
    chart = Chart(log="info")
    step("trainer: it starts under its manifest and trains the teacher")
    trainer = chart.start("trainer", "trainer")
    trainer.wait_until_ready()
    retort("run", "/etc/retort/demo-quick/teacher.toml", "--name", "teacher", "--set", "data.path=/data/fashion-mnist")

    step("teacher and two replicas of the inference service, under their manifests")
    teacher = chart.start("teacher", "teacher")
    service = Service(["grpc", "http"])
    service.pods = [chart.start(f"inference-{number}", "inference") for number in [1, 2]]
    for pod in [teacher, *service.pods]:
        pod.wait_until_ready()

    step("a run distils a student and publishes it; both replicas serve it from the bucket")
    teachers, publish = 'teacher.endpoints=["retort-teacher:50051"]', "publish.endpoint=retort-inference:8003"
    settings = ["data.path=/data/fashion-mnist", teachers, publish, f"publish.model={MODEL}"]
    retort("run", "/etc/retort/demo-quick/student.toml", "--name", "student", *(f"--set={one}" for one in settings))
    for pod in service.pods:
        wait_until_served(pod)
    for pod in [teacher, trainer]:
        pod.delete()

    step("rolling update of the inference service under load")
    load = Load(service, MODEL)
    load.wait_for(200)
    updated = Chart(log="warn")
    roll(service, updated, load)
    load.check()
    say(str(load))

    step("negative control: the same load notices a replica that is killed")
    service.pods[0].kill()
    deadline = time.monotonic() + 30
    while not load.failures:
        if time.monotonic() > deadline:
            raise Failure("a replica was killed, and no call failed within 30 s")
        time.sleep(0.1)
    load.end()
    say(f"it counts {len(load.failures)} failed calls")
    service.pods[1].delete()


def roll(service, chart, load):
    """Replaces the pods as a Deployment with maxSurge 1 and maxUnavailable 0 does."""
    before = load.answered()
    for number, old in enumerate(list(service.pods), len(service.pods) + 1):
        new = chart.start(f"inference-{number}", "inference")
        new.wait_until_ready()
        wait_until_served(new)
        service.pods.append(new)
        old.delete()
        service.pods.remove(old)
        load.check()
        say(f"{new.name} has taken the place of {old.name}; {load.answered() - before} calls were answered meanwhile")
        before = load.answered()
        load.wait_for(200)
    for pod in service.pods:
        pod.check()
        if not pod.metric(f'nv_inference_request_success{{model="{MODEL}",version="1"}}'):
            raise Failure(f"{pod.name} has answered no call")


class Chart:
    """The rendered chart, with the values of deploy/helm/examples/s3.yaml and the bucket of this check."""

    def __init__(self, log):
        """A change of `log`, the level of the inference service's log, makes other pods: an update."""
        values = {
            "inference.store.url": "s3://models/rolling",
            "inference.store.endpoint": BUCKET["AWS_ENDPOINT_URL"],
            "inference.store.region": BUCKET["AWS_REGION"],
            "inference.env[0].name": "AWS_ALLOW_HTTP",
            "inference.env[0].value": BUCKET["AWS_ALLOW_HTTP"],
            "inference.env[1].name": "RUST_LOG",
            "inference.env[1].value": log,
            "teacher.model.path": "/model/teacher/artifact",
        }
        settings = [f"--set-string={key}={value}" for key, value in values.items()]
        helm = [manifests.TOOLS / "bin/helm", "template", "retort", CHART, "--namespace=retort"]
        self.objects = manifests.objects(manifests.run(*helm, f"--values={EXAMPLES}/s3.yaml", *settings))
        [deployment] = self.named("Deployment", "inference")
        if (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) != (2, STRATEGY):
            raise Failure(f"the check rolls two replicas with {STRATEGY}, and the chart has {deployment['spec']}")

    def start(self, name, component):
        """Starts a pod of a component."""
        [workload] = [*self.named("Deployment", component), *self.named("StatefulSet", component)]
        services = [one for one in self.objects if one["kind"] == "Service"]
        return Pod(name, workload, services, SECRETS, VOLUMES)

    def named(self, kind, component):
        name = f"retort-{component}"
        return [one for one in self.objects if (one["kind"], one["metadata"]["name"]) == (kind, name)]


STRATEGY = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def wait_until_served(pod):
    deadline = time.monotonic() + 60
    while pod.metric(f'retort_inference_active_version{{model="{MODEL}"}}') != 1:
        pod.check()
        if time.monotonic() > deadline:
            raise Failure(f"{pod.name} does not serve the model within 60 s")
        time.sleep(0.1)


def retort(*arguments):
    """Runs the command line in the network."""
    options = ["--rm", f"--label={PREFIX}", f"--network={NETWORK}", "--user=65532:65532", "--read-only", "--cap-drop=ALL"]
    options += ["--tmpfs=/tmp:size=64m,mode=1777", "--env=RETORT_TRAINER_ADDRESS=retort-trainer:50052"]
    began = time.monotonic()
    docker("run", *options, f"retort-cli:{VERSION}", *arguments)
    say(f"retort {arguments[0]} {arguments[1]} took {time.monotonic() - began:.0f} s")


def step(text):
    print(f"\n== {text}", flush=True)


main()
