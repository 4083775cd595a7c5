"""Starts MLServer with an ONNX file: start_mlserver.py ONNX GRPC_PORT HTTP_PORT FOLDER

MLServer has no ONNX runtime, so this is a custom runtime as described in its documentation.

Best settings: no workers, because a second process is useless on one core. No adaptive batching: merging and splitting
requests costs MLServer more processor time than ONNX Runtime saves with the batch (measured with batches of 8 and 64
and waits of 0.1, 1 and 5 ms: none was faster at any number of callers). The model runs in the event loop, because a
thread would only add context switches on one core. Answers are built without validation. Access logs, metrics and
gzip are off.
"""

import asyncio
import sys

import numpy
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.settings import ModelParameters
from mlserver.types import InferenceResponse, ResponseOutput
from mlserver.utils import install_uvloop_event_loop
from onnx_session import OnnxSession


class OnnxModel(MLModel):
    """The custom runtime."""

    async def load(self):
        self.session = OnnxSession(self.settings.parameters.uri)
        return True

    async def predict(self, payload):
        (given,) = payload.inputs
        outputs = self.session.run(numpy.array(given.data.root, numpy.float32).reshape(given.shape))
        answer = ResponseOutput.model_construct(
            name=self.session.output.name,
            datatype="FP32",
            shape=list(outputs.shape),
            data=outputs.ravel().tolist(),
            parameters=None,
        )
        return InferenceResponse.model_construct(model_name=self.name, outputs=[answer])


async def main(onnx, grpc_port, http_port, _folder):
    settings = Settings(
        debug=False,
        parallel_workers=0,
        host="127.0.0.1",
        grpc_port=int(grpc_port),
        http_port=int(http_port),
        metrics_endpoint=None,
        gzip_enabled=False,
    )
    session = OnnxSession(onnx)
    model = ModelSettings(
        name="model",
        implementation=OnnxModel,
        parameters=ModelParameters(uri=onnx),
        inputs=[{"name": session.input.name, "datatype": "FP32", "shape": [-1, *session.input_shape]}],
        outputs=[{"name": session.output.name, "datatype": "FP32", "shape": [-1, *session.output_shape]}],
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    install_uvloop_event_loop()
    asyncio.run(main(*sys.argv[1:]))
