"""A simulator of Google Cloud Storage: the part of the XML API that the client of Retort uses, in memory.

It knows the requests that the client, the crate object_store, sends, with the meaning that Google documents
(https://cloud.google.com/storage/docs/xml-api/overview). It has never been compared with the real service. It accepts every
caller. It has one bucket without versions. It is stricter than the real service:

- a change of an object within a second after the one before is refused with status 429, every time;
- a listing has at most `PAGE` entries per answer, not 1,000;
- a PUT with If-Match or If-None-Match, which Google documents for reading only, is an error.

    python3 deploy/bucket_check/simulated_gcs.py BUCKET PORT     serves until Ctrl-C
"""

import base64
import dataclasses
import email.utils
import hashlib
import itertools
import re
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

PAGE = 5
SECONDS_BETWEEN_CHANGES = 1
# All parts of an upload but the last one.
SMALLEST_PART = 5 << 20


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, status, code, message):
        self.status, self.code, self.message = status, code, message


@dataclasses.dataclass
class Object:
    content: bytes
    etag: str
    generation: int
    time: float


class SimulatedGcs:
    """The server. It counts what a check must have met."""

    def __init__(self, bucket, port=0):
        self.bucket = bucket
        self.objects, self.uploads, self.changed = {}, {}, {}
        self.generations = itertools.count(time.time_ns() // 1000)
        self.lock = threading.Lock()
        self.throttled, self.continued, self.completed, self.replaced = 0, 0, 0, 0
        # Names of objects that were replaced without a condition.
        self.overwritten = set()
        handler = type("Handler", (Handler,), {"store": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        self.address = "127.0.0.1:{}".format(self.server.server_address[1])

    def start(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def find(self, name, query, headers):
        """The object of a request to read it."""
        found = self.objects.get(name)
        if found is None or query.get("generation", str(found.generation)) != str(found.generation):
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        self.require_generation(found, headers)
        if "If-Match" in headers and headers["If-Match"] not in ("*", found.etag):
            raise precondition_failed()
        return found

    def put(self, name, content, headers, etag=None):
        if "If-Match" in headers or "If-None-Match" in headers:
            raise Refused(400, "InvalidArgument", "If-Match and If-None-Match are for reading.")
        self.require_generation(self.objects.get(name), headers)
        self.require_pause(name)
        if name in self.objects:
            self.replaced += 1
            if "x-goog-if-generation-match" not in headers:
                self.overwritten.add(name)
        self.objects[name] = Object(content, etag or md5(content), next(self.generations), time.time())
        return self.objects[name]

    def delete(self, name, headers):
        if name not in self.objects:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        self.require_generation(self.objects[name], headers)
        self.require_pause(name)
        del self.objects[name]

    def require_generation(self, found, headers):
        expected = headers.get("x-goog-if-generation-match")
        if expected is not None and expected != str(found.generation if found else 0):
            raise precondition_failed()

    def require_pause(self, name):
        now = time.monotonic()
        if now - self.changed.get(name, -SECONDS_BETWEEN_CHANGES) < SECONDS_BETWEEN_CHANGES:
            self.throttled += 1
            raise Refused(429, "SlowDown", "The object exceeded the rate limit for object mutation operations.")
        self.changed[name] = now

    def begin_upload(self, name):
        upload = f"upload-{next(self.generations)}"
        self.uploads[upload] = (name, {})
        return upload

    def parts(self, name, upload):
        of, parts = self.uploads.get(upload, (None, None))
        if of != name:
            raise Refused(404, "NoSuchUpload", "The requested upload was not found.")
        return parts

    def abandon_upload(self, name, upload):
        self.parts(name, upload)
        del self.uploads[upload]

    def complete_upload(self, name, upload, wanted):
        """`wanted` has the numbers of the parts, each with its ETag."""
        parts = self.parts(name, upload)
        for number, etag in wanted:
            if number not in parts or parts[number][0] != etag:
                raise Refused(400, "InvalidPart", f"Part {number} was not found, or has another ETag.")
        contents = [parts[number][1] for number, _ in wanted]
        if not contents or any(len(content) < SMALLEST_PART for content in contents[:-1]):
            raise Refused(400, "EntityTooSmall", "There is no part, or one that is not the last is too small.")
        # The ETag of such an object is not its MD5.
        etag = f'"{base64.b64encode(upload.encode()).decode()}"'
        found = self.put(name, b"".join(contents), {}, etag)
        del self.uploads[upload]
        self.completed += 1
        return found

    def list(self, query):
        """Names of objects and of folders after the given ones, and the token of the next page."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("start-after", "")
        if "continuation-token" in query:
            after = base64.urlsafe_b64decode(query["continuation-token"]).decode()
            self.continued += 1
        entries = {}
        for name in sorted(name for name in self.objects if name.startswith(prefix)):
            folder, found, _ = name.removeprefix(prefix).partition(delimiter) if delimiter else (name, "", "")
            entry = prefix + folder + found if found else name
            if entry > after:
                entries[entry] = bool(found)
        page = dict(itertools.islice(entries.items(), min(PAGE, int(query.get("max-keys", PAGE)))))
        token = base64.urlsafe_b64encode(list(page)[-1].encode()).decode() if len(page) < len(entries) else None
        return page, token


class Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    store = None

    def do_GET(self):
        self.answer(self.read)

    def do_HEAD(self):
        self.answer(self.read)

    def do_PUT(self):
        self.answer(self.write)

    def do_POST(self):
        self.answer(self.upload)

    def do_DELETE(self):
        self.answer(self.delete)

    def answer(self, act):
        """`act` does what is requested, and returns what sends the answer."""
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        bucket, _, name = url.path.removeprefix("/").partition("/")
        try:
            if urllib.parse.unquote(bucket) != self.store.bucket:
                raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.")
            with self.store.lock:
                send = act(urllib.parse.unquote(name), query, content)
            send()
        except Refused as refused:
            error = f"<Error><Code>{refused.code}</Code><Message>{escape(refused.message)}</Message></Error>"
            self.send_xml(refused.status, error)

    def read(self, name, query, _):
        if not name:
            return self.listing(*self.store.list(query))
        found = self.store.find(name, query, self.headers)
        return lambda: self.send_object(found)

    def write(self, name, query, content):
        if "uploadId" not in query:
            found = self.store.put(name, content, self.headers)
            return lambda: self.send_bytes(200, b"", self.metadata(found))
        etag = md5(content)
        self.store.parts(name, query["uploadId"])[int(query["partNumber"])] = (etag, content)
        return lambda: self.send_bytes(200, b"", {"ETag": etag})

    def upload(self, name, query, content):
        if "uploads" in query:
            body = f"<UploadId>{self.store.begin_upload(name)}</UploadId>"
            return lambda: self.send_xml(200, f"<InitiateMultipartUploadResult>{body}</InitiateMultipartUploadResult>")
        parts = [(int(part.findtext("PartNumber")), part.findtext("ETag")) for part in ElementTree.fromstring(content)]
        found = self.store.complete_upload(name, query.get("uploadId"), parts)
        body = f"<CompleteMultipartUploadResult><ETag>{found.etag}</ETag></CompleteMultipartUploadResult>"
        return lambda: self.send_xml(200, body, {"x-goog-generation": str(found.generation)})

    def delete(self, name, query, _):
        if "uploadId" in query:
            self.store.abandon_upload(name, query["uploadId"])
        else:
            self.store.delete(name, self.headers)
        return lambda: self.send_bytes(204, b"", {})

    def listing(self, page, token):
        objects, folders = "", ""
        for name, is_folder in page.items():
            if is_folder:
                folders += f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
                continue
            found = self.store.objects[name]
            date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(found.time)) + f".{int(found.time % 1 * 1000):03}Z"
            objects += f"<Contents><Key>{escape(name)}</Key><Generation>{found.generation}</Generation>"
            objects += f"<MetaGeneration>1</MetaGeneration><LastModified>{date}</LastModified>"
            objects += f"<ETag>{escape(found.etag)}</ETag><Size>{len(found.content)}</Size></Contents>"
        end = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
        end += f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>"
        return lambda: self.send_xml(200, f"<ListBucketResult>{objects}{folders}{end}</ListBucketResult>")

    def send_object(self, found):
        headers, size = self.metadata(found), len(found.content)
        if self.headers.get("If-None-Match") in ("*", found.etag):
            return self.send_bytes(304, b"", headers)
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not wanted or wanted[0] == "bytes=-":
            return self.send_bytes(200, found.content, headers)
        start = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
        end = min(size, int(wanted[2]) + 1) if wanted[1] and wanted[2] else size
        if start >= end:
            raise Refused(416, "InvalidRange", "The requested range cannot be satisfied.")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return self.send_bytes(206, found.content[start:end], headers)

    def metadata(self, found):
        headers = {"ETag": found.etag, "x-goog-generation": str(found.generation), "x-goog-metageneration": "1"}
        return {**headers, "Last-Modified": email.utils.formatdate(found.time, usegmt=True)}

    def send_xml(self, status, text, headers=None):
        body = f"<?xml version='1.0' encoding='UTF-8'?>{text}".encode()
        self.send_bytes(status, body, {"Content-Type": "application/xml; charset=UTF-8", **(headers or {})})

    def send_bytes(self, status, body, headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        # An answer with one of these has no body.
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def log_message(self, *_):
        """Logs nothing."""


def md5(content):
    """The ETag of an object that was written in one request."""
    return f'"{hashlib.md5(content).hexdigest()}"'


def precondition_failed():
    return Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__)
        sys.exit(64)
    simulator = SimulatedGcs(sys.argv[1], int(sys.argv[2]))
    print(f"a simulator of Google Cloud Storage at http://{simulator.address}", flush=True)
    try:
        simulator.server.serve_forever()
    except KeyboardInterrupt:
        pass
