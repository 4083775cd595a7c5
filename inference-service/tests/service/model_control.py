"""Loads and unloads a model with tritonclient on the port of the inference protocol, and checks that requests
for unsupported features are rejected with the name of the parameter.

    model_control.py --grpc HOST:PORT --http HOST:PORT --model NAME
"""

import argparse

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

SHAPE = [1, 1, 8, 8]


def main():
    parser = argparse.ArgumentParser()
    for name in ["--grpc", "--http", "--model"]:
        parser.add_argument(name, required=True)
    arguments = parser.parse_args()
    with triton_grpc.InferenceServerClient(arguments.grpc) as client:
        load_and_unload(client, arguments.model)
        ask_over_grpc(client, arguments.model)
    with triton_http.InferenceServerClient(arguments.http) as client:
        ask_over_http(client, arguments.model)
    stream(arguments)
    print("all as expected")


def load_and_unload(client, model):
    client.unload_model(model)
    assert not client.is_model_ready(model)
    client.load_model(model)
    assert client.is_model_ready(model)
    client.unload_model(model, unload_dependents=True)
    client.load_model(model)
    refused("parameters.config", client.load_model, model, config="{}")
    refused("parameters.file:1/model.onnx", client.load_model, model, files={"file:1/model.onnx": b"onnx"})
    assert client.is_model_ready(model)


def ask_over_grpc(client, model):
    inputs = tensors(triton_grpc)
    for asked in [{"sequence_id": 7}, {"sequence_id": "seven", "sequence_start": True}]:
        refused("parameters.sequence_id", client.infer, model, inputs, **asked)
    ranked = [triton_grpc.InferRequestedOutput("logits", class_count=2)]
    refused("outputs[0].parameters.classification", client.infer, model, inputs, outputs=ranked)
    shared = [triton_grpc.InferRequestedOutput("logits")]
    shared[0].set_shared_memory("region", 12)
    refused("outputs[0].parameters.shared_memory_region", client.infer, model, inputs, outputs=shared)
    shared = tensors(triton_grpc)
    shared[0].set_shared_memory("region", 256)
    refused("inputs[0].parameters.shared_memory_region", client.infer, model, shared)
    # These parameters do not affect the response.
    client.infer(model, inputs, priority=1, parameters={"surprise": 3})
    (statistics,) = client.get_inference_statistics(model).model_stats
    (memory,) = statistics.memory_usage
    assert memory.type == "CPU" and memory.byte_size > 0, memory
    assert not statistics.response_stats


def ask_over_http(client, model):
    inputs = tensors(triton_http)
    refused("parameters.sequence_id", client.infer, model, inputs, sequence_id=7)
    ranked = [triton_http.InferRequestedOutput("logits", class_count=2)]
    refused("outputs[0].parameters.classification", client.infer, model, inputs, outputs=ranked)
    client.infer(model, inputs, priority=1)
    (statistics,) = client.get_inference_statistics(model)["model_stats"]
    (memory,) = statistics["memory_usage"]
    assert memory["type"] == "CPU" and memory["byte_size"] > 0, memory
    assert statistics["response_stats"] == {}


def stream(arguments):
    """Checks the mark on the final response, for which clients may wait."""
    answers = []
    with triton_grpc.InferenceServerClient(arguments.grpc) as client:
        client.start_stream(lambda result, error: answers.append((result, error)))
        client.async_stream_infer(arguments.model, tensors(triton_grpc), enable_empty_final_response=True)
        client.stop_stream()
    ((result, error),) = answers
    assert error is None, error
    assert result.get_response().parameters["triton_final_response"].bool_param


def tensors(client):
    tensor = client.InferInput("input", SHAPE, "FP32")
    tensor.set_data_from_numpy(np.zeros(SHAPE, dtype=np.float32))
    return [tensor]


def refused(field, call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except InferenceServerException as error:
        assert error.status() in ("StatusCode.INVALID_ARGUMENT", "400"), error
        assert error.message().startswith(field + ": "), error
    else:
        raise AssertionError(f"{field} was accepted")


if __name__ == "__main__":
    main()
