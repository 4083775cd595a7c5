"""Compares a server's answers with ONNX Runtime's: check_answers.py ONNX ADDRESS

It sends 64 different samples concurrently, so that the check includes the answers of batches.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy
import tritonclient.grpc
from onnx_session import OnnxSession
from tritonclient.utils import InferenceServerException

SAMPLES = 64
TOLERANCE = 1e-4
SECONDS = 30


def main(onnx, address):
    session = OnnxSession(onnx)
    shape = [SAMPLES, *session.input_shape]
    samples = numpy.random.default_rng(1).standard_normal(shape).astype(numpy.float32)
    # Ignore a proxy in the environment, which is for other hosts.
    channel = [("grpc.enable_http_proxy", 0)]
    with tritonclient.grpc.InferenceServerClient(address, channel_args=channel) as client, ThreadPoolExecutor(SAMPLES) as pool:
        try:
            answers = list(pool.map(lambda sample: call(client, session, sample[None]), samples))
        except InferenceServerException as error:
            sys.exit(f"a call failed: {error}")
    expected = session.run(samples)
    found = numpy.concatenate(answers)
    if found.shape != expected.shape:
        sys.exit(f"its answers have shape {found.shape}, ONNX Runtime's have {expected.shape}")
    difference = numpy.abs(found - expected).max()
    # Negated `<=`, so that NaN counts as a difference.
    if not difference <= TOLERANCE:
        sys.exit(f"its logits differ from ONNX Runtime's by {difference:.2g}, more than {TOLERANCE}")


def call(client, session, sample):
    given = tritonclient.grpc.InferInput(session.input.name, sample.shape, "FP32")
    given.set_data_from_numpy(sample)
    answer = client.infer("model", [given], client_timeout=SECONDS)
    return answer.as_numpy(session.output.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
