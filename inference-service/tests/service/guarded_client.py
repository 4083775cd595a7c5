"""Calls a service with TLS and tokens with public clients; security.rs starts it.

Arguments: address of the gRPC port, address of the metrics, the authority's certificate, a file with a token
for predictions, a file with a token for metrics.
"""

import pathlib
import ssl
import sys
import urllib.error
import urllib.request

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

grpc_address, metrics_address, ca, *token_files = sys.argv[1:]
web, prometheus = (pathlib.Path(file).read_text() for file in token_files)


def infer(token):
    client = triton.InferenceServerClient(grpc_address, ssl=True, root_certificates=ca)
    images = triton.InferInput("input", [2, 1, 8, 8], "FP32")
    images.set_data_from_numpy(np.zeros((2, 1, 8, 8), dtype=np.float32))
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return client.infer("digits", [images], headers=headers).as_numpy("logits")


def expect_refusal(token, code):
    try:
        infer(token)
    except InferenceServerException as refused:
        assert refused.status() == f"StatusCode.{code}", refused
    else:
        raise AssertionError(f"{code} was expected")


def metrics(token):
    """Returns the status and the body of /metrics."""
    request = urllib.request.Request(f"https://{metrics_address}/metrics")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    context = ssl.create_default_context(cafile=ca)
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


assert infer(web).shape == (2, 3)
expect_refusal(None, "UNAUTHENTICATED")
expect_refusal(web[:-1] + "x", "UNAUTHENTICATED")
expect_refusal(prometheus, "PERMISSION_DENIED")
assert infer(web).shape == (2, 3)

status, body = metrics(prometheus)
assert status == 200 and "nv_inference_request_success" in body, (status, body)
status, body = metrics(None)
assert status == 401 and "TOKEN_MISSING" in body, (status, body)
status, body = metrics(web)
assert status == 403 and "SCOPE_MISSING" in body, (status, body)
print("all as expected")
