"""A stand-in for the part of Hugging Face's server that the zoo talks to."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "secret"


class Hub(BaseHTTPRequestHandler):
    """Keeps repositories in memory: name -> path -> content."""

    def do_GET(self):
        name, _, file = self.path.removeprefix("/").partition("/resolve/main/")
        content = self.server.repositories.get(name, {}).get(file)
        if content is None:
            self._answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        else:
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self._answer(200, content, X_Repo_Commit=self._revision(name), ETag=etag)

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            asked = json.loads(content)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            self.server.repositories.setdefault(name, {})
            self._answer(200, {"url": f"{self.server.address}/{name}"})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif found := re.fullmatch("/api/models/(.+)/(preupload|commit)/main", self.path):
            name, step = found.groups()
            lines = [json.loads(line) for line in content.splitlines()]
            self._answer(200, getattr(self, f"_{step}")(name, lines))
        else:
            self._answer(404, {"error": "unknown"})

    def _preupload(self, name, lines):
        fixed = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
        return {"files": [{"path": file["path"]} | fixed for file in lines[0]["files"]]}

    def _commit(self, name, lines):
        for value in (line["value"] for line in lines if line["key"] == "file"):
            self.server.repositories[name][value["path"]] = base64.b64decode(value["content"])
        revision = self._revision(name)
        return {
            "commitUrl": f"{self.server.address}/{name}/commit/{revision}",
            "commitOid": revision,
        }

    def _revision(self, name):
        content = repr(self.server.repositories[name]).encode()
        return hashlib.sha1(content).hexdigest()

    def _answer(self, status, body, **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content_Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        """Print nothing."""


@contextlib.contextmanager
def serve(handler=Hub):
    """Serve on a free port; yield the server, which has an ``address``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.repositories = {}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
