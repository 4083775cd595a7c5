"""Renders the Helm chart and the Kustomize folders, and normalizes their objects so that they can be compared."""

import copy
import os
import re
import subprocess
import tempfile
import textwrap
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = REPOSITORY / ".deps/kubernetes"
PINS = REPOSITORY / "scripts/dependencies/pins/kubernetes.txt"
CHART = REPOSITORY / "deploy/helm/retort"
EXAMPLES = REPOSITORY / "deploy/helm/examples"
KUSTOMIZE = REPOSITORY / "deploy/kubernetes"
ALERTS = REPOSITORY / "deploy/prometheus/alerts.yml"
DOCS = REPOSITORY / "docs"
YAML_BLOCK = re.compile(r"^( *)```yaml\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# Templates whose objects belong to a component; all others belong to the base.
COMPONENTS = {
    "keda": "templates/teacher-scaling.yaml",
    "hpa": "templates/teacher-scaling.yaml",
    "monitoring": "templates/monitoring.yaml",
    "kserve": "templates/kserve.yaml",
    "recording": "templates/recording.yaml",
    "training": "templates/training.yaml",
}
# What only Helm has.
HELM_LINES = re.compile(r"^ *(app\.kubernetes\.io/managed-by: Helm|helm\.sh/chart: .*)\n", re.MULTILINE)
HELM_ANNOTATIONS = re.compile(r"^ *annotations:\n *helm\.sh/resource-policy: keep\n", re.MULTILINE)
SOURCE = re.compile(r"^# Source: retort/(\S+)\n", re.MULTILINE)


class RenderError(Exception):
    """What Helm or kubectl says."""


def helm(*examples, settings=(), values=""):
    """The chart's documents as text, with the values of these examples, and others as settings or as YAML."""
    call = [TOOLS / "bin/helm", "template", "retort", CHART, "--namespace=retort"]
    call += [f"--values={EXAMPLES / name}.yaml" for name in examples]
    call += [f"--set={setting}" for setting in settings]
    return run(*call, "--values=-", stdin=values)


def lint():
    """What is wrong with the chart."""
    return run(TOOLS / "bin/helm", "lint", "--strict", CHART)


def kustomize(name):
    """The documents of the base, of an overlay, or of the base with a component."""
    if name not in COMPONENTS:
        return run(TOOLS / "bin/kubectl", "kustomize", KUSTOMIZE / name)
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.relpath(KUSTOMIZE, os.path.realpath(folder))
        text = yaml.safe_dump({"resources": [f"{root}/base"], "components": [f"{root}/components/{name}"]})
        (Path(folder) / "kustomization.yaml").write_text(text)
        return run(TOOLS / "bin/kubectl", "kustomize", folder)


def run(program, *arguments, stdin=""):
    # Neither program reads the user's settings or plugins.
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    result = subprocess.run([program, *arguments], env=environment, input=stdin, text=True, capture_output=True)
    if result.returncode != 0:
        raise RenderError(f"{program.name}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def objects(text):
    """The objects of a text with YAML documents."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def documented():
    """The objects of Kubernetes in the pages of docs/, and the values of the chart there, as texts."""
    names = yaml.safe_load((CHART / "values.yaml").read_text()).keys()
    found, values = [], []
    blocks = [block for page in sorted(DOCS.glob("*.md")) for _, block in YAML_BLOCK.findall(page.read_text())]
    for text in map(textwrap.dedent, blocks):
        for one in objects(text):
            # Kustomizations are not objects.
            if isinstance(one, dict) and "kind" in one and not one["apiVersion"].startswith("kustomize."):
                found.append(one)
            elif isinstance(one, dict) and one.keys() <= names:
                values.append(text)
    return found, values


def rendered_files():
    """The files of deploy/kubernetes that come from the chart: {path: text}; and the chart's copy of the alert rules."""
    files = {CHART / "files/alerts.yml": ALERTS.read_text()}
    for path, text in by_template(helm()).items():
        files[KUSTOMIZE / "base" / path.rpartition("/")[2]] = text
    for name, template in COMPONENTS.items():
        files[KUSTOMIZE / "components" / name / template.rpartition("/")[2]] = by_template(helm(name))[template]
    return files


def by_template(text):
    """Rendered documents without what only Helm has: {template: text}."""
    files = {}
    for document in re.split(r"^---\n", text, flags=re.MULTILINE):
        if source := SOURCE.search(document):
            document = HELM_ANNOTATIONS.sub("", HELM_LINES.sub("", SOURCE.sub("", document)))
            files.setdefault(source[1], []).append(document.strip() + "\n")
    header = "# Rendered from deploy/helm/retort by deploy/check-kubernetes --render.\n---\n"
    return {path: header + "---\n".join(documents) for path, documents in files.items()}


def comparable(text):
    """{(kind, name): object} without what only Helm has, and with environment variables in one order."""
    found = {}
    for subject in objects(text):
        subject = copy.deepcopy(subject)
        metadata = subject["metadata"]
        for key in ["app.kubernetes.io/managed-by", "helm.sh/chart"]:
            metadata.get("labels", {}).pop(key, None)
        if metadata.get("annotations", {}).pop("helm.sh/resource-policy", None) and not metadata["annotations"]:
            del metadata["annotations"]
        for container in containers(subject):
            container.get("env", []).sort(key=lambda variable: variable["name"])
        found[subject["kind"], metadata["name"]] = subject
    return found


def pod_spec(subject):
    """The pod that an object creates, or None."""
    if subject["kind"] == "ClusterServingRuntime":
        return subject["spec"]
    return (pod_template(subject) or {}).get("spec")


def pod_template(subject):
    """Labels and spec of the pods that an object creates, or None."""
    if subject["kind"] in ("Deployment", "StatefulSet", "Job"):
        return subject["spec"]["template"]
    if subject["kind"] == "TrainingRuntime":
        return subject["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    return None


def name_of(subject):
    """An object's name, or the beginning of one that Kubernetes completes."""
    metadata = subject["metadata"]
    return metadata.get("name") or metadata["generateName"]


def containers(subject):
    """The containers of the pod that an object creates."""
    return (pod_spec(subject) or {}).get("containers", [])
