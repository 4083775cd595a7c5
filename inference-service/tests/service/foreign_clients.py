"""Calls a running service with clients that were not written for Retort, and compares their results.

    foreign_clients.py --grpc HOST:PORT --http HOST:PORT --model NAME --png FILE

The model is the small one of the tests: 1x8x8 pixels, three classes.
"""

import argparse
import asyncio
import gzip
import json
import urllib.request

import grpc
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SHAPE = [2, 1, 8, 8]
INPUT = np.linspace(-1, 1, num=128, dtype=np.float32).reshape(SHAPE)


def main():
    parser = argparse.ArgumentParser()
    for name in ["--grpc", "--http", "--model", "--png"]:
        parser.add_argument(name, required=True)
    arguments = parser.parse_args()
    logits = {
        "tritonclient gRPC": triton_over_grpc(arguments),
        "tritonclient gRPC asyncio": asyncio.run(triton_over_grpc_asyncio(arguments)),
        "tritonclient gRPC stream": triton_over_grpc_stream(arguments),
        "tritonclient HTTP binary": triton_over_http(arguments, binary=True),
        "tritonclient HTTP JSON": triton_over_http(arguments, binary=False),
        "tritonclient HTTP gzip": triton_over_http(arguments, binary=True, compression="gzip"),
        "tritonclient HTTP deflate": triton_over_http(arguments, binary=True, compression="deflate"),
        "tritonclient HTTP asyncio": asyncio.run(triton_over_http_asyncio(arguments)),
        "grpcio with reflection": by_reflection(arguments),
        "urllib": by_urllib(arguments),
    }
    reference = logits["tritonclient gRPC"]
    assert reference.shape == (2, 3) and np.isfinite(reference).all()
    for name, found in logits.items():
        assert np.allclose(found, reference, atol=1e-5), (name, found, reference)
        print(name, "agrees")
    check_health(arguments)
    classify(arguments)


def describe(client, arguments):
    """Checks the calls that tritonclient has for both protocols."""
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(arguments.model) and client.is_model_ready(arguments.model, "1")
    assert not client.is_model_ready("cats") and not client.is_model_ready(arguments.model, "9")


def triton_over_grpc(arguments):
    with triton_grpc.InferenceServerClient(arguments.grpc) as client:
        describe(client, arguments)
        assert client.get_server_metadata().name == "retort"
        metadata = client.get_model_metadata(arguments.model)
        assert list(metadata.inputs[0].shape) == [-1, 1, 8, 8]
        config = client.get_model_config(arguments.model).config
        assert list(config.input[0].dims) == [1, 8, 8] and config.max_batch_size == 64
        index = client.get_model_repository_index()
        assert [(model.name, model.state) for model in index.models] == [(arguments.model, "READY")]
        result = client.infer(arguments.model, triton_input(triton_grpc), request_id="seven")
        assert result.get_response().id == "seven"
        statistics = client.get_inference_statistics(arguments.model)
        assert statistics.model_stats[0].inference_count >= 2
        return result.as_numpy("logits")


async def triton_over_grpc_asyncio(arguments):
    async with triton_aio.InferenceServerClient(arguments.grpc) as client:
        assert await client.is_server_ready()
        results = [client.infer(arguments.model, triton_input(triton_grpc)) for _ in range(4)]
        results = await asyncio.gather(*results)
        return results[-1].as_numpy("logits")


def triton_over_grpc_stream(arguments):
    answers = []
    with triton_grpc.InferenceServerClient(arguments.grpc) as client:
        client.start_stream(lambda result, error: answers.append((result, error)))
        # The second request is rejected, and the stream stays open.
        for model in [arguments.model, "cats", arguments.model]:
            client.async_stream_infer(model, triton_input(triton_grpc))
        client.stop_stream()
    assert [error is None for _, error in answers] == [True, False, True], answers
    assert "cats" in str(answers[1][1])
    return answers[2][0].as_numpy("logits")


def triton_over_http(arguments, binary, compression=None):
    with triton_http.InferenceServerClient(arguments.http) as client:
        describe(client, arguments)
        assert client.get_server_metadata()["name"] == "retort"
        metadata = client.get_model_metadata(arguments.model, "1")
        assert metadata["outputs"][0] == {"name": "logits", "datatype": "FP32", "shape": [-1, 3]}
        config = client.get_model_config(arguments.model)
        assert config["input"][0]["data_type"] == "TYPE_FP32" and config["max_batch_size"] == 64
        assert client.get_model_repository_index()[0]["state"] == "READY"
        inputs = [triton_http.InferInput("input", SHAPE, "FP32")]
        inputs[0].set_data_from_numpy(INPUT, binary_data=binary)
        outputs = [triton_http.InferRequestedOutput("logits", binary_data=binary)]
        result = client.infer(arguments.model, inputs, outputs=outputs, request_compression_algorithm=compression)
        # Without outputs, the client requests all of them as binary data.
        again = client.infer(arguments.model, inputs, request_id="eight")
        assert again.get_response()["id"] == "eight"
        assert (again.as_numpy("logits") == result.as_numpy("logits")).all()
        statistics = client.get_inference_statistics(arguments.model)
        assert statistics["model_stats"][0]["inference_stats"]["success"]["count"] >= 2
        return result.as_numpy("logits")


async def triton_over_http_asyncio(arguments):
    async with triton_http_aio.InferenceServerClient(arguments.http) as client:
        inputs = [triton_http.InferInput("input", SHAPE, "FP32")]
        inputs[0].set_data_from_numpy(INPUT)
        result = await client.infer(arguments.model, inputs)
        return result.as_numpy("logits")


def triton_input(client):
    tensor = client.InferInput("input", SHAPE, "FP32")
    tensor.set_data_from_numpy(INPUT)
    return [tensor]


def messages(channel, service):
    """Returns the message classes of a service's methods, from the server's reflection, as grpcurl does."""
    database = ProtoReflectionDescriptorDatabase(channel)
    assert service in database.get_services()
    pool = descriptor_pool.DescriptorPool(database)
    methods = pool.FindServiceByName(service).methods_by_name
    return {
        name: (message_factory.GetMessageClass(method.input_type), message_factory.GetMessageClass(method.output_type))
        for name, method in methods.items()
    }


def call(channel, service, method, fill):
    """Makes a unary call of a service that is known only by reflection."""
    request_class, response_class = messages(channel, service)[method]
    request = request_class()
    fill(request)
    unary = channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=request_class.SerializeToString,
        response_deserializer=response_class.FromString,
    )
    return unary(request, timeout=30)


def by_reflection(arguments):
    def fill(request):
        request.model_name = arguments.model
        tensor = request.inputs.add(name="input", datatype="FP32", shape=SHAPE)
        tensor.contents.fp32_contents.extend(INPUT.reshape(-1).tolist())

    with grpc.insecure_channel(arguments.grpc) as channel:
        response = call(channel, "inference.GRPCInferenceService", "ModelInfer", fill)
    return np.frombuffer(response.raw_output_contents[0], dtype="<f4").reshape(2, 3)


def by_urllib(arguments):
    tensor = {"name": "input", "datatype": "FP32", "shape": SHAPE, "data": INPUT.tolist()}
    body = gzip.compress(json.dumps({"inputs": [tensor]}).encode())
    request = urllib.request.Request(
        f"http://{arguments.http}/v2/models/{arguments.model}/versions/1/infer",
        data=body,
        headers={"Content-Encoding": "gzip", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        (output,) = json.load(response)["outputs"]
    return np.array(output["data"], dtype=np.float32).reshape(output["shape"])


def check_health(arguments):
    with grpc.insecure_channel(arguments.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ["", "inference.GRPCInferenceService"]:
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        try:
            health.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=30)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
        else:
            raise AssertionError("an unknown service must have no health")
    print("grpcio-health-checking agrees")


def classify(arguments):
    """Classifies an image over both protocols."""
    with open(arguments.png, "rb") as file:
        png = file.read()

    def fill(request):
        request.model_name = arguments.model
        request.images.extend([png, png])
        request.top_k = 2

    with grpc.insecure_channel(arguments.grpc) as channel:
        response = call(channel, "retort.predict.v1.PredictorService", "Classify", fill)
    assert len(response.classifications) == 2
    over_grpc = [(found.class_name, found.index) for found in response.classifications[0].classes]
    url = f"http://{arguments.http}/v1/models/{arguments.model}:classify?top_k=2"
    request = urllib.request.Request(url, data=png, headers={"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=30) as response:
        over_http = [(found["class_name"], found["index"]) for found in json.load(response)["classes"]]
    assert len(over_http) == 2 and over_http == over_grpc, (over_http, over_grpc)
    print("images agree")


if __name__ == "__main__":
    main()
