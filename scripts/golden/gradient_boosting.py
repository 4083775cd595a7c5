"""Writes crates/onnx-runtime/tests/onnx_runtime/gradient_boosting.onnx, and prints what ONNX Runtime in Python answers for
four of its rows: for crates/onnx-runtime/tests/onnx_runtime/model.rs.

    pip install scikit-learn==1.9.1 skl2onnx==1.20.0 onnxruntime==1.32.0
    python scripts/golden/gradient_boosting.py
"""

import pathlib

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier

FOLDER = pathlib.Path(__file__).parents[2] / "crates/onnx-runtime/tests/onnx_runtime"

rows, labels = load_iris(return_X_y=True)
model = GradientBoostingClassifier(n_estimators=3, max_depth=2, random_state=1).fit(rows, labels)
rows = rows.astype(np.float32)
file = FOLDER / "gradient_boosting.onnx"
exported = to_onnx(model, rows[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
file.write_bytes(exported.SerializeToString())

session = onnxruntime.InferenceSession(file)
chosen = rows[[0, 60, 110, 149]]
print("rows:", chosen.reshape(-1).tolist())
names = [output.name for output in session.get_outputs()]
print("outputs:", [(output.name, output.type, output.shape) for output in session.get_outputs()])
print("probabilities:", session.run(["probabilities"], {session.get_inputs()[0].name: chosen})[0].reshape(-1).tolist())
