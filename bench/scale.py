#!/usr/bin/env python3
"""Measures Portcullis at large sizes: whole configurations sent and read, a million consumers in the embedded database.

`python3 bench/scale.py --binaries target/release` writes a table to results/; see README.md. Standard library only."""
import argparse
import datetime
import http.client
import json
import multiprocessing
import os
import platform
import shutil
import sqlite3
import subprocess
import time
import uuid

import candidates
import measure
from rows import Row

UPSTREAM = "127.0.0.1:9"
NAMESPACE = uuid.UUID("0dc6f45b-8f8d-40d2-a504-473544ee190b")


def services(count):
    """So many services with a route each."""
    return {"_format_version": "3.0", "services": [
        {"name": f"service-{n}", "url": f"http://127.0.0.1:{9000 + n % 100}/base", "routes": [
            {"name": f"route-{n}", "paths": [f"/path-{n}/"], "methods": ["GET", "POST"]}]} for n in range(count)]}


def consumers(count):
    """So many consumers with a key each, and a route that asks for one."""
    return {"_format_version": "3.0", "services": [{"name": "s", "url": f"http://{UPSTREAM}", "routes": [{"name": "r", "paths": ["/"]}]}],
            "plugins": [{"name": "key-auth"}, {"name": "request-termination", "config": {"status_code": 200}}],
            "consumers": [{"username": f"consumer-{n}", "keyauth_credentials": [{"key": f"key-of-consumer-{n}"}]} for n in range(count)]}


def routes(count):
    return {"_format_version": "3.0", "plugins": [{"name": "request-termination", "config": {"status_code": 200}}],
            "services": [{"name": "s", "url": f"http://{UPSTREAM}", "routes": [
                {"name": f"route-{n}", "paths": [f"/path-{n}/"], "strip_path": False} for n in range(count)]}]}


def start(program, name, environment, prefix=None, wrap=()):
    """The gateway on one worker with an Admin API, not bound to a core: what is to be seen is what the load leaves to others."""
    fresh = prefix is None
    prefix = prefix or os.path.join(candidates.RUN, name)
    if fresh:
        shutil.rmtree(prefix, ignore_errors=True)
    os.makedirs(prefix, exist_ok=True)
    port, admin = candidates.free_port(), candidates.free_port()
    settings = {
        "KONG_PREFIX": prefix, "KONG_NGINX_MAIN_DAEMON": "off", "KONG_NGINX_MAIN_WORKER_PROCESSES": "1",
        "KONG_PROXY_LISTEN": f"127.0.0.1:{port} reuseport backlog=4096", "KONG_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "KONG_STATUS_LISTEN": "off", "KONG_ADMIN_GUI_LISTEN": "off", "KONG_PROXY_ACCESS_LOG": "off",
        "KONG_NGINX_ADMIN_CLIENT_MAX_BODY_SIZE": "1g", **environment,
    }
    running = candidates.Running([program, "start"], port, name, settings, wrap)
    running.admin = admin
    return running


def request(port, method, path, body=None, headers=None):
    """Status, body, seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.connect()
    started = time.monotonic()
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    text = answer.read()
    took = time.monotonic() - started
    connection.close()
    return answer.status, text, took


def cpu_seconds(pids):
    return sum(measure.cpu_us(pids)[0].values()) / 1e6


def peak_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def settled_mib(running, seconds=3.0):
    """Resident memory once the allocator has had the time to give back what the load left."""
    time.sleep(seconds)
    return measure.resident_mib(running.pids)


def probe(port, path, stop, out):
    """A request every two milliseconds over one connection: the latencies, in seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    latencies = []
    while not stop.is_set():
        began = time.monotonic()
        connection.request("GET", path)
        connection.getresponse().read()
        latencies.append(time.monotonic() - began)
        time.sleep(max(0.0, 0.002 - latencies[-1]))
    out.put(latencies)


def beside(port, path, work):
    """What `work` answers, and (p50, p99, slowest) in milliseconds of requests sent meanwhile."""
    stop, out = multiprocessing.Event(), multiprocessing.Queue()
    prober = multiprocessing.Process(target=probe, args=(port, path, stop, out))
    prober.start()
    time.sleep(0.3)
    answer = work()
    stop.set()
    latencies = sorted(out.get(timeout=60))
    prober.join()
    return answer, tuple(latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1e3 for share in (0.5, 0.99, 1))


def post(program, name, document, check):
    """Sends a document to an empty node without a database."""
    body = json.dumps(document).encode()
    with start(program, name, {"KONG_DATABASE": "off"}) as running:
        pids = running.pids
        idle = measure.resident_mib(pids)
        before = cpu_seconds(pids)
        sent = lambda: request(running.admin, "POST", "/config", body, {"Content-Type": "application/json"})
        (status, answer, took), latencies = beside(running.port, "/none", sent)
        if status != 201:
            raise measure.Wrong(f"POST /config answered {status}: {answer[:2000]}")
        spent = cpu_seconds(pids) - before
        checked = check(running)
        again = [sent()[2] for _ in range(2)]
        return {
            "answered": took, "again": min(again), "cpu": spent, "idle": idle, "resident": settled_mib(running), "peak": peak_mib(pids[0]),
            "beside": latencies, "body": len(body) / 2**20, "served": checked,
        }


def served(path, status, headers=None):
    def check(running):
        answer = request(running.port, "GET", path, headers=headers)
        if answer[0] != status:
            raise measure.Wrong(f"{path} was answered {answer[0]}, not {status}")
        return answer[2]
    return check


def from_file(program, name, document, yaml, check):
    """Starts a node with a declarative file."""
    file = os.path.join(candidates.RUN, name + (".yaml" if yaml else ".json"))
    with open(file, "w") as out:
        if yaml:
            write_yaml(document, out)
        else:
            json.dump(document, out)
    started = time.monotonic()
    with start(program, name, {"KONG_DATABASE": "off", "KONG_DECLARATIVE_CONFIG": file}) as running:
        took = time.monotonic() - started
        spent = cpu_seconds(running.pids)
        checked = check(running)
        return {"answered": took, "cpu": spent, "resident": settled_mib(running), "peak": peak_mib(running.pids[0]),
                "body": os.path.getsize(file) / 2**20, "served": checked}


def write_yaml(value, out, indent=0, in_list=False):
    """Block style, as people and tools write such files."""
    pad = " " * indent
    if isinstance(value, dict):
        for at, (key, inner) in enumerate(value.items()):
            out.write(("" if in_list and at == 0 else pad) + f"{key}:")
            write_yaml_inner(inner, out, indent)
    elif isinstance(value, list):
        for inner in value:
            out.write(pad + "- ")
            if isinstance(inner, dict):
                write_yaml(inner, out, indent + 2, True)
            else:
                out.write(json.dumps(inner) + "\n")


def write_yaml_inner(inner, out, indent):
    if isinstance(inner, (dict, list)) and inner:
        out.write("\n")
        write_yaml(inner, out, indent + 2)
    else:
        out.write(" " + json.dumps(inner) + "\n")


def row_id(kind, number):
    return uuid.uuid5(NAMESPACE, f"{kind}-{number}")


def fill(program, count):
    """A folder with a database of so many consumers with a key each: the node makes the file, rows go in by SQL."""
    prefix = os.path.join(candidates.RUN, f"scale-database-{count}")
    done = os.path.join(prefix, "filled")
    if os.path.exists(done):
        return prefix
    shutil.rmtree(prefix, ignore_errors=True)
    with start(program, "scale-fill", {}, prefix) as running:
        admin = candidates.Admin(running.admin)
        admin.send("POST", "/services", {"name": "s", "url": f"http://{UPSTREAM}"})
        admin.send("POST", "/services/s/routes", {"name": "r", "paths": ["/"]})
        admin.send("POST", "/plugins", {"name": "key-auth"})
        admin.send("POST", "/plugins", {"name": "request-termination", "config": {"status_code": 200}})
    started = time.monotonic()
    with sqlite3.connect(os.path.join(prefix, "portcullis.db")) as database:
        database.execute("PRAGMA cache_size = -262144")
        ids = sorted((row_id("consumer", n).bytes, n) for n in range(count))
        database.executemany("INSERT INTO consumers (id, _record, username) VALUES (?, ?, ?)", (consumer_row(id, n) for id, n in ids))
        keys = sorted((row_id("key", n).bytes, n) for n in range(count))
        database.executemany("INSERT INTO keyauth_credentials (id, _record, key, consumer) VALUES (?, ?, ?, ?)",
                             (key_row(id, n) for id, n in keys))
    print(f"scale: {count} consumers and keys written to SQLite in {time.monotonic() - started:.0f} s", flush=True)
    open(done, "w").close()
    return prefix


def consumer_row(id, number):
    record = {"created_at": 1700000000, "custom_id": None, "id": str(uuid.UUID(bytes=id)), "tags": None, "updated_at": 1700000000,
              "username": f"consumer-{number}"}
    return id, json.dumps(record, separators=(",", ":")), record["username"]


def key_row(id, number):
    consumer = row_id("consumer", number)
    record = {"consumer": {"id": str(consumer)}, "created_at": 1700000000, "id": str(uuid.UUID(bytes=id)),
              "key": f"key-of-consumer-{number}", "tags": None}
    return id, json.dumps(record, separators=(",", ":")), record["key"], consumer.bytes


def database(program, count):
    """A node on a database of so many consumers: start, memory, GET /, pages at any depth, a key in traffic."""
    prefix = fill(program, count)
    started = time.monotonic()
    with start(program, "scale-database", {}, prefix) as running:
        took, spent = time.monotonic() - started, cpu_seconds(running.pids)
        peak = peak_mib(running.pids[0])
        key = {"apikey": f"key-of-consumer-{count - 1}"}
        served("/", 200, key)(running)
        served("/", 401, {"apikey": "unknown"})(running)
        lookups = sorted(request(running.port, "GET", "/", headers=key)[2] for _ in range(200))
        resident = settled_mib(running)
        connection = http.client.HTTPConnection("127.0.0.1", running.admin, timeout=60)
        about, first = times(connection, "/", 50), time_of(connection, "/")
        pages, path = [], "/consumers?size=1000"
        seen = 0
        while path:
            began = time.monotonic()
            connection.request("GET", path)
            body = connection.getresponse().read()
            pages.append(time.monotonic() - began)
            page = json.loads(body)
            seen, path = seen + len(page["data"]), page["next"]
        if seen != count:
            raise measure.Wrong(f"the pages hold {seen} of {count} consumers")
        tail = pages[-len(pages) // 10:]
        after_pages = measure.resident_mib(running.pids)
        by_name = times(connection, f"/consumers/consumer-{count // 2}", 100)
        writes = []
        for number in range(20):
            began = time.monotonic()
            connection.request("PUT", f"/consumers/scale-{number}", json.dumps({"custom_id": f"c-{number}-{began}"}),
                               {"Content-Type": "application/json"})
            connection.getresponse().read()
            writes.append(time.monotonic() - began)
        for number in range(20):
            connection.request("DELETE", f"/consumers/scale-{number}")
            connection.getresponse().read()
    median = lambda values: sorted(values)[len(values) // 2]
    return {"start": took, "cpu": spent, "resident": resident, "peak": peak, "after pages": after_pages, "about": (median(about), max(about)),
            "page": (median(pages), max(pages)), "deep page": (median(tail), max(tail)), "by name": median(by_name),
            "write": (median(writes), max(writes)), "lookup": median(lookups), "first about": first}


def traffic(program, count, rounds=3, seconds=3):
    """CPU µs a request with any of so many keys, and with any of a hundred, in turns: {consumers: [µs, …]}."""
    got = {count: [], 100: []}
    for _ in range(rounds):
        for consumers, measured in got.items():
            prefix = fill(program, consumers)
            script = (f'request = function()\n  wrk.headers["apikey"] = "key-of-consumer-" .. math.random(0, {consumers - 1})\n'
                      '  return wrk.format("GET", "/")\nend\n')
            with start(program, "scale-database", {}, prefix, ("taskset", "-c", candidates.PROXY_CORE)) as running:
                measured.append(measure.once(Row("lookups", "", script=script), running, seconds)["us"])
    return got


def time_of(connection, path):
    began = time.monotonic()
    connection.request("GET", path)
    connection.getresponse().read()
    return time.monotonic() - began


def times(connection, path, count):
    return [time_of(connection, path) for _ in range(count)]


def show_post(name, got, target):
    beside_text = "p50 %.1f p99 %.1f slowest %.1f ms" % got["beside"] if "beside" in got else ""
    again = f"{got['again']:.2f}" if "again" in got else ""
    return (f"| {name} | {got['body']:.1f} | {got['answered']:.2f} | {again} | {got['cpu']:.2f} | {got['resident']:.0f} | {got['peak']:.0f} "
            f"| {beside_text} | {target} |")


def show_database(count, got, lookups):
    ms = lambda value: f"{value * 1e3:.1f} ms" if not isinstance(value, tuple) else f"{value[0] * 1e3:.1f} (slowest {value[1] * 1e3:.1f}) ms"
    lines = [("start until it serves", f"{got['start']:.1f} s ({got['cpu']:.1f} s of CPU)", "< 10 s"),
             ("resident", f"{got['resident']:.0f} MiB (peak {got['peak']:.0f}, after all pages {got['after pages']:.0f})", "< 1 GiB"),
             ("GET /", ms(got["about"]), "< 5 ms"),
             ("page of 1,000 consumers, all depths", ms(got["page"]), "< 20 ms"),
             ("the last tenth of the pages", ms(got["deep page"]), "< 20 ms"),
             ("GET /consumers/{name}", ms(got["by name"]), ""),
             ("PUT of a consumer", ms(got["write"]), ""),
             ("a request with a key, new connection", ms(got["lookup"]), "")]
    for consumers, us in lookups.items():
        lines.append((f"CPU of a request with one of {consumers:,} keys (key-auth, answered by the gateway)",
                      f"{sorted(us)[len(us) // 2]:.2f} µs ({min(us):.2f}–{max(us):.2f})", "as with few" if consumers == count else ""))
    head = [f"| {count:,} consumers with a key each, embedded database | measured | target |", "|---|---|---|"]
    return head + [f"| {name} | {value} | {target} |" for name, value, target in lines]


CASES = {
    "services": lambda program: show_post("POST /config, 10,000 services with a route each",
                                          post(program, "scale-services", services(10_000), served("/path-9999/x", 502)), "≤ 0.4 s"),
    "consumers": lambda program: show_post("POST /config, 100,000 consumers with a key each",
                                           post(program, "scale-consumers", consumers(100_000),
                                                served("/", 200, {"apikey": "key-of-consumer-99999"})), "≤ 1.5 s, ≤ 120 MiB"),
    "routes": lambda program: show_post("start with 100,000 routes, JSON file",
                                        from_file(program, "scale-routes", routes(100_000), False, served("/path-99999/x", 200)), ""),
    "yaml": lambda program: show_post("start with 100,000 routes, YAML file",
                                      from_file(program, "scale-yaml", routes(100_000), True, served("/path-99999/x", 200)), ""),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", default="target/release", help="folder of the release program")
    parser.add_argument("--cases", default=",".join([*CASES, "database"]), help="which to measure (services,consumers,routes,yaml,database)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="consumers in the embedded database")
    parser.add_argument("--no-report", action="store_true", help="print only")
    options = parser.parse_args()
    os.makedirs(candidates.RUN, exist_ok=True)
    program = os.path.abspath(os.path.join(options.binaries, "portcullis"))
    cases = options.cases.split(",")
    report = ["| whole configurations, database=off | MiB sent | answered or served, s | again, s | CPU, s | resident, MiB | peak, MiB "
              "| requests meanwhile | target |", "|---|---|---|---|---|---|---|---|---|"]
    for case in cases:
        if case in CASES:
            report.append(CASES[case](program))
            print(report[-1], flush=True)
    if "database" in cases:
        report += ["", *show_database(options.rows, database(program, options.rows), traffic(program, options.rows))]
        print("\n".join(report[-10:]), flush=True)
    if options.no_report:
        return
    today = datetime.date.today().isoformat()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=candidates.HERE).stdout.strip()
    path = os.path.join(candidates.HERE, "results", f"{today}-scale.md")
    with open(path, "w") as out:
        out.write(f"# Large configurations, {today}\n\nCommit {commit}; {platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}. "
                  "One worker, nothing bound to a core. \"Requests meanwhile\" are sent every 2 ms over one connection while the "
                  "configuration is loaded; \"again\" is the same document sent once more.\n\n" + "\n".join(report) + "\n")
    print(f"written to {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
