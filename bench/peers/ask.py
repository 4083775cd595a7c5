"""Waits until a server serves the model, asks it once and compares: ask.py ADDRESS MODEL.onnx."""

import sys
import time

import numpy as np
import onnx_session
import tritonclient.grpc as triton

PATIENCE_SECONDS = 120
TOLERANCE = 1e-4

address, path = sys.argv[1:]
session = onnx_session.load(path)
given, answered = session.get_inputs()[0], session.get_outputs()[0]
values = np.random.default_rng(1).random((1, *given.shape[1:]), dtype=np.float32)

client = triton.InferenceServerClient(address)
deadline = time.monotonic() + PATIENCE_SECONDS
while True:
    try:
        if client.is_model_ready("model"):
            break
    except triton.InferenceServerException:
        pass
    if time.monotonic() > deadline:
        sys.exit(f"the model is not ready at {address} after {PATIENCE_SECONDS} s")
    time.sleep(0.1)

tensor = triton.InferInput(given.name, values.shape, "FP32")
tensor.set_data_from_numpy(values)
answer = client.infer("model", [tensor]).as_numpy(answered.name)
difference = np.abs(answer - session.run(None, {given.name: values})[0]).max()
if not difference <= TOLERANCE:
    sys.exit(f"{address} answers something else than ONNX Runtime: they differ by {difference}")
