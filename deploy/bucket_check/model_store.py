"""Inference services that share a model store: they publish, roll back, follow and delete, also at the same time."""

import hashlib
import json
import subprocess
import time
import urllib.request

from .programs import PATIENCE, PROGRAMS, Failure, eventually, expect, say

PREFIX, MODEL = "team", "demo"
POLL_MILLISECONDS = 100
# Larger than a part of an upload: `PART` in crates/object-storage/src/bucket.rs.
LARGE = b"x" * (20 << 20)
# Of two publishes at the same time, one is refused unless they happen to follow each other.
MOST_RACES = 40


def check(scene, server, artifact):
    """All models are variants of that in the folder `artifact`."""
    models = Models(scene.folder, artifact)
    first, second = (Service(name, server, scene) for name in ["first", "second"])

    first.publish(models.numbered(1))
    both_serve(1, first, second)
    second.publish(models.numbered(2))
    both_serve(2, first, second)
    first.retort("activate", MODEL, "1")
    both_serve(1, first, second)
    say("each of two services serves what the other one publishes and activates")

    second.publish(models.numbered(2))
    both_serve(2, first, second)
    versions = sorted(name for name in server.names(f"{PREFIX}/") if name.endswith("/manifest.json"))
    expect(len(versions) == 2, f"a model that is published again is stored again: {versions}")
    say("a model that is published again is not stored again")

    first.publish(models.numbered(3, comment=LARGE))
    both_serve(3, first, second)
    say(f"a file of more than {len(LARGE) >> 20} MiB, which is uploaded in parts, serves")

    pairs = races(first, second, models)
    say(f"of two publishes at the same time, one is refused, and the other one serves everywhere (pair {pairs})")

    server.expect_refusals(f"{PREFIX}/{MODEL}/1/manifest.json")
    say("the store refuses to create an object that exists, and to replace one that has changed")

    serving = first.serving()
    third = Service("third", server, scene)
    both_serve(serving, first, third)
    third.retort("delete", MODEL, "--all", "--yes")
    eventually("the model is gone everywhere", lambda: [first.serving(), second.serving()] == [None, None])
    say("a service that starts later serves the same; what it deletes is gone everywhere")


def races(first, second, models):
    """Publishes at the same time at both services until one is refused. Returns how many pairs that took."""
    for race in range(MOST_RACES):
        folders = [models.numbered(10 + 2 * race), models.numbered(11 + 2 * race)]
        racing = [service.started_publish(folder) for service, folder in zip([first, second], folders)]
        said = [process.communicate()[1] for process in racing]
        failed = [text for process, text in zip(racing, said) if process.returncode != 0]
        expect(len(failed) < 2, f"both publishes failed: {failed}")
        wait_until_equal(first, second)
        if failed:
            refused = "ABORTED" in failed[0] and "changed by another writer" in failed[0]
            expect(refused, f"a publish failed, but was not refused: {failed[0]}")
            return race + 1
    raise Failure(f"none of {MOST_RACES} pairs of publishes at the same time met")


class Models:
    """Models with one network and different names of their first class."""

    def __init__(self, folder, original):
        self.folder, self.original = folder, original

    def numbered(self, number, comment=b""):
        """The folder of a model. The comment is part of the ONNX file."""
        folder = self.folder / f"model-{number}"
        if not folder.exists():
            folder.mkdir()
            onnx = (self.original / "model.onnx").read_bytes()
            if comment:
                # doc_string, field 6 of ONNX's ModelProto, in the encoding of protobuf.
                onnx += bytes([6 << 3 | 2]) + variable_length(len(comment)) + comment
            (folder / "model.onnx").write_bytes(onnx)
            manifest = json.loads((self.original / "manifest.json").read_text())
            manifest["class_names"][0] = f"model-{number}"
            manifest["onnx"] = {"sha256": hashlib.sha256(onnx).hexdigest(), "size": len(onnx)}
            (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder


def variable_length(number):
    """A number in the encoding of protobuf."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


class Service:
    """An inference service with its store in the bucket."""

    def __init__(self, name, server, scene):
        self.name, self.scene = name, scene
        settings = ["http.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0", f"model_store.cache=models of {name}"]
        settings.append(f"model_store.poll_interval_milliseconds={POLL_MILLISECONDS}")
        command = [PROGRAMS / "inference-service", "serve", "--store", server.url(PREFIX)]
        command += [f"--set={setting}" for setting in settings]
        self.addresses = scene.start_service(f"{name} service", *command).addresses

    def serving(self):
        """The active version, or None if the service has no such model."""
        with urllib.request.urlopen(f"http://{self.addresses['metrics']}/metrics", timeout=PATIENCE) as page:
            lines = page.read().decode().splitlines()
        start = f'retort_inference_active_version{{model="{MODEL}"}} '
        return next((int(line.removeprefix(start)) for line in lines if line.startswith(start)), None)

    def publish(self, folder):
        self.retort("publish", MODEL, folder)

    def started_publish(self, folder):
        command = [PROGRAMS / "retort", "models", "publish", MODEL, folder, "--admin", self.addresses["admin"]]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def retort(self, *arguments):
        self.scene.run(PROGRAMS / "retort", "models", *arguments, "--admin", self.addresses["admin"])


def both_serve(version, *services):
    names = " and ".join(service.name for service in services)
    eventually(f"{names} serve version {version}", lambda: all(service.serving() == version for service in services))


def wait_until_equal(first, second):
    """Waits until both services have served the same version for ten looks at the store."""
    since = time.monotonic()

    def settled():
        nonlocal since
        if first.serving() != second.serving():
            since = time.monotonic()
        return time.monotonic() - since > 10 * POLL_MILLISECONDS / 1000

    eventually("both services serve the same version", settled)
