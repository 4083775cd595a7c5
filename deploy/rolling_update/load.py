"""Clients that call a model through a Service all the time, without retries of their own."""

import collections
import http.client
import json
import threading
import time

import numpy
import tritonclient.grpc as triton

from .engine import Failure

# Each keeps its connection until the server ends it, as clients of gRPC do.
GRPC_CLIENTS = 6
# Each opens a connection for every call.
HTTP_CLIENTS = 2
# Seconds.
LONGEST_CALL = 10
SHAPE = [1, 1, 28, 28]


class Load:
    """Counts calls and failures."""

    def __init__(self, service, model):
        self.service, self.model = service, model
        self.lock = threading.Lock()
        self.calls, self.slowest, self.failures = collections.Counter(), collections.Counter(), []
        self.is_over = threading.Event()
        clients = [self.grpc_client] * GRPC_CLIENTS + [self.http_client] * HTTP_CLIENTS
        self.threads = [threading.Thread(target=client, daemon=True) for client in clients]
        for thread in self.threads:
            thread.start()

    def grpc_client(self):
        # Otherwise all clients of this process would share one connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        client = triton.InferenceServerClient(self.service.addresses["grpc"], channel_args=options)
        values = triton.InferInput("input", SHAPE, "FP32")
        values.set_data_from_numpy(numpy.zeros(SHAPE, numpy.float32))

        def call():
            logits = client.infer(self.model, [values], client_timeout=LONGEST_CALL).as_numpy("logits")
            if logits.shape != (1, 10):
                raise Failure(f"an answer has the shape {logits.shape}")

        self.repeat("gRPC", call)

    def http_client(self):
        values = {"name": "input", "shape": SHAPE, "datatype": "FP32", "data": [0.0] * 784}
        body = json.dumps({"inputs": [values]})

        def call():
            connection = http.client.HTTPConnection(self.service.addresses["http"], timeout=LONGEST_CALL)
            try:
                connection.request("POST", f"/v2/models/{self.model}/infer", body)
                answer = connection.getresponse()
                text = answer.read().decode()
            finally:
                connection.close()
            if answer.status != 200 or json.loads(text)["outputs"][0]["shape"] != [1, 10]:
                raise Failure(f"status {answer.status}: {text[:200]}")

        self.repeat("HTTP", call)

    def repeat(self, protocol, call):
        while not self.is_over.is_set():
            began = time.monotonic()
            failure = None
            try:
                call()
            except Exception as error:  # Whatever it is, a call has failed.
                failure = f"{protocol}: {type(error).__name__}: {error}"
            elapsed = time.monotonic() - began
            with self.lock:
                self.calls[protocol] += 1
                self.slowest[protocol] = max(self.slowest[protocol], elapsed)
                if failure:
                    self.failures.append(failure)
            if failure:
                time.sleep(0.1)

    def answered(self):
        """The number of calls that succeeded."""
        with self.lock:
            return sum(self.calls.values()) - len(self.failures)

    def wait_for(self, calls):
        """Waits for so many more answers."""
        wanted, deadline = self.answered() + calls, time.monotonic() + 60
        while self.answered() < wanted:
            if time.monotonic() > deadline:
                raise Failure(f"not {calls} answers within 60 s; {self.failures[:3]}")
            time.sleep(0.05)

    def check(self):
        """Fails if a call has failed."""
        if self.failures:
            count, first = len(self.failures), "\n".join(self.failures[:5])
            raise Failure(f"{count} of {sum(self.calls.values())} calls failed; the first ones:\n{first}")

    def end(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def __str__(self):
        parts = [
            f"{self.calls[protocol]} calls over {protocol} (the slowest took {self.slowest[protocol]:.2f} s)"
            for protocol in sorted(self.calls)
        ]
        return f"{' and '.join(parts)}, {len(self.failures)} failed"
