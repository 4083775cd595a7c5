"""Starts each server and reports its address."""

import contextlib
import http.client
import json
import socket
from pathlib import Path

from . import MODEL, SERVER_CORE, processes

HERE = Path(__file__).parent
# Scripts by the names of --peers.
PEERS = {"triton": "start_triton.py", "pytriton": "start_pytriton.py", "mlserver": "start_mlserver.py"}
# One session of one thread, on free ports.
SETTINGS = ["runtime.instances=1", "runtime.threads=1"]
SETTINGS += [f"{part}.listen=127.0.0.1:0" for part in ["grpc", "admin", "http", "metrics"]]


def retort(program, store, folder):
    """Runs Retort's inference service; yields its gRPC address and its process id."""
    ready_file = folder / "ready.json"
    command = [program, "serve", "--store", store, "--ready-file", ready_file]
    for setting in SETTINGS:
        command += ["--set", setting]
    ready = lambda: ready_file.exists() and json.loads(ready_file.read_text())["grpc"]
    return processes.serving("retort", SERVER_CORE, command, ready, folder)


@contextlib.contextmanager
def peer(name, python, onnx, folder):
    """Runs a peer; yields its gRPC address and its process id."""
    grpc_port, http_port = free_ports(2)
    command = [python, HERE / PEERS[name], onnx, grpc_port, http_port, folder]
    ready = lambda: model_is_ready(http_port) and f"127.0.0.1:{grpc_port}"
    try:
        with processes.serving(name, SERVER_CORE, command, ready, folder) as found:
            yield found
    finally:
        # If Triton is stopped before it is ready, it leaves shared memory, which start_triton.py names after the folder.
        for left in Path("/dev/shm").glob(f"{folder.name}*"):
            left.unlink()


def free_ports(count):
    """Free ports, for servers that cannot choose and report one. If another process takes a port, its server fails."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def model_is_ready(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", f"/v2/models/{MODEL}/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
