"""Writes the archives of crates/datasets/src/formats/numpy/fixtures with NumPy 2.

    pip install numpy; python scripts/golden/arrays.py
"""

import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parents[2] / "crates/datasets/src/formats/numpy/fixtures"
FOLDER.mkdir(exist_ok=True)

# The names and shapes of MedMNIST's archives.
images = np.arange(4 * 3 * 2 * 3).astype(np.uint8).reshape(4, 3, 2, 3)
np.savez_compressed(
    FOLDER / "images.npz",
    train_images=images[:2],
    train_labels=np.array([[2], [0]], np.uint8),
    val_images=images[2:3],
    val_labels=np.array([[1]], np.uint8),
    test_images=images[3:],
    test_labels=np.array([[2]], np.uint8),
)
# The names of Keras' archives.
np.savez(
    FOLDER / "rows.npz",
    x_train=np.array([[0.5, -1.5], [2, 3], [4, 5]]),
    y_train=np.array([1, 0, 1], ">i4"),
    x_test=np.array([[7, 8]], np.int16),
    y_test=np.array([0], np.int64),
)
