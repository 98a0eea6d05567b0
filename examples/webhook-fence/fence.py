#!/usr/bin/env python3
"""A service for `webhook/fence`: powers a Hetzner Cloud server off, and says whether it is off.

Run it where neither the primary nor anything that fails with it is: in another provider's network. It needs Python 3.9
or newer and nothing else.

    HCLOUD_TOKEN   an API token with read and write access to the project of the servers
    FENCE_KEY      the key that `failover` signs with: echo "whsec_$(openssl rand -base64 32)"
    FENCE_SERVERS  service/site=server for each site that may be fenced: "shop/falkenstein=4711 shop/helsinki=4712"
    FENCE_LISTEN   where it listens; default 127.0.0.1:8080, port 0 takes a free one
    FENCE_MEMORY   the file that remembers what was taken already; default fence.sqlite
    TLS_CERT, TLS_KEY   PEM files; without them put a proxy that ends TLS before it: failover asks by https:// only
    HCLOUD_URL     base URL of the provider's API; default https://api.hetzner.cloud/v1

It answers three requests, all of them POST and signed as Standard Webhooks has it:

    /fence     powers the server of the site `from` off    200 taken, 4xx refused, 409, 429 and 5xx it may have happened
    /observe   asks the provider whether it is off         200 {"fenced": true, "summary": "…"}
    /undo      powers it on again                          as /fence

Before it believes a request it looks at the signature, at the moment of signing (5 minutes at most), and whether what
the body asks is what the path says. What changes something is taken once: the same request a second time, or one that
was signed before another one of the same site, is refused. A repeat by `failover` has the same `webhook-id` and a later
moment, and does nothing where the server is off already; the provider itself refuses to stop twice at a time.

Whether the server is off is what the provider says at that moment, never what this program remembers.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import sqlite3
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 5 * 60  # seconds, as Standard Webhooks recommends
LONGEST = 64 * 1024  # bytes of a request
PATIENCE = 10  # seconds for one answer of the provider


class Refusal(Exception):
    """Ends a request with a status and a reason."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token goes to the provider and nowhere else."""

    def redirect_request(self, *_):
        return None


class Provider:
    """Hetzner Cloud, as far as power goes (https://docs.hetzner.cloud/reference/cloud#server-actions)."""

    # What surely did nothing is 4xx; what may have done something is 503, so that failover asks again.
    STATUSES = {401: 424, 403: 424, 404: 424, 409: 409, 423: 409, 429: 429}

    def __init__(self, url, token):
        self.url = url.rstrip("/")
        self.token = token
        self.opener = urllib.request.build_opener(NoRedirect)

    def status(self, server):
        """`running`, `stopping`, `off`, `starting`, and some more that are not off."""
        return str(self.ask("GET", f"/servers/{server}")["server"]["status"])

    def power(self, server, on):
        self.ask("POST", f"/servers/{server}/actions/{'poweron' if on else 'poweroff'}")

    def ask(self, method, path):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = b"{}" if method == "POST" else None
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with self.opener.open(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:
            status = self.STATUSES.get(e.code, 503)
            raise Refusal(status, f"the provider answers {e.code} to {method} {path}") from None
        except (OSError, ValueError) as e:
            raise Refusal(503, f"no answer of the provider to {method} {path}: {e}") from None


class Memory:
    """What was taken already: the newest moment of each id, and of each site. It outlives the program."""

    def __init__(self, path):
        self.path = path
        with self.open() as db:
            db.execute("CREATE TABLE IF NOT EXISTS taken (name TEXT PRIMARY KEY, moment INTEGER NOT NULL)")

    @contextlib.contextmanager
    def open(self):
        with contextlib.closing(sqlite3.connect(self.path, timeout=PATIENCE)) as db, db:
            yield db

    def take(self, message, site, moment):
        """Takes a request that changes something: once, and nothing older than what was taken for its site."""
        with self.open() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM taken WHERE moment < ?", (time.time() - 2 * TOLERANCE,))
            known = dict(db.execute("SELECT name, moment FROM taken WHERE name IN (?, ?)", (message, site)))
            if moment <= known.get(message, 0):
                raise Refusal(409, "this request was taken already")
            if moment < known.get(site, 0):
                raise Refusal(409, "a later request was taken already")
            rows = [(message, moment), (site, moment)]
            db.executemany("INSERT OR REPLACE INTO taken VALUES (?, ?)", rows)


class Fence:
    """Decides what is believed, and does it."""

    ACTIONS = ("fence", "observe", "undo")

    def __init__(self, key, servers, memory, provider):
        self.key = key
        self.servers = servers
        self.memory = memory
        self.provider = provider
        # One change at a time: a repeat sees what the first one came to.
        self.changing = threading.Lock()

    def answer(self, path, headers, body):
        message, moment = self.verified(headers, body)
        action, site = self.asked(path, body)
        server = self.servers.get(site)
        if server is None:
            raise Refusal(422, f"FENCE_SERVERS names no server for {site}")
        if action == "observe":
            status = self.provider.status(server)
            return {"fenced": status == "off", "summary": f"server {server} is {status}"}
        with self.changing:
            self.memory.take(message, site, moment)
            return {"summary": self.change(server, on=action == "undo")}

    def verified(self, headers, body):
        """The id and the moment of a request that the holder of the key signed lately."""
        message, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not message or "." in message or not re.fullmatch("[0-9]{1,12}", stamp):
            raise Refusal(401, "the request is not signed")
        signed = f"{message}.{stamp}.".encode() + body
        right = base64.b64encode(hmac.new(self.key, signed, hashlib.sha256).digest())
        given = headers.get("webhook-signature", "").split()
        if not any(hmac.compare_digest(b"v1," + right, one.encode()) for one in given):
            raise Refusal(401, "the signature is wrong")
        if abs(time.time() - int(stamp)) > TOLERANCE:
            raise Refusal(401, "it was signed too long ago, or one of both clocks is wrong")
        return message, int(stamp)

    def asked(self, path, body):
        """What is asked, and of which site."""
        try:
            request = json.loads(body)
            action, site = request["action"], f"{request['service']}/{request['from']['name']}"
        except (ValueError, TypeError, KeyError):
            raise Refusal(400, "the body is not what failover sends") from None
        if action not in self.ACTIONS:
            raise Refusal(400, "this action is not known")
        if path != f"/{action}":
            raise Refusal(403, f"the body asks to {action}, the path is {path}")
        return action, site

    def change(self, server, on):
        status = self.provider.status(server)
        if status in (("running", "starting") if on else ("off",)):
            return f"server {server} is {status} already"
        self.provider.power(server, on)
        return f"the provider was asked to power server {server} {'on' if on else 'off'}"


class Handler(BaseHTTPRequestHandler):
    timeout = 30
    fence = None

    def do_POST(self):
        try:
            status, said = 200, self.fence.answer(self.path, self.headers, self.body())
        except Refusal as e:
            status, said = e.status, {"error": str(e)}
        except Exception as e:  # Whatever it is: it may have happened.
            status, said = 500, {"error": type(e).__name__}
        text = json.dumps(said).encode()
        self.log_message("%s %s", status, text.decode())
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        with contextlib.suppress(OSError):  # Whoever asked may be gone.
            self.end_headers()
            self.wfile.write(text)

    def body(self):
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > LONGEST:
            raise Refusal(413, "the request is too long, or does not say how long it is")
        return self.rfile.read(int(length))


def key(text):
    """The key within a secret such as whsec_…"""
    secret = base64.b64decode(text.strip().removeprefix("whsec_"), validate=True)
    if not 24 <= len(secret) <= 64:
        raise ValueError
    return secret


def main():
    env = os.environ
    try:
        secret = key(env["FENCE_KEY"])
        servers = dict(one.split("=") for one in env["FENCE_SERVERS"].split())
        host, _, port = env.get("FENCE_LISTEN", "127.0.0.1:8080").rpartition(":")
        provider = Provider(env.get("HCLOUD_URL", "https://api.hetzner.cloud/v1"), env["HCLOUD_TOKEN"])
        listen = host, int(port)
    except KeyError as e:
        sys.exit(f"fence.py: {e.args[0]} is not set")
    except ValueError:
        sys.exit("fence.py: FENCE_KEY, FENCE_SERVERS or FENCE_LISTEN has the wrong form")
    Handler.fence = Fence(secret, servers, Memory(env.get("FENCE_MEMORY", "fence.sqlite")), provider)
    server = ThreadingHTTPServer(listen, Handler)
    if "TLS_CERT" in env:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(env["TLS_CERT"], env.get("TLS_KEY"))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(f"listening on {server.server_address[0]}:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
