"""Soft targets that are recorded into a bucket, and a run in a bucket that is killed and resumed.

Both must give the bytes that they give in folders.
"""

import json
import random
import signal

from .programs import PROGRAMS, eventually, expect, say

SIZE, SAMPLES, VIEWS, SAMPLES_PER_SHARD = 12, 320, 2, 50
SHARDS = VIEWS * -(-SAMPLES // SAMPLES_PER_SHARD)
TARGETS, RUN = "team/targets", "runs/student"
# Several seconds: enough for a kill between the first checkpoint in the bucket and the end.
EPOCHS = 150
LEASE_SECONDS = 5
TRAINER = PROGRAMS / "student-trainer"

NETWORK = f"""
threads = 1
precision = "f32"
[data]
path = "data"
[network]
input = [1, {SIZE}, {SIZE}]
classes = 10
"""

TEACHER = f"""{NETWORK}
preset = "cnn"
widths = [8]
[[phases]]
epochs = 1
batch_size = 32
loss = {{ kind = "cross_entropy" }}
optimizer = {{ kind = "sgd" }}
schedule = {{ kind = "constant", learning_rate = 0.1 }}
"""

STUDENT = f"""{NETWORK}
preset = "resnet"
widths = [4, 8]
stem_stride = 2
[[phases]]
epochs = {EPOCHS}
batch_size = 16
loss = {{ kind = "soft_cross_entropy", temperature = 2.0 }}
optimizer = {{ kind = "sgd", momentum = 0.9, nesterov = true }}
schedule = {{ kind = "constant", learning_rate = 0.05 }}
[[phases]]
name = "fine_tune"
epochs = 1
batch_size = 16
loss = {{ kind = "cross_entropy" }}
optimizer = {{ kind = "sgd", momentum = 0.9, nesterov = true }}
schedule = {{ kind = "constant", learning_rate = 0.01 }}
[soft_targets]
views = {VIEWS}
samples_per_shard = {SAMPLES_PER_SHARD}
"""


def train_teacher(scene):
    """Writes the data and the configurations, and trains a teacher. Returns its artifact."""
    write_data(scene.folder / "data")
    for name, text in [("teacher", TEACHER), ("student", STUDENT)]:
        (scene.folder / f"{name}.toml").write_text(text)
    scene.run(TRAINER, "run", "teacher.toml", "--output", "teacher")
    return scene.folder / "teacher/artifact"


def write_data(folder):
    """Random images with random labels, in the format of MNIST."""
    folder.mkdir()
    numbers = random.Random(1)
    images = header(3, SAMPLES, SIZE, SIZE) + numbers.randbytes(SAMPLES * SIZE * SIZE)
    labels = header(1, SAMPLES) + bytes(numbers.randrange(10) for _ in range(SAMPLES))
    (folder / "train-images-idx3-ubyte").write_bytes(images)
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)


def header(dimensions, *sizes):
    return bytes([0, 0, 8, dimensions]) + b"".join(size.to_bytes(4, "big") for size in sizes)


def check_recording(scene, server, artifact):
    """Records into a folder and into the bucket."""
    teacher = scene.start_service("teacher", PROGRAMS / "teacher-service", "serve", "--model", artifact)
    endpoints = f'teacher={{ endpoints = ["{teacher.addresses["grpc"]}"] }}'

    def record(name, targets, *more):
        return scene.start(name, TRAINER, "record", "student.toml", *settings(targets, name), f"--set={endpoints}", *more)

    record("worker in a folder", "targets").expect_success()
    expected = files(scene.folder / "targets")
    shards = [name for name in expected if name.rpartition("/")[2].startswith("shard-")]
    expect(len(shards) == SHARDS, f"{len(shards)} shards are in the folder, not {SHARDS}")

    # Two workers have a half each, and a third one has the same half as the second.
    halves = [("first worker", 0), ("second worker", 1), ("twin", 1)]
    workers = [record(name, server.url(TARGETS), "--index", str(half), "--of", "2") for name, half in halves]
    for worker in workers:
        worker.expect_success()
    found = objects(server, TARGETS)
    expect(found == expected, f"the bucket has other files or bytes than the folder: {differences(expected, found)}")
    say(f"three workers together record what one records in a folder: {SHARDS} shards")

    late = record("late worker", server.url(TARGETS))
    late.expect_success()
    late.expect_said(f"recorded 0 shards, skipped {SHARDS} that were there")
    teacher.stop()
    say("a worker that comes later records nothing")


def check_run(scene, server):
    """A run with soft targets from the bucket, in the bucket, which is killed on one machine and resumed on another."""
    replay = [TRAINER, "run", "student.toml", "--set", "soft_targets.mode=recorded"]
    scene.run(*replay, "--set", "soft_targets.folder=targets", "--output", "student")

    def start(machine):
        places = ["--output", server.url(RUN), "--scratch", f"scratch of {machine}", "--lease", str(LEASE_SECONDS)]
        return scene.start(machine, *replay, *settings(server.url(TARGETS), machine), *places)

    def stored():
        """The names of the files of the run that the bucket has."""
        return list(json.loads(server.content(f"{RUN}/run.json") or '{"files": {}}')["files"])

    def has_checkpoint():
        first.expect_running()
        return any(name.startswith("checkpoints/") for name in stored())

    first = start("first machine")
    eventually("a checkpoint is in the bucket", has_checkpoint)
    first.process.kill()
    expect(first.process.wait() == -signal.SIGKILL, "the run had ended before it was killed")
    expect("manifest.json" not in stored(), "the run had ended before it was killed")

    second = start("second machine")
    second.expect_success()
    second.expect_said(f"had the lease of {server.url(RUN)}", "downloads the run from", "resumes from step")
    scene.run(TRAINER, "fetch", server.url(RUN), "fetched")
    expected, found = result(scene.folder / "student"), result(scene.folder / "fetched")
    expect(found == expected, f"the resumed run has another result: {differences(expected, found)}")
    say("a run that is killed and resumed on another machine ends with the bytes of an undisturbed run in a folder")


def settings(targets, name):
    """The options of a process that has its copies of shards in a folder of its own."""
    return ["--set", f"soft_targets.folder={targets}", "--set", f"soft_targets.cache=copies of {name}"]


def files(folder):
    """The files below a folder, without locks, by their names."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def objects(server, prefix):
    """The objects below a prefix, by the rests of their names."""
    return {name.removeprefix(f"{prefix}/"): server.content(name) for name in server.names(f"{prefix}/")}


def result(folder):
    """What a run gives: its model, the weights after each phase, and the digests of what it learned from."""
    weights = [path for path in files(folder) if path.endswith("weights.safetensors")]
    found = {name: (folder / name).read_bytes() for name in ["artifact/model.onnx", *weights]}
    phases = json.loads((folder / "manifest.json").read_text())["phases"]
    return {**found, **{f"phase {index}": phase["consumed_sha256"] for index, phase in enumerate(phases)}}


def differences(expected, found):
    """The names at which two mappings differ."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
