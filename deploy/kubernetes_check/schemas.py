"""Validates objects against the schemas of Kubernetes and of the custom resources; unknown fields are refused."""

import json

import jsonschema_rs

from .manifests import name_of
from .package_models import KUBERNETES, openapi_schemas, pydantic_schemas

CUSTOM = {
    ("keda.sh/v1alpha1", "ScaledObject"): "keda.ScaledObject",
    ("monitoring.coreos.com/v1", "ServiceMonitor"): "prometheus.ServiceMonitor",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "prometheus.PrometheusRule",
    ("serving.kserve.io/v1alpha1", "ClusterServingRuntime"): "kserve.V1alpha1ClusterServingRuntime",
    ("serving.kserve.io/v1beta1", "InferenceService"): "kserve.V1beta1InferenceService",
    ("trainer.kubeflow.org/v1alpha1", "TrainingRuntime"): "kubeflow.TrainerV1alpha1TrainingRuntime",
    ("trainer.kubeflow.org/v1alpha1", "TrainJob"): "kubeflow.TrainerV1alpha1TrainJob",
    ("argoproj.io/v1alpha1", "Workflow"): "argo.Workflow",
}
# Files with the models of a package that describes its resources by pydantic classes.
PYDANTIC = {
    "keda": "keda/v1alpha1.py",
    "prometheus": "prometheus_operator/v1.py",
    "kubeflow": "kubeflow/*.py",
    "argo": "argo/v1alpha1.py",
}


class Schemas:
    """The schemas of one version of Kubernetes, with those of the custom resources."""

    def __init__(self, definitions, models):
        """From the definitions of a version (a JSON file), and the folder with the packages' models."""
        self.definitions = json.loads(definitions.read_text())["$defs"]
        self.kinds = {
            (version, kind): name
            for name, schema in self.definitions.items()
            for version in only_values(schema, "apiVersion")
            for kind in only_values(schema, "kind")
        }
        if models is not None:
            for name, files in PYDANTIC.items():
                self.definitions.update(pydantic_schemas(sorted(models.glob(files)), name))
            self.definitions.update(openapi_schemas(models / "kserve", "kserve"))
            # Argo names the container of a template itself.
            container = {**self.definitions[f"{KUBERNETES}.core.v1.Container"], "required": []}
            self.definitions["argo.Template"]["properties"]["container"] = container
            self.kinds.update(CUSTOM)
        self.validators = {}

    def problems(self, subject):
        """What is wrong with an object, as texts."""
        key = (subject.get("apiVersion"), subject.get("kind"))
        if key not in self.kinds:
            return [f"{key[0]} {key[1]}: no schema"]
        if key not in self.validators:
            schema = {"$ref": f"#/$defs/{self.kinds[key]}", "$defs": self.definitions}
            self.validators[key] = jsonschema_rs.Draft202012Validator(schema)
        return [
            f"{key[1]} {name_of(subject)}, {'/'.join(map(str, error.instance_path))}: {error.message}"
            for error in self.validators[key].iter_errors(subject)
        ]


def only_values(schema, field):
    """The values that the schema permits for apiVersion or kind."""
    return schema.get("properties", {}).get(field, {}).get("enum", [])
