"""A hub on this machine: serves folders as repositories over HTTP, the way huggingface_hub asks for them."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789" * 4


class FakeHub:
    """``repositories``: id -> folder, or an error code of the hub such as "RepoNotFound". ``asked`` lists the paths asked for."""

    def __init__(self, repositories):
        self.repositories, self.asked = dict(repositories), []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub.answer(self, body=True)

            def do_HEAD(self):
                hub.answer(self, body=False)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request, *, body):
        path = request.path.partition("?")[0].strip("/")
        self.asked.append(path)
        if not path:
            return self.send(request, 200, b"hub", body=body)
        words = path.removeprefix("api/models/").split("/")
        repo_id = "/".join(words[:2])
        folder = self.repositories.get(repo_id, "RepoNotFound")
        if isinstance(folder, str):
            return self.send(
                request,
                403 if folder == "GatedRepo" else 404,
                b"",
                body=body,
                **{"X-Error-Code": folder, "X-Error-Message": folder},
            )
        if path.startswith("api/"):
            files = [
                {"rfilename": file.relative_to(folder).as_posix()} for file in sorted(Path(folder).rglob("*")) if file.is_file()
            ]
            return self.send(request, 200, json.dumps({"id": repo_id, "sha": COMMIT, "siblings": files}).encode(), body=body)
        file = Path(folder, *words[4:])  # owner/name/resolve/main/...
        if words[2] != "resolve" or not file.is_file():
            return self.send(request, 404, b"", body=body, **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = file.read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return self.send(request, 200, content, body=body, **{"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def send(self, request, status, content, *, body, **headers):
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            request.wfile.write(content)


def use(monkeypatch, endpoint):
    """Let huggingface_hub talk to this endpoint."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
