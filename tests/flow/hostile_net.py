#!/usr/bin/env python3
"""A small internet that means harm, for test_webhook_addresses.sh, in a network namespace of its own.

    hostile_net.py names ADDRESS         a name server that says what the name asks it to say:
        <hex>.v4.test, <hex>.v6.test       that address
        <hex>.<hex>.both.test              both, in this order, in one answer
        <hex>.<hex>.<any>.flip.test        the first when first asked, the second from then on
        <hex>.alias.test                   an alias of localhost, and the address as its own
    hostile_net.py receiver ADDRESS...   an HTTP server on port 80: /302/<where to> redirects, other paths
                                         begin with what they answer: /401, /101, /refresh, /alt-svc
    hostile_net.py rules                 nft's rules: a counter for each network that is denied
    hostile_net.py knock                 sends a packet to each of them, past everything of ours
    hostile_net.py samples               an address of each, in hexadecimal digits, a line each
"""
import http.server
import ipaddress
import socket
import struct
import sys
import threading
import urllib.parse

# Written down from IANA's registries for this test, not taken from the tables of the product.
DENIED = [ipaddress.ip_network(text) for text in """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
    168.63.129.16/32
    ::1/128 ::/96 64:ff9b::7f00:0/104 64:ff9b::a00:0/104 64:ff9b::a9fe:0/112 64:ff9b::c0a8:0/112
    64:ff9b:1::/48 100::/64 2001::/32 2001:2::/48 2001:10::/28 2001:20::/28 2001:db8::/32 2002::/16
    3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8""".split()]
# Beside the second address of each network: what people after credentials ask for.
FAMOUS = [ipaddress.ip_address(text) for text in """
    127.0.0.1 127.255.255.254 169.254.169.254 169.254.170.2 100.100.100.200 192.0.0.192 10.255.255.254
    172.31.255.254 192.168.1.1 255.255.255.255 0.0.0.0 :: fd00:ec2::254 fd20:ce::254 ::ffff:127.0.0.1
    ::ffff:169.254.169.254 ::ffff:10.0.0.1 ::127.0.0.1 ::169.254.169.254 64:ff9b::a9fe:a9fe
    2002:7f00:1:: 2002:a9fe:a9fe::1 2001:0:a9fe:a9fe:: 2001:0:4136:e378:8000:63bf:5601:5601
    fe80::a9fe:a9fe ff02::1""".split()]


def samples():
    return FAMOUS + [network[min(1, network.num_addresses - 1)] for network in DENIED]


# ---------------------------------------------------------------- the name server

asked = {}


ASKED, LOCALHOST = b"\xc0\x0c", b"\x09localhost\x00"  # as a message writes names


def record(owner, kind, data):
    return owner + struct.pack(">HHIH", kind, 1, 0, len(data)) + data


def addresses(name, kind):
    """The packed addresses that a name is said to have, of the kind that is asked for."""
    labels = name.split(".")
    packed = [bytes.fromhex(label) for label in labels[:-2] if len(label) in (8, 32)]
    if labels[-2] == "flip":
        asked[name, kind] = asked.get((name, kind), 0) + 1
        packed = packed[:1] if asked[name, kind] == 1 else packed[1:2]
    return [one for one in packed if len(one) == (4 if kind == 1 else 16)]


def answer(question):
    at, labels = 12, []
    while question[at]:
        labels.append(question[at + 1:at + 1 + question[at]].decode("ascii"))
        at += 1 + question[at]
    kind = struct.unpack(">H", question[at + 1:at + 3])[0]
    name, owner, records = ".".join(labels).lower(), ASKED, []
    if name.endswith(".test") and kind in (1, 28):
        if labels[-2] == "alias":
            owner = LOCALHOST
            records.append(record(ASKED, 5, owner))
        records += [record(owner, kind, one) for one in addresses(name, kind)]
    flags = 0x8180 if name.endswith(".test") else 0x8183
    head = question[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0)
    return head + question[12:at + 5] + b"".join(records)


def names(address):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((address, 53))
    print("ready", flush=True)
    while True:
        question, client = sock.recvfrom(4096)
        print("asked", question[12:60], flush=True)
        sock.sendto(answer(question), client)


# ---------------------------------------------------------------- the receiver

class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        what, _, where = self.path.lstrip("/").partition("/")
        where = urllib.parse.unquote(where)
        self.send_response(int(what) if what.isdigit() and what != "101" else 200)
        if what.startswith("3"):
            self.send_header("Location", where)
        headers = {"401": ("WWW-Authenticate", "Basic realm=x"), "refresh": ("Refresh", "0; url=" + where),
                   "alt-svc": ("Alt-Svc", f'h2="{where}"; ma=3600'), "101": ("Upgrade", "h2c")}
        if what in headers:
            self.send_header(*headers[what])
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        print("got", self.client_address[0], self.path, flush=True)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512

    def __init__(self, address):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 80), Receiver)


def receive(where):
    servers = [Server(address) for address in where]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


# ---------------------------------------------------------------- the firewall

def rules(allowed):
    """Counts on the way out, whatever becomes of the packet. ICMPv6 is the kernel's talk to itself."""
    print("table inet hostile {\n chain out {\n  type filter hook output priority 0;")
    print("  meta l4proto ipv6-icmp accept")
    for address in allowed:
        print(f"  ip daddr {address} counter accept comment \"named\"")
    for network in DENIED:
        family = "ip" if network.version == 4 else "ip6"
        print(f"  {family} daddr {network} counter comment \"denied {network}\"")
    print(" }\n}")


def knock():
    link = socket.if_nametoindex("v0")
    for address in [network[min(2, network.num_addresses - 1)] for network in DENIED]:
        if address.version == 4:
            sock, to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), (str(address), 9)
        else:
            sock, to = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM), (str(address), 9, 0, link)
        try:
            sock.sendto(b"knock", to)
        except OSError as why:
            print(f"{address}: {why}")


def main():
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "names":
        names(rest[0])
    elif what == "receiver":
        receive(rest)
    elif what == "rules":
        rules(rest)
    elif what == "knock":
        knock()
    else:
        print("\n".join(address.packed.hex() for address in samples()))


if __name__ == "__main__":
    main()
