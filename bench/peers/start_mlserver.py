"""Serves an ONNX file with MLServer until it is stopped: start_mlserver.py MODEL.onnx GRPC_PORT.

In one process: workers of its own would only add a hop on the one core that every server has.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import onnx_session

path, port = Path(sys.argv[1]).resolve(), int(sys.argv[2])
session = onnx_session.load(str(path))


def tensors(described):
    return [{"name": one.name, "datatype": "FP32", "shape": [-1, *one.shape[1:]]} for one in described]


folder = Path(tempfile.mkdtemp(dir=os.environ.get("PEER_FOLDER")))
(folder / "settings.json").write_text(
    json.dumps(
        {
            "host": "127.0.0.1",
            "grpc_port": port,
            "http_port": port + 1,
            "metrics_port": port + 2,
            "parallel_workers": 0,
            "debug": False,
        }
    )
)
(folder / "model-settings.json").write_text(
    json.dumps(
        {
            "name": "model",
            "implementation": "mlserver_model.OnnxModel",
            "parameters": {"uri": str(path)},
            "inputs": tensors(session.get_inputs()),
            "outputs": tensors(session.get_outputs()),
            "max_batch_size": int(os.environ.get("PEER_MAX_BATCH_SIZE", "0")),
            "max_batch_time": float(os.environ.get("PEER_MAX_BATCH_TIME", "0")),
        }
    )
)
environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent)}
command = [sys.executable, "-c", "from mlserver.cli import main; main()", "start", str(folder)]
os.execve(sys.executable, command, environment)
