"""The model for Triton's Python backend; start_triton.py links it into the model repository."""

from pathlib import Path

import triton_python_backend_utils as triton
from onnx_session import OnnxSession


class TritonPythonModel:
    """One instance in its own process; shared memory carries the tensors."""

    def initialize(self, arguments):
        version = Path(arguments["model_repository"]) / arguments["model_version"]
        self.session = OnnxSession(version / "model.onnx")

    def execute(self, requests):
        name = self.session.input.name
        batches = [triton.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
        return [self.response(outputs) for outputs in self.session.run_together(batches)]

    def response(self, outputs):
        return triton.InferenceResponse([triton.Tensor(self.session.output.name, outputs)])
