#!/usr/bin/env python3
"""webhook_witness.py: a receiver that asks PostgreSQL, at the moment in which an event comes, whether what it
tells of can be read.

    webhook_witness.py --log FILE --port-file FILE --secret FILE --psql COMMAND...

A line of the log is a delivery, between tabs: webhook-id, sha256 of the body, type, whether the signature is
right, whether the results were there. It is on disk before the answer is sent.
"""
import argparse
import base64
import hashlib
import hmac
import http.server
import json
import os
import subprocess
import threading


class Database:
    """One psql that stays, and threads that take turns; a question is one line, as is its answer."""

    def __init__(self, command):
        self.lock = threading.Lock()
        self.psql = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, statement):
        with self.lock:
            self.psql.stdin.write(" ".join(statement.split()) + ";\n")
            self.psql.stdin.flush()
            return self.psql.stdout.readline().strip()


def is_there(database, event):
    job = event["data"]["id"].removeprefix("batch_")
    if not job.isalnum():
        return False
    if event["type"] == "request.completed":
        lines = ",".join(str(int(each["line"])) for each in event["data"]["requests"])
        wanted = len(event["data"]["requests"])
        return database.ask(f"select count(*) = {wanted} from mserve.results where job = '{job}' "
                            f"and line in ({lines})") == "t"
    return database.ask(f"""select j.state = '{event["data"]["status"]}'
        and (select count(*) from mserve.results r where r.job = j.job) = j.lines
        from mserve.jobs j where j.job = '{job}'""") == "t"


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
        right = "v1," + base64.b64encode(hmac.new(self.server.secret, signed, hashlib.sha256).digest()).decode()
        event = json.loads(body)
        self.server.log.write("\t".join([
            self.headers["webhook-id"], hashlib.sha256(body).hexdigest(), event["type"],
            "yes" if self.headers["webhook-signature"] == right else "no",
            "yes" if is_there(self.server.database, event) else "no"]) + "\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--port-file", required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--psql", nargs=argparse.REMAINDER, required=True)
    options = parser.parse_args()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    with open(options.secret, encoding="ascii") as file:
        server.secret = base64.b64decode(file.read().strip().removeprefix("whsec_"))
    server.log = open(options.log, "w", buffering=1, encoding="utf-8")
    server.database = Database(options.psql)
    with open(options.port_file + ".new", "w", encoding="ascii") as file:
        file.write(str(server.server_port))
    os.rename(options.port_file + ".new", options.port_file)
    server.serve_forever()


main()
