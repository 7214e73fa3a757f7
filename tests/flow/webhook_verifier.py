#!/usr/bin/env python3
"""webhook_verifier.py: a receiver that asks the libraries standardwebhooks and openai about each delivery,
once as it came and then with one thing after another changed.

    webhook_verifier.py --log FILE --port-file FILE SECRET-FILE...

Secret files are read anew each time; one that is not there yet is passed over. A line of the log is a
delivery, between tabs: type, the job's id, the names of the secret files under which both libraries accept
it, what openai's made of it, and the changes that one of them did not notice (or -).
"""
import argparse
import http.server
import json
import os

import openai
from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def secrets(paths):
    for path in paths:
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                yield os.path.basename(path), file.read().strip()


def by_standard(secret, headers, body):
    return Webhook(secret).verify(body, dict(headers))


def by_openai(secret, headers, body):
    client = openai.OpenAI(api_key="unused", webhook_secret=secret)
    return client.webhooks.unwrap(body, dict(headers))


def verdict(library, secret, headers, body):
    """What the library makes of it; None: it refuses."""
    try:
        return library(secret, headers, body)
    except (ValueError, WebhookVerificationError, openai.InvalidWebhookSignatureError):
        return None


def changes(headers, body):
    """(what is changed, headers, body), one thing at a time."""
    digit = next(i for i, byte in enumerate(body) if chr(byte).isdigit())
    yield "a digit of the body", headers, body[:digit] + b"%d" % (9 - int(body[digit:digit + 1])) + body[digit + 1:]
    yield "a blank behind the body", headers, body + b" "
    yield "the body parsed and printed", headers, json.dumps(json.loads(body), indent=1).encode()
    yield "the body cut", headers, body[:-1]
    at = int(headers["webhook-timestamp"])
    for name, value in (
            ("webhook-timestamp", at + 1), ("webhook-timestamp", at - 1), ("webhook-timestamp", at - 3600),
            ("webhook-timestamp", "soon"), ("webhook-id", headers["webhook-id"] + "0"), ("webhook-id", "evt_1"),
            ("webhook-signature", "v1," + "A" * 43 + "="), ("webhook-signature", "v1,"),
            ("webhook-signature", headers["webhook-signature"].replace("v1,", "v2,")),
            ("webhook-signature", headers["webhook-signature"].swapcase().replace("V1", "v1"))):
        yield f"{name}: {value}", {**headers, name: str(value)}, body
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        yield f"no {name}", {key: value for key, value in headers.items() if key != name}, body


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        good, made, missed = [], "-", []
        for name, secret in secrets(self.server.secrets):
            event = verdict(by_openai, secret, headers, body)
            standard = verdict(by_standard, secret, headers, body)
            if event is None or standard is None:
                if (event is None) != (standard is None):
                    missed.append(f"the libraries differ under {name}")
                continue
            good.append(name)
            made = type(event).__name__
            if (event.id, event.data.id) != (headers["webhook-id"], standard["data"]["id"]):
                missed.append("ids differ")
            for what, other_headers, other_body in changes(headers, body):
                for library in (by_openai, by_standard):
                    if verdict(library, secret, other_headers, other_body) is not None:
                        missed.append(f"{library.__name__}: {what}")
        said = json.loads(body)
        self.server.log.write("\t".join([said["type"], said["data"]["id"], ",".join(good), made,
                                         "; ".join(missed) or "-"]) + "\n")
        self.send_response(204 if good else 400)
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--port-file", required=True)
    parser.add_argument("secret", nargs="+")
    options = parser.parse_args()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.secrets = options.secret
    server.log = open(options.log, "w", buffering=1, encoding="utf-8")
    with open(options.port_file + ".new", "w", encoding="ascii") as file:
        file.write(str(server.server_address[1]))
    os.rename(options.port_file + ".new", options.port_file)
    server.serve_forever()


main()
