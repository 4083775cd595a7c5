"""Predicts images or rows of numbers with a model that an inference service serves, through Triton's Python client.

    pip install 'tritonclient[grpc]' numpy
    python predict.py --url 127.0.0.1:8001 --model fashion-mnist --artifact runs/demo/student/artifact
"""

import argparse
import base64
import json
import os
import pathlib
import struct
import sys

import numpy as np
import tritonclient.grpc as triton

TOLERANCE = 1e-4


def main():
    arguments = parse_arguments()
    manifest = json.loads((arguments.artifact / "manifest.json").read_text())
    kind, inputs = read_samples(arguments, manifest)

    client = connect(arguments)
    if not client.is_server_live():
        sys.exit(f"{arguments.url} is not live")
    metadata = client.get_model_metadata(arguments.model)
    print(f"{metadata.name}, version {', '.join(metadata.versions)}, on {metadata.platform}")

    logits = predict(client, arguments.model, inputs)
    for index, row in enumerate(softmax(logits)):
        best = int(row.argmax())
        print(f"{kind} {index}: {manifest['class_names'][best]} ({row[best]:.1%})")

    if arguments.compare:
        difference = np.abs(logits - run_locally(arguments.artifact, inputs)).max()
        print(f"largest difference to onnxruntime: {difference:.2e}")
        if not difference <= TOLERANCE:
            sys.exit(f"the served model differs from model.onnx by more than {TOLERANCE}")


class BearerToken(triton.InferenceServerClientPlugin):
    """Sends a token with every call."""

    def __init__(self, token):
        self.authorization = f"Bearer {token}"

    def __call__(self, request):
        request.headers["authorization"] = self.authorization


def connect(arguments):
    ca, certificate, key = (
        str(file) if file else None
        for file in (arguments.ca, arguments.certificate, arguments.key)
    )
    client = triton.InferenceServerClient(
        arguments.url,
        ssl=ca is not None,
        root_certificates=ca,
        private_key=key,
        certificate_chain=certificate,
    )
    if arguments.token_file:
        client.register_plugin(BearerToken(arguments.token_file.read_text().strip()))
    return client


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="127.0.0.1:8001", help="host:port of the service")
    parser.add_argument("--model", required=True, help="name of the published model")
    parser.add_argument("--artifact", required=True, type=pathlib.Path, metavar="DIR",
                        help="folder with the published manifest.json")
    parser.add_argument("--images", type=pathlib.Path, metavar="FILE",
                        help="an IDX file of u8 images instead of the manifest's golden batch")
    parser.add_argument("--count", type=int, default=8, help="number of images from FILE")
    parser.add_argument("--ca", type=pathlib.Path, metavar="FILE",
                        help="authority of the service's certificate (PEM); enables TLS")
    parser.add_argument("--certificate", type=pathlib.Path, metavar="FILE",
                        help="client certificate (PEM), if the service requires one")
    parser.add_argument("--key", type=pathlib.Path, metavar="FILE", help="private key of the certificate (PEM)")
    parser.add_argument("--token-file", type=pathlib.Path, metavar="FILE",
                        help="file with a token of scope `predict`")
    parser.add_argument("--compare", action="store_true",
                        help="compare with DIR/model.onnx in onnxruntime")
    return parser.parse_args()


def read_samples(arguments, manifest):
    """What the samples are, and the model's input."""
    _, *sample = manifest["signature"]["inputs"][0]["dimensions"]
    golden = base64.b64decode(manifest["golden_batch"]["samples"])
    preprocessing = manifest.get("preprocessing")
    if preprocessing is None:
        if arguments.images is not None:
            sys.exit("--images: the model takes rows of numbers")
        return "row", np.frombuffer(golden, "<f4").reshape(-1, *sample)
    pixels = read_pixels(arguments, golden).reshape(-1, *sample)
    return "image", normalize(pixels, preprocessing)


def read_pixels(arguments, golden):
    """u8 pixels of the images to send."""
    content = golden
    if arguments.images is not None:
        idx = arguments.images.read_bytes()
        magic, count, height, width = struct.unpack(">IIII", idx[:16])
        if magic != 0x803:
            sys.exit(f"{arguments.images} is not an IDX file of u8 images")
        content = idx[16 : 16 + min(count, arguments.count) * height * width]
    return np.frombuffer(content, np.uint8)


def normalize(pixels, preprocessing):
    """(x / 255 - mean) / std, per channel"""
    mean, std = (np.float32(preprocessing[key]).reshape(-1, 1, 1) for key in ("mean", "std"))
    return ((pixels.astype(np.float32) / 255 - mean) / std).astype(np.float32)


def predict(client, model, inputs):
    request = triton.InferInput("input", inputs.shape, "FP32")
    request.set_data_from_numpy(inputs)
    return client.infer(model, [request]).as_numpy("logits")


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def run_locally(artifact, inputs):
    # The official builds report to their vendor unless this is set before they are loaded.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    session = onnxruntime.InferenceSession(artifact / "model.onnx")
    return session.run(["logits"], {"input": inputs})[0]


if __name__ == "__main__":
    main()
