"""Starts Triton with an ONNX file: start_triton.py ONNX GRPC_PORT HTTP_PORT FOLDER

The server is from nvidia-pytriton's wheel. The wheel has only the Python backend, so ONNX Runtime is called from Python,
as in MLServer. Triton's own ONNX Runtime backend is available in container images only.

Best settings: the Python backend, called by the server itself. pytriton's callback, a second hop through ZeroMQ, needs
more processor time for the same requests (start_pytriton.py). The batcher takes the waiting requests, up to 64, and does
not wait for more: a delay made few callers slower and 64 callers not faster. The request pool is as large as the load,
which avoids allocations. Metrics are off.
"""

import os
import sys
import sysconfig
from pathlib import Path

from onnx_session import OnnxSession
from pytriton.utils.distribution import get_libs_path, get_root_module_path, get_stub_path

CONFIG = """
backend: "python"
max_batch_size: 64
input [{{ name: "{input}" data_type: TYPE_FP32 dims: {input_shape} }}]
output [{{ name: "{output}" data_type: TYPE_FP32 dims: {output_shape} }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
dynamic_batching {{ preferred_batch_size: [64] max_queue_delay_microseconds: 0 }}
"""


def main(onnx, grpc_port, http_port, folder):
    folder = Path(folder)
    server = get_root_module_path() / "tritonserver"
    link_backend(server / "backends/python", folder / "backends/python")
    write_repository(Path(onnx), folder / "models/model")
    arguments = [
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={folder / 'backends'}",
        f"--backend-config=python,shm-region-prefix-name={folder.name}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc_port}",
        "--grpc-infer-allocation-pool-size=64",
        "--http-address=127.0.0.1",
        f"--http-port={http_port}",
        "--allow-metrics=false",
    ]
    os.execve(server / "bin/tritonserver", ["tritonserver", *arguments], environment())


def link_backend(shipped, backend):
    """Links the shipped backend, with the stub that embeds the running Python version."""
    backend.mkdir(parents=True)
    for name in ["libtriton_python.so", "triton_python_backend_utils.py"]:
        (backend / name).symlink_to(shipped / name)
    stub = get_stub_path(f"{sys.version_info.major}.{sys.version_info.minor}")
    (backend / stub.name).symlink_to(stub)


def write_repository(onnx, model):
    """Writes a model repository with one model."""
    session, here = OnnxSession(onnx), Path(__file__).parent
    version = model / "1"
    version.mkdir(parents=True)
    (version / "model.py").symlink_to(here / "triton_model.py")
    (version / "onnx_session.py").symlink_to(here / "onnx_session.py")
    (version / "model.onnx").symlink_to(onnx)
    config = CONFIG.format(
        input=session.input.name,
        input_shape=session.input_shape,
        output=session.output.name,
        output_shape=session.output_shape,
    )
    (model / "config.pbtxt").write_text(config)


def environment():
    """Lets the stub find libpython and, by PATH, this environment's packages; otherwise it would mix two Python versions."""
    library = Path(sysconfig.get_config_var("LIBDIR")) / sysconfig.get_config_var("INSTSONAME")
    if not library.exists():
        sys.exit(f"Triton needs {library}, which is missing: install it (Debian: apt install libpython3.11)")
    return {
        **os.environ,
        "LD_LIBRARY_PATH": f"{library.parent}:{get_libs_path()}",
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
