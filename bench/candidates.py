"""The programs that are measured: how each is configured, started on core 0 and stopped."""
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RUN = os.path.join(HERE, "run")
PROXY_CORE, LOAD_CORE = "0", "1"


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def wait_for(port, process, log):
    """Returns once the port accepts; raises with the program's own words when it ended instead."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            with open(log, errors="replace") as output:
                raise RuntimeError(f"{process.args} ended with {process.returncode}: {output.read()[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{process.args} opened no port {port}")


def certificate():
    """An ECDSA certificate for 127.0.0.1, one for all candidates."""
    files = [os.path.join(RUN, name) for name in ("cert.pem", "key.pem", "both.pem")]
    if not all(map(os.path.exists, files)):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", files[0], "-keyout", files[1]],
            check=True, capture_output=True)
        with open(files[2], "wb") as both:
            for name in files[:2]:
                with open(name, "rb") as part:
                    both.write(part.read())
    return files


class Running:
    """A started program. `pids` are the processes whose time counts."""

    def __init__(self, command, port, name, environment=None, prefix=()):
        self.port, self.name = port, name
        self.log = os.path.join(RUN, f"{name}.out")
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(
                [*prefix, *command], env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            wait_for(port, self.process, self.log)
        except RuntimeError:
            self.stop()
            raise

    @property
    def pids(self):
        found, front = [], [self.process.pid]
        while front:
            pid = front.pop()
            found.append(pid)
            try:
                with open(f"/proc/{pid}/task/{pid}/children") as children:
                    front.extend(map(int, children.read().split()))
            except OSError:
                pass
        return found

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def fill(template, values):
    with open(os.path.join(HERE, "peers", template)) as source:
        text = source.read()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def nginx(row, upstream, wrap=(), plain=False):
    cert, key, _ = certificate()
    port = free_port()
    listen = " ".join((["ssl"] if row.tls else []) + (["http2"] if row.http2 else []))
    tls = f"ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:SSL:10m;"
    values = {
        "RUN": RUN, "PORT": str(port), "UPSTREAM": upstream, "LISTEN": listen, "MASTER": "off" if wrap else "on",
        "TLS": (tls if row.tls else "") + ("http2_max_requests 1000000000;" if row.http2 else ""),
    }
    values["HEADERS"] = "" if plain else fill("nginx.headers", values)
    path = os.path.join(RUN, "nginx.conf")
    with open(path, "w") as out:
        out.write(fill("nginx.conf", values))
    return Running(["nginx", "-c", path], port, "nginx", prefix=("taskset", "-c", PROXY_CORE, *wrap))


def haproxy(row, upstream, wrap=(), plain=False):
    both = certificate()[2]
    port = free_port()
    listen = f"ssl crt {both} alpn {'h2,' if row.http2 else ''}http/1.1" if row.tls else ("proto h2" if row.http2 else "")
    values = {"PORT": str(port), "UPSTREAM": upstream, "LISTEN": listen}
    values["HEADERS"] = "" if plain else "\n  ".join(fill("haproxy.headers", values).splitlines())
    path = os.path.join(RUN, "haproxy.cfg")
    with open(path, "w") as out:
        out.write(fill("haproxy.cfg", values))
    return Running(["haproxy", "-db", "-f", path], port, "haproxy", prefix=("taskset", "-c", PROXY_CORE, *wrap))


def declaration(upstream, row):
    """The declarative file of a row: one service, so many routes /r1 … (or /), and where asked for consumers and plugins."""
    paths = [{"name": f"r{n}", "paths": [f"/r{n}/"], "strip_path": False} for n in range(1, row.routes + 1)]
    if row.routes == 1:
        paths = [{"name": "r1", "paths": ["/"], "strip_path": False}]
    data = {"_format_version": "3.0", "services": [{"name": "canned", "url": f"http://{upstream}", "routes": paths}]}
    if row.plugins:
        data["plugins"] = json.loads(json.dumps(row.plugins).replace("@UPSTREAM@", upstream))
    if row.consumers:
        data["consumers"] = [
            {"username": f"c{n}", "keyauth_credentials": [{"key": f"key-{n}"}], **{name: list(rows) for name, rows in row.consumer}}
            for n in range(1, row.consumers + 1)]
    return data


def portcullis(program, row=None, upstream=None, wrap=(), database=False, prefix=None):
    """Our gateway on one worker, from a declarative file, or with its embedded database and an `admin` port."""
    if prefix is None:
        prefix = os.path.join(RUN, "portcullis")
        shutil.rmtree(prefix, ignore_errors=True)
    os.makedirs(prefix, exist_ok=True)
    cert, key, _ = certificate()
    port, admin, status = free_port(), free_port(), free_port()
    flags = ("" if row is None else (" ssl" if row.tls else "") + (" http2" if row.http2 else ""))
    environment = {
        "KONG_PREFIX": prefix, "KONG_NGINX_MAIN_DAEMON": "off", "KONG_NGINX_MAIN_WORKER_PROCESSES": "1",
        "KONG_PROXY_LISTEN": f"127.0.0.1:{port}{flags} reuseport backlog=4096", "KONG_STATUS_LISTEN": f"127.0.0.1:{status}",
        "KONG_ADMIN_LISTEN": f"127.0.0.1:{admin}" if database else "off", "KONG_ADMIN_GUI_LISTEN": "off",
        "KONG_SSL_CERT": cert, "KONG_SSL_CERT_KEY": key,
        "KONG_PROXY_ACCESS_LOG": "off", "KONG_UPSTREAM_KEEPALIVE_POOL_SIZE": "2048",
    }
    environment.update(row.environment if row else ())
    if not database:
        file = os.path.join(RUN, "kong.json")
        with open(file, "w") as out:
            json.dump(declaration(upstream, row), out)
        environment.update(KONG_DATABASE="off", KONG_DECLARATIVE_CONFIG=file)
    running = Running([program, "start"], port, "portcullis", environment, ("taskset", "-c", PROXY_CORE, *wrap))
    running.admin = admin
    return running


def portcullis_with_database(program, row, upstream, wrap=()):
    """Our gateway with what the row needs in its embedded database. That is filled once, through the Admin API, and used again."""
    prefix = os.path.join(RUN, f"database-{row.name}")
    with contextlib.suppress(OSError), open(os.path.join(prefix, "upstream")) as known:
        if known.read() == upstream:
            return portcullis(program, row, upstream, wrap, True, prefix)
    shutil.rmtree(prefix, ignore_errors=True)
    with portcullis(program, row, upstream, (), True, prefix) as gateway:
        fill_database(gateway.admin, declaration(upstream, row))
    with open(os.path.join(prefix, "upstream"), "w") as known:
        known.write(upstream)
    return portcullis(program, row, upstream, wrap, True, prefix)


class Admin:
    """A kept-alive connection to the Admin API."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def send(self, method, path, body=None):
        self.connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201, 204):
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]}")
        return json.loads(text) if text else None


def fill_database(port, data, connections=8):
    """Creates what a declaration holds, the routes over several connections."""
    admin, failures = Admin(port), []
    for service in data["services"]:
        admin.send("POST", "/services", {name: value for name, value in service.items() if name != "routes"})
        path, routes = f"/services/{service['name']}/routes", service["routes"]

        def some(part):
            try:
                own = Admin(port)
                for route in part:
                    own.send("POST", path, route)
            except (RuntimeError, OSError) as error:
                failures.append(error)

        threads = [threading.Thread(target=some, args=(routes[first::connections],)) for first in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise RuntimeError(str(failures[0]))
    for consumer in data.get("consumers", ()):
        admin.send("POST", "/consumers", {"username": consumer["username"]})
        for credential in consumer["keyauth_credentials"]:
            admin.send("POST", f"/consumers/{consumer['username']}/key-auth", credential)
    for plugin in data.get("plugins", ()):
        admin.send("POST", "/plugins", plugin)


def upstream(program):
    port = free_port()
    running = Running([program, f"127.0.0.1:{port}"], port, "upstream", prefix=("taskset", "-c", LOAD_CORE))
    running.address = f"127.0.0.1:{port}"
    return running
