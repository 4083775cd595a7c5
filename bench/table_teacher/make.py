"""Trains a teacher for each table; runs in the environment with scikit-learn. bench/make-table-teacher starts it."""

import argparse
import json
import os
import time
from pathlib import Path

import numpy
import skl2onnx
import sklearn
from sklearn import datasets
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import train_test_split

# The official builds report to their vendor unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # noqa: E402

TABLES = {"breast-cancer": datasets.load_breast_cancer, "digits": datasets.load_digits}
TEST_SHARE = 0.2
OPSETS = {"": 17, "ai.onnx.ml": 3}


def main():
    arguments = parse()
    for name, load in TABLES.items():
        make(arguments.folder / name, load(), arguments.seed)


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    return parser.parse_args()


def make(folder, table, seed):
    """Writes the two splits of a table and a teacher that was trained on the first."""
    # As the teacher and the student see them.
    rows = table.data.astype(numpy.float32)
    labels = numpy.array([str(name) for name in table.target_names])[table.target]
    rows, test_rows, labels, test_labels = train_test_split(
        rows, labels, test_size=TEST_SHARE, stratify=labels, random_state=seed
    )
    (folder / "data").mkdir(parents=True)
    columns = [str(name).replace(" ", "_") for name in table.feature_names]
    write(folder / "data/train.csv", columns, rows, labels)
    write(folder / "data/test.csv", columns, test_rows, test_labels)

    start = time.monotonic()
    model = GradientBoostingClassifier(random_state=seed).fit(rows, labels)
    accuracy = model.score(test_rows, test_labels)
    print(f"{folder.name}: accuracy {accuracy:.4f} on {len(test_rows)} test rows, {time.monotonic() - start:.0f} s", flush=True)
    # Without zipmap=False, the probabilities of the ONNX model are no tensor.
    exported = skl2onnx.to_onnx(model, rows[:1], options={"zipmap": False}, target_opset=OPSETS)
    (folder / "teacher.onnx").write_bytes(exported.SerializeToString())
    classes = [str(name) for name in model.classes_]
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    about = {
        "model": "scikit-learn GradientBoostingClassifier",
        "data": f"sklearn.datasets, {len(rows)} training rows and {len(test_rows)} test rows",
        "seed": seed,
        "scikit_learn": sklearn.__version__,
        "skl2onnx": skl2onnx.__version__,
        "test_accuracy": accuracy,
        "largest_difference_of_onnx": difference(folder / "teacher.onnx", model, test_rows),
        "class_names": classes,
    }
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def write(path, columns, rows, labels):
    """Writes a table as CSV, the label in the last column."""
    lines = [",".join([*columns, "label"])]
    lines += [",".join([*(str(value) for value in row), label]) for row, label in zip(rows, labels)]
    path.write_text("\n".join(lines) + "\n")


def difference(path, model, rows):
    """The largest difference of a probability between the ONNX file and scikit-learn."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    _, probabilities = session.run(None, {session.get_inputs()[0].name: rows})
    return float(numpy.abs(probabilities - model.predict_proba(rows)).max())


if __name__ == "__main__":
    main()
