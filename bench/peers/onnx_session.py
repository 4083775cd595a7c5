"""ONNX Runtime for all peers: the unchanged file, one thread."""

import os

import numpy

# Without this, the official builds report to their vendor, with their own threads and database.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # noqa: E402


class OnnxSession:
    """A model with one input and one output; their first dimension is the batch."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (self.input,), (self.output,) = self._session.get_inputs(), self._session.get_outputs()

    @property
    def input_shape(self):
        """The shape of one sample, without the batch."""
        return self.input.shape[1:]

    @property
    def output_shape(self):
        """The shape of one sample, without the batch."""
        return self.output.shape[1:]

    def run(self, samples):
        """The outputs of a batch."""
        (outputs,) = self._session.run([self.output.name], {self.input.name: samples})
        return outputs

    def run_together(self, batches):
        """The outputs of each of `batches`, computed in one run."""
        outputs = self.run(numpy.concatenate(batches) if len(batches) > 1 else batches[0])
        ends = numpy.cumsum([len(batch) for batch in batches])
        return [outputs[end - len(batch) : end] for batch, end in zip(batches, ends)]
