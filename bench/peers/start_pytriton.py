"""Starts Triton as pytriton does: start_pytriton.py ONNX GRPC_PORT HTTP_PORT FOLDER

The model is a callback in this process; the server's Python backend passes the requests to it through ZeroMQ and shared
memory. This is slower than start_triton.py, but it is how pytriton's users run Triton. The batch settings are the same.
"""

import os
import signal
import sys
import sysconfig
from pathlib import Path

import numpy
from onnx_session import OnnxSession
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main(onnx, grpc_port, http_port, folder):
    # Otherwise the server's stub would mix two Python versions.
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    # Exit normally, so that the child server is stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    session = OnnxSession(onnx)
    config = TritonConfig(
        grpc_address="127.0.0.1",
        grpc_port=int(grpc_port),
        grpc_infer_allocation_pool_size=64,
        http_address="127.0.0.1",
        http_port=int(http_port),
        allow_metrics=False,
    )
    batcher = DynamicBatcher(max_queue_delay_microseconds=0, preferred_batch_size=[64])
    with Triton(config=config, workspace=Path(folder) / "workspace") as triton:
        triton.bind(
            model_name="model",
            infer_func=lambda requests: infer(session, requests),
            inputs=[Tensor(name=session.input.name, dtype=numpy.float32, shape=tuple(session.input_shape))],
            outputs=[Tensor(name=session.output.name, dtype=numpy.float32, shape=tuple(session.output_shape))],
            config=ModelConfig(max_batch_size=64, batcher=batcher),
        )
        triton.serve()


def infer(session, requests):
    batches = [request[session.input.name] for request in requests]
    return [{session.output.name: outputs} for outputs in session.run_together(batches)]


if __name__ == "__main__":
    main(*sys.argv[1:])
