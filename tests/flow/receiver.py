#!/usr/bin/env python3
"""receiver.py: a server that events are delivered to, polite or hostile, as the path asks for.

    receiver.py --log FILE --port-file FILE [--secret FILE] [--tls CERTIFICATE KEY]

/ok answers 200; what else there is stands in `manners`. A number behind it (/503/2) means the first so
many attempts of each event; later ones are answered 200. A line of the log is a request, between tabs:
seconds since the start, how many were open, Host, path, webhook-id, webhook-timestamp, whether the
signature and the timestamp are right (or -), sha256 of the body. The log is written as it goes.
"""
import argparse
import asyncio
import base64
import email.utils
import hashlib
import hmac
import os
import socket
import ssl
import struct
import time

began = time.monotonic()
seen = {}  # (path, id): attempts
is_open = 0


def answer(status, headers=(), body=b"thanks"):
    head = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def reset(writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def write_for_ever(writer, piece):
    while not writer.is_closing():
        writer.write(piece)
        await writer.drain()


async def slow(writer):
    for byte in answer(200, body=b"."):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.01)


async def hang(writer):
    while not writer.is_closing():
        await asyncio.sleep(0.2)


async def large_headers(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %s\r\n" % (i, b"y" * 1000) for i in range(1000)) + b"\r\n")


async def large_header(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1000000 + b"\r\n\r\n")


async def endless_body(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await write_for_ever(writer, b"4000\r\n" + b"z" * 0x4000 + b"\r\n")


async def endless_interim(writer):
    await write_for_ever(writer, b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


async def dripping_body(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b".")
        await asyncio.sleep(0.1)


async def torn_body(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbut no more")
    await writer.drain()
    writer.close()


async def garbage(writer):
    writer.write(bytes(range(256)) * 8)
    await writer.drain()
    writer.close()


manners = {
    "slow": slow, "hang": hang, "large-headers": large_headers, "large-header": large_header,
    "endless-body": endless_body, "endless-interim": endless_interim, "dripping-body": dripping_body,
    "torn-body": torn_body, "garbage": garbage,
}
headers_of = {
    "302": ["Location: /stolen"],
    "429": ["Retry-After: 1"],
    "429-date": [],
}


def is_signed(secret, fields, body):
    if secret is None:
        return "-"
    signed = f"{fields['webhook-id']}.{fields['webhook-timestamp']}.".encode() + body
    right = b"v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest())
    fresh = abs(time.time() - int(fields["webhook-timestamp"])) < 60
    return "yes" if fresh and right.decode() in fields["webhook-signature"].split(" ") else "no"


async def read_request(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {}
    for line in head[1:]:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    return head[0].split(" ")[1], fields, body


async def serve_one(reader, writer, options):
    path, fields, body = await read_request(reader)
    manner, _, count = path.strip("/").partition("/")
    key = (path, fields["webhook-id"])
    seen[key] = seen.get(key, 0) + 1
    options.log.write("\t".join([
        f"{time.monotonic() - began:.3f}", str(is_open), fields.get("host", ""), path, fields["webhook-id"],
        fields["webhook-timestamp"], is_signed(options.secret, fields, body),
        hashlib.sha256(body).hexdigest()]) + "\n")
    if count.isdigit() and seen[key] > int(count):
        manner = "ok"
    if manner == "reset":
        reset(writer)
    elif manner in manners:
        await manners[manner](writer)
    elif manner[:3].isdigit():
        headers = headers_of.get(manner, [])
        if manner == "429-date":
            headers = ["Retry-After: " + email.utils.formatdate(time.time() + 2, usegmt=True)]
        writer.write(answer(int(manner[:3]), headers))
    else:
        writer.write(answer(200))


async def serve(reader, writer, options):
    global is_open
    is_open += 1
    try:
        while not writer.is_closing():
            await serve_one(reader, writer, options)
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ssl.SSLError):
        pass
    finally:
        is_open -= 1
        writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True, type=lambda name: open(name, "w", buffering=1))
    parser.add_argument("--port-file", required=True)
    parser.add_argument("--secret")
    parser.add_argument("--tls", nargs=2)
    options = parser.parse_args()
    if options.secret:
        with open(options.secret) as file:
            options.secret = base64.b64decode(file.read().strip().removeprefix("whsec_"))
    context = None
    if options.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*options.tls)
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, options), "127.0.0.1", 0, ssl=context, backlog=1024)
    with open(options.port_file + ".new", "w") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    os.rename(options.port_file + ".new", options.port_file)
    async with server:
        await server.serve_forever()


asyncio.run(main())
