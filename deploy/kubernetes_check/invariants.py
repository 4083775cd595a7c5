"""What must hold for the objects beyond their schemas: security, limits, probes, and names that other files define."""

import re

import yaml

from . import workers
from .manifests import ALERTS, REPOSITORY, containers, name_of, pod_spec

SERVICES = {"teacher": "teacher-service", "trainer": "student-trainer", "inference": "inference-service"}
METRIC = re.compile(r"\b(?:retort|nv)_[a-z_]+\b")


class Project:
    """Names and numbers that the objects must share with configurations, code, Dockerfile and alert rules."""

    def __init__(self):
        self.settings = {name: settings(program) for name, program in SERVICES.items()}
        self.run_keys = {".".join(key) for key in settings("run")}
        self.options = options(SERVICES["trainer"])
        sources = [path for folder in [*SERVICES.values(), "crates/server", "common"] for path in rust_files(folder)]
        self.metrics = set(re.findall(r'"((?:retort|nv)_[a-z_]+)"', "\n".join(path.read_text() for path in sources)))
        self.user = int(re.search(r"^USER (\d+):", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)[1])
        self.alerts = yaml.safe_load(ALERTS.read_text())["groups"]
        version = re.search(r'^version = "(.+)"', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE)
        self.version = version[1]

    def problems(self, subjects):
        """What is wrong with these objects together, as texts."""
        found = []
        for subject in subjects:
            name = f"{subject['kind']} {name_of(subject)}"
            found += [f"{name}: {problem}" for problem in self.of_object(subject, subjects)]
        return found

    def of_object(self, subject, subjects):
        if (pod := pod_spec(subject)) is not None:
            yield from self.of_pod(pod, subject["kind"])
            for container in containers(subject):
                yield from self.of_container(container, pod, subject["kind"])
        elif subject["kind"] == "Service":
            yield from self.of_service(subject, subjects)
        elif subject["kind"] == "PrometheusRule" and subject["spec"]["groups"] != self.alerts:
            yield "its rules are not those of deploy/prometheus/alerts.yml"
        yield from workers.problems(subject, subjects, self)
        for query in queries(subject):
            for metric in METRIC.findall(query):
                if not {metric, re.sub("_(sum|count|bucket)$", "", metric)} & self.metrics:
                    yield f"no service has the metric {metric}"

    def of_pod(self, pod, kind):
        if not pod["containers"]:
            yield "no container"
        if kind == "ClusterServingRuntime":  # KServe writes the rest of the pod.
            return
        if pod.get("automountServiceAccountToken") is not False:
            yield "the pod has a token for the API of Kubernetes"
        if pod.get("enableServiceLinks") is not False:
            yield "variables of Services would look like settings (enableServiceLinks)"
        if kind in workers.KINDS:
            return
        needed = sleep(pod) + self.drain(pod["containers"][0]["name"])
        if not pod.get("terminationGracePeriodSeconds", 30) > needed:
            yield f"terminationGracePeriodSeconds must exceed {needed}: preStop, and grace and drain of the configuration"

    def drain(self, service):
        shutdown = [key for key in self.settings[service] if key[0] == "shutdown"]
        return sum(int(self.settings[service][key]) for key in shutdown)

    def of_container(self, container, pod, kind):
        image = re.fullmatch(r"(?:.*/)?retort-([a-z]+):(.+)", container["image"])
        if not image or image[1] not in SERVICES:
            yield f"image {container['image']} is not one of the Dockerfile, with a tag"
            return
        if image[2].removesuffix("-cuda") != self.version:
            yield f"image {container['image']} has not the version {self.version}"
        for bound in ["requests", "limits"]:
            if not {"cpu", "memory"} <= container.get("resources", {}).get(bound, {}).keys():
                yield f"no {bound} of cpu and memory"
        probes = [] if kind in workers.KINDS else ["livenessProbe", "readinessProbe"]
        yield from (f"no {probe}" for probe in probes if probe not in container)
        security = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
        expected = {
            "runAsNonRoot": True,
            "runAsUser": self.user,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for key, value in expected.items():
            if security.get(key) != value:
                yield f"securityContext.{key} is not {value}"
        if kind not in workers.KINDS:
            yield from self.of_settings(container, image[1])

    def of_settings(self, container, service):
        """Variables name keys of the service's configuration, and ports are those of the configuration."""
        known, prefix = self.settings[service], f"RETORT_{service.upper()}__"
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        listening = set()
        for name, value in variables.items():
            if name.startswith(prefix):
                key = tuple(name.removeprefix(prefix).lower().split("__"))
                if key not in known:
                    yield f"configs/{SERVICES[service]}.toml has no key {'.'.join(key)} ({name})"
                elif key[-1] == "listen":
                    listening.add(int(value.rpartition(":")[2]))
                    if port_of(known[key]) != port_of(value):
                        yield f"{name} is {value}, but the configuration has {known[key]}"
            elif name != "RETORT_CA" and name not in workers.VARIABLES:
                yield f"unknown variable {name}"
        declared = {port["containerPort"] for port in container["ports"]}
        if not declared <= listening or (container["name"] in SERVICES and declared != listening):
            yield f"ports {sorted(declared)} are not the ports {sorted(listening)} on which the service listens"

    def of_service(self, subject, subjects):
        """Each port leads to a port of the same number of the selected pods."""
        selector = subject["spec"]["selector"].items()
        pods = [one["spec"]["template"] for one in subjects if one["kind"] in ("Deployment", "StatefulSet")]
        selected = [pod for pod in pods if selector <= pod["metadata"]["labels"].items()]
        ports = {
            (port["name"], port["containerPort"])
            for pod in selected
            for container in pod["spec"]["containers"]
            for port in container["ports"]
        }
        for port in subject["spec"]["ports"]:
            if (port["targetPort"], port["port"]) not in ports:
                yield f"no pod has a port {port['targetPort']} = {port['port']}"


def settings(program):
    """{(section, …, key): value} of a service's default configuration, keys in comments included."""
    found, section = {}, ()
    for line in (REPOSITORY / f"configs/{program}.toml").read_text().splitlines():
        if header := re.match(r"(?:# )?\[([a-z_.]+)\]", line):
            section = tuple(header[1].split("."))
        elif setting := re.match(r"(?:# )?([a-z_]+) = (\S+)", line):
            found[(*section, setting[1])] = setting[2].strip('"')
    return found


def options(program):
    """The options of a program's command line, without the dashes."""
    text = "\n".join(path.read_text() for path in rust_files(program))
    found = re.findall(r'#\[arg\(\s*long(?: = "([a-z-]+)")?[^\]]*\)\]\s+(?:pub )?([a-z_]+):', text)
    return {name or field.replace("_", "-") for name, field in found}


def rust_files(folder):
    return sorted((REPOSITORY / folder / "src").rglob("*.rs"))


def port_of(address):
    return address.rpartition(":")[2]


def sleep(pod):
    return sum(one.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0) for one in pod["containers"])


def queries(subject):
    """The queries in PromQL of an object."""
    if subject["kind"] == "ScaledObject":
        return [trigger["metadata"]["query"] for trigger in subject["spec"]["triggers"]]
    if subject["kind"] == "PrometheusRule":
        return [rule["expr"] for group in subject["spec"]["groups"] for rule in group["rules"]]
    return []
