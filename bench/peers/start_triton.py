"""Serves an ONNX file with Triton until it is stopped: start_triton.py MODEL.onnx GRPC_PORT.

Triton itself, from PyTriton's package; the model is ONNX Runtime with one thread, called from Triton's
Python backend, since that package has no ONNX backend. Batches of up to 64 are formed of what waits,
without a delay: with one, callers that wait for each other only wait longer.
"""

import signal
import sys
import threading

import numpy as np
import onnx_session
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

path, port = sys.argv[1], int(sys.argv[2])
session = onnx_session.load(path)
given, answered = session.get_inputs()[0], session.get_outputs()[0]


@batch
def infer(**inputs):
    return {answered.name: session.run(None, inputs)[0]}


stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
config = TritonConfig(grpc_port=port, http_port=port + 1, metrics_port=port + 2, allow_metrics=False)
with Triton(config=config) as triton:
    triton.bind(
        model_name="model",
        infer_func=infer,
        inputs=[Tensor(name=given.name, dtype=np.float32, shape=tuple(given.shape[1:]))],
        outputs=[Tensor(name=answered.name, dtype=np.float32, shape=tuple(answered.shape[1:]))],
        config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
    )
    triton.run()
    stopped.wait()
