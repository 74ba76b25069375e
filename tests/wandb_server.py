"""As much of a Weights & Biases server as `wandb sync` asks for, on this machine: it keeps what it is sent."""

import gzip
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FILE = {"id": "f", "name": "x", "displayName": "x", "uploadHeaders": []}
ADDED = {"node": {**FILE, "artifact": {"id": "a"}, "storagePath": "x", "uploadMultipartUrls": None}}


class Server(ThreadingHTTPServer):
    """What was sent: `asked` holds GraphQL operations with their variables, `bodies` every byte."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.bodies, self.artifacts = [], [], {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""

    def answer(self, name, given):
        upload = {"uploadUrl": f"{self.url}/upload"}
        if name == "CreateArtifact":
            key = given["input"]["artifactCollectionName"], given["input"]["digest"]
            state = "COMMITTED" if key in self.artifacts else "PENDING"
            found = {"id": self.artifacts.setdefault(key, f"artifact-{len(self.artifacts)}"), "state": state}
            return {"createArtifact": {"artifact": {**found, "artifactSequence": {"id": "s", "latestArtifact": None}}}}
        project = {"id": "p", "name": "xrayssl", "entity": {"id": "e", "name": "team"}}
        bucket = {"id": "r", "name": given.get("name"), "displayName": "", "config": "{}", "project": project}
        edges = [{"node": {**ADDED["node"], **upload, "name": one["name"]}}
                 for one in (given.get("input") or {}).get("artifactFiles", ())]  # fmt: skip
        return {
            "UpsertBucket": {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0}, "inserted": True}},
            "CreateArtifactManifest": {
                "createArtifactManifest": {"artifactManifest": {"id": "m", "file": {**FILE, **upload}}}
            },
            "CommitArtifact": {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}},
            "UseArtifact": {"useArtifact": {"artifact": {"id": "a", "digest": "d", "state": "COMMITTED"}}},
            "CreateArtifactFiles": {"createArtifactFiles": {"files": {"edges": edges}}},
            "CreateRunFiles": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": [
                {"name": file, **upload} for file in given.get("files") or ()]}},
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
        }.get(name, {})  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Says nothing."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.bodies.append(body)
        answer = {}
        if self.path == "/graphql":
            query = json.loads(body)
            name = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])[1]
            self.server.asked.append((name, query.get("variables") or {}))
            answer = {"data": self.server.answer(name, query.get("variables") or {})}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_GET = do_POST


@contextmanager
def serving():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def synced(server, run):
    """Uploads the offline run in a run's folder with the library's own command, and returns the history rows sent."""
    (folder,) = run.glob("wandb/offline-run-*")
    (folder / f"run-{folder.name.rpartition('-')[2]}.wandb.synced").unlink(missing_ok=True)
    env = {**os.environ, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "NO_PROXY": "127.0.0.1"}
    env.pop("WANDB_MODE", None)
    words = [sys.executable, "-m", "wandb", "sync", str(folder)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    streams = [json.loads(body) for body in server.bodies if b"wandb-history.jsonl" in body]
    return [json.loads(line) for stream in streams for line in stream["files"]["wandb-history.jsonl"]["content"]]
