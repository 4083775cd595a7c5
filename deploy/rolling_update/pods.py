"""Pods on a Docker engine: their probes, and their end."""

import http.client
import subprocess
import threading
import time
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from .engine import NETWORK, PREFIX, Failure, container, docker, say
from .translation import docker_options

SERVING = health_pb2.HealthCheckResponse.SERVING
# Otherwise a probe would wait because an earlier one could not connect.
NEW_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


class Pod:
    """The container of a Deployment or StatefulSet. A thread calls its probes as the kubelet does."""

    def __init__(self, name, workload, services, secrets, volumes):
        """Starts it. `services` are the Services that select it: it gets their names in the network."""
        self.name = name
        self.spec = workload["spec"]["template"]["spec"]
        [self.container] = self.spec["containers"]
        labels = workload["spec"]["template"]["metadata"]["labels"].items()
        aliases = [one["metadata"]["name"] for one in services if one["spec"]["selector"].items() <= labels]
        options, image, arguments = docker_options(workload, secrets, volumes)
        where = [f"--network={NETWORK}", *(f"--network-alias={alias}" for alias in aliases)]
        docker("run", "--detach", f"--name={container(name)}", f"--label={PREFIX}", *where, *options, image, *arguments)
        self.address = docker("inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container(name))
        self.is_ready = False
        # When the pod was deleted, by time.monotonic().
        self.deleted = None
        # Why the kubelet would restart it.
        self.problem = None
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        startup, liveness, readiness = (self.container[f"{kind}Probe"] for kind in ["startup", "liveness", "readiness"])
        failures = 0
        while error := self.probe(startup):
            failures += 1
            if failures >= startup["failureThreshold"]:
                self.problem = f"it does not start: {error}"
                return
            time.sleep(startup["periodSeconds"])
        alive, ready = Repeated(liveness, holds=True), Repeated(readiness, holds=False)
        while self.deleted is None:
            for probe in [alive, ready]:
                if probe.is_due():
                    probe.note(self.probe(probe.spec))
            self.is_ready = ready.holds
            if not alive.holds:
                self.problem = f"it is not alive: {alive.error}"
                return
            time.sleep(0.1)

    def probe(self, spec):
        """Calls a probe once. Returns what is wrong, or None."""
        limit = spec.get("timeoutSeconds", 1)
        try:
            if "grpc" in spec:
                with grpc.insecure_channel(f"{self.address}:{spec['grpc']['port']}", NEW_CONNECTION) as channel:
                    request = health_pb2.HealthCheckRequest(service=spec["grpc"].get("service", ""))
                    status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=limit).status
                    return None if status == SERVING else f"the status is {status}"
            get = spec["httpGet"]
            url = f"{get['scheme'].lower()}://{self.address}:{self.port(get['port'])}{get['path']}"
            with urllib.request.urlopen(url, timeout=limit) as answer:
                return None if 200 <= answer.status < 400 else f"{url}: status {answer.status}"
        except (OSError, http.client.HTTPException, grpc.RpcError) as error:
            return str(error)

    def port(self, name):
        return next(port["containerPort"] for port in self.container["ports"] if port["name"] == name)

    def check(self):
        """Fails if the kubelet would restart the pod."""
        if self.problem:
            raise Failure(f"pod {self.name}: {self.problem}")

    def wait_until_ready(self):
        began = time.monotonic()
        while not self.is_ready:
            self.check()
            state = docker("inspect", "--format={{.State.Status}} {{.State.ExitCode}}", container(self.name))
            if not state.startswith("running"):
                raise Failure(f"pod {self.name} has ended: {state}")
            time.sleep(0.1)
        say(f"{self.name} is ready after {time.monotonic() - began:.1f} s, by the probes of its manifest")

    def delete(self):
        """Ends it as Kubernetes does: preStop, SIGTERM, and SIGKILL at the end of the grace period, which is a failure."""
        self.check()
        self.deleted = time.monotonic()
        grace = self.spec["terminationGracePeriodSeconds"]
        time.sleep(self.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0))
        docker("kill", "--signal=TERM", container(self.name))
        terminated = time.monotonic()
        try:
            code = docker("wait", container(self.name), timeout=self.deleted + grace - terminated)
        except subprocess.TimeoutExpired as expired:
            raise Failure(f"pod {self.name} did not end within terminationGracePeriodSeconds = {grace}") from expired
        if code != "0":
            raise Failure(f"pod {self.name} ended with exit code {code} after SIGTERM")
        say(f"{self.name} ended with exit code 0, {time.monotonic() - terminated:.1f} s after SIGTERM")

    def kill(self):
        """Ends it with SIGKILL, as a crash does; no probe notices it yet."""
        docker("kill", "--signal=KILL", container(self.name))

    def metric(self, line):
        """The value of a line of its metrics page, or 0."""
        with urllib.request.urlopen(f"http://{self.address}:{self.port('metrics')}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        return next((float(found.removeprefix(line)) for found in lines if found.startswith(line + " ")), 0.0)


class Repeated:
    """A probe that is called at intervals."""

    def __init__(self, spec, holds):
        self.spec, self.due, self.failures, self.error = spec, 0.0, 0, None
        # A success makes it true, failureThreshold failures make it false.
        self.holds = holds

    def is_due(self):
        return time.monotonic() >= self.due

    def note(self, error):
        self.due = time.monotonic() + self.spec["periodSeconds"]
        self.error = error
        self.failures = self.failures + 1 if error else 0
        if not error:
            self.holds = True
        elif self.failures >= self.spec["failureThreshold"]:
            self.holds = False
