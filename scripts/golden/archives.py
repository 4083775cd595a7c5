"""Writes the archives of crates/datasets/src/formats/web_dataset/fixtures and the tables of
crates/datasets/src/formats/parquet/fixtures with Python's tarfile, Pillow 12, pyarrow 26 and pandas 3.

    pip install 'pillow<13' pyarrow pandas; python scripts/golden/archives.py
"""

import io
import json
import pathlib
import tarfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FORMATS = pathlib.Path(__file__).parents[2] / "crates/datasets/src/formats"


def png(red):
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def tar(name, files):
    with tarfile.open(FORMATS / "web_dataset/fixtures" / name, "w") as archive:
        for path, content in files:
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


tar(
    "numbers.tar",
    [
        ("0001.png", png(10)),
        ("0001.cls", b"2\n"),
        ("0002.json", json.dumps({"label": 0, "caption": "x"}).encode()),
        ("0002.png", png(20)),
        ("0003.png", png(30)),
        ("notes", b"ignored"),
    ],
)
# A path of more than 100 characters has a PAX header of its own.
tar("names.tar", [("a" * 120 + "/1.png", png(10)), ("a" * 120 + "/1.txt", b"dog"), ("2.png", png(20)), ("2.cls", b"cat")])

# The layout of Hugging Face's `datasets`, with its metadata.
features = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
}
image = pa.array(
    [{"bytes": png(10), "path": "1.png"}, {"bytes": png(20), "path": None}, {"bytes": png(30), "path": "3.png"}],
    pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
)
pictures = pa.table({"image": image, "label": pa.array([1, 0, 1], pa.int64())})
pictures = pictures.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
pq.write_table(pictures, FORMATS / "parquet/fixtures/pictures.parquet", row_group_size=2)

numbers = pd.DataFrame(
    {
        "a": [0.5, -1.25, 3.0],
        "b": pd.array([1, 2, 3], "int32"),
        "c": pd.array([7, 200, 9], "uint8"),
        "species": ["setosa", "virginica", "setosa"],
    }
)
numbers.to_parquet(FORMATS / "parquet/fixtures/numbers.parquet", index=False)
numbers["a"] = [0.5, None, 3.0]
numbers.to_parquet(FORMATS / "parquet/fixtures/missing.parquet", index=False, compression="zstd")
