#!/usr/bin/env python3
"""The metadata services of three clouds, on one port of loopback, as far as they announce ends.

    tests/flow/metadata.py FOLDER [PORT]

Writes its port to FOLDER/port. What a test puts into the folder decides what is said:

    action        aws: the body of spot/instance-action; without it there is none (404)
    rebalance     aws: the body of events/recommendations/rebalance
    preempted     gcp: instance/preempted, FALSE without it
    maintenance   gcp: instance/maintenance-event, NONE without it
    events        azure: scheduledevents, none without it
    sick          all: huge (a megabyte), moved (a redirect), rubbish, slow or refused (503)

A token of aws is good for USES questions. Every question is a line of FOLDER/log: method, path, status
and what was sent along.
"""
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

FOLDER = sys.argv[1]
USES = 5
AZURE = "/metadata/scheduledevents"
lock = threading.Lock()
tokens = {}


def said(name, otherwise=None):
    try:
        with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return otherwise


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body="", headers=()):
        data = body.encode()
        with lock, open(os.path.join(FOLDER, "log"), "a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {status} {self.sent}\n")
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

    def serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.sent = self.rfile.read(length).decode()
        url = urlsplit(self.path)
        if url.path == "/trap":
            self.answer(200, '{"action":"terminate","time":"2020-01-01T00:00:00Z"}')
        elif said("sick"):
            self.sick(said("sick").strip())
        elif url.path.startswith("/latest/"):
            self.aws(url.path)
        elif url.path.startswith("/computeMetadata/v1/instance/"):
            self.gcp(url.path.rsplit("/", 1)[1], parse_qs(url.query))
        elif url.path.startswith("/metadata/") and self.headers.get("Metadata") == "true":
            self.azure(url.path)
        else:
            self.answer(400, "what?")

    do_GET = do_PUT = do_POST = serve

    def sick(self, how):
        if how == "huge":
            self.answer(200, "x" * 1_000_000)
        elif how == "moved":
            self.answer(302, "", [("Location", f"http://{self.headers['Host']}/trap")])
        elif how == "slow":
            time.sleep(4)
            self.answer(200, "late")
        elif how == "refused":
            self.answer(503)
        else:
            self.answer(200, "\x00{\"action\":")

    def aws(self, path):
        if path == "/latest/api/token":
            if self.command != "PUT" or not self.headers.get("X-aws-ec2-metadata-token-ttl-seconds"):
                self.answer(405)
                return
            with lock:
                token = f"token-{len(tokens)}=="
                tokens[token] = USES
            self.answer(200, token)
            return
        with lock:
            token = self.headers.get("X-aws-ec2-metadata-token", "")
            good = tokens.get(token, 0) > 0
            tokens[token] = tokens.get(token, 0) - 1
        if not good:
            self.answer(401)
            return
        name = {"/latest/meta-data/spot/instance-action": "action",
                "/latest/meta-data/events/recommendations/rebalance": "rebalance"}.get(path, "none")
        body = said(name)
        self.answer(404 if body is None else 200, body or "")

    def gcp(self, name, query):
        if self.headers.get("Metadata-Flavor") != "Google":
            self.answer(403)
            return
        known, otherwise = {"preempted": ("preempted", "FALSE"),
                            "maintenance-event": ("maintenance", "NONE")}[name]
        end = time.monotonic() + float(query.get("timeout_sec", ["0"])[0])
        seen = query.get("last_etag", [""])[0]
        if "wait_for_change" in query:
            while self.etag(said(known, otherwise)) == seen and time.monotonic() < end:
                time.sleep(0.02)
        body = said(known, otherwise)
        self.answer(200, body, [("ETag", self.etag(body)), ("Metadata-Flavor", "Google")])

    @staticmethod
    def etag(body):
        return "".join(f"{ord(letter):02x}" for letter in body.strip())

    def azure(self, path):
        if path == "/metadata/instance/compute/name":
            self.answer(200, "this-vm_7")
        elif path == AZURE and self.command == "POST":
            self.answer(200)
        elif path == AZURE:
            self.answer(200, said("events", '{"DocumentIncarnation":1,"Events":[]}'))
        else:
            self.answer(404)


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # who asks gives up on answers that are too large or too late


server = Server(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), Handler)
server.daemon_threads = True
with open(os.path.join(FOLDER, "port.new"), "w", encoding="utf-8") as port:
    port.write(str(server.server_address[1]))
os.rename(os.path.join(FOLDER, "port.new"), os.path.join(FOLDER, "port"))
server.serve_forever()
