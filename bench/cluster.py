#!/usr/bin/env python3
"""Measures how soon a write through one node is served by the others: three nodes on one Postgres.

`python3 bench/cluster.py --binaries target/release` writes a table to results/. Standard library only."""
import argparse
import datetime
import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time

import candidates

NODES = 3
TARGET_MS = 250


def start(program, number, environment):
    prefix = os.path.join(candidates.RUN, f"cluster-{number}")
    shutil.rmtree(prefix, ignore_errors=True)
    os.makedirs(prefix)
    port, admin = candidates.free_port(), candidates.free_port()
    settings = {
        "KONG_PREFIX": prefix, "KONG_NGINX_MAIN_DAEMON": "off", "KONG_NGINX_MAIN_WORKER_PROCESSES": "1",
        "KONG_PROXY_LISTEN": f"127.0.0.1:{port}", "KONG_ADMIN_LISTEN": f"127.0.0.1:{admin}", "KONG_STATUS_LISTEN": "off",
        "KONG_ADMIN_GUI_LISTEN": "off", "KONG_PROXY_ACCESS_LOG": "off", "KONG_ADMIN_ACCESS_LOG": "off", **environment,
    }
    running = candidates.Running([program, "start"], port, f"cluster-{number}", settings, ())
    running.admin = admin
    return running


def ask(connection, method, path, body=None):
    connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def connect(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    return connection


def rounds(nodes, count, rest):
    """Seconds from the begin of a write until its answer, and until each other node serves it."""
    admins, proxies = [connect(node.admin) for node in nodes], [connect(node.port) for node in nodes]
    answered, visible = [], []
    for number in range(count):
        writer = number % len(nodes)
        path = f"/path-{number}/"
        began = time.monotonic()
        status, text = ask(admins[writer], "POST", "/services/s/routes", {"name": f"route-{number}", "paths": [path]})
        answered.append(time.monotonic() - began)
        if status != 201:
            sys.exit(f"cluster: {status} {text!r}")
        if ask(proxies[writer], "GET", path)[0] != 200:
            sys.exit("cluster: a write was answered before it was served")
        waiting = [other for other in range(len(nodes)) if other != writer]
        while waiting:
            for other in list(waiting):
                if ask(proxies[other], "GET", path)[0] == 200:
                    visible.append(time.monotonic() - began)
                    waiting.remove(other)
        time.sleep(rest * random.random())
    return answered, visible


def load(nodes, stop, counts):
    """Writes of others meanwhile, on one node each."""
    def write(number, node):
        admin, made = connect(node.admin), 0
        while not stop.is_set():
            ask(admin, "PUT", f"/consumers/consumer-{number}-{made % 500}", {"custom_id": f"{number}-{made}"})
            made += 1
        counts.append(made)
    threads = [threading.Thread(target=write, args=pair) for pair in enumerate(nodes)]
    for thread in threads:
        thread.start()
    return threads


def row(name, seconds, target=""):
    seconds = sorted(seconds)
    share = lambda of: seconds[min(len(seconds) - 1, int(len(seconds) * of))] * 1e3
    return f"| {name} | {len(seconds)} | {share(0.5):.1f} | {share(0.99):.1f} | {seconds[-1] * 1e3:.1f} | {target} |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", default="target/release")
    parser.add_argument("--writes", type=int, default=300)
    parser.add_argument("--out")
    options = parser.parse_args()
    if os.environ.get("KONG_DATABASE") != "postgres":
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scripts", "with-postgres")
        os.execvp(script, [script, sys.executable, os.path.abspath(__file__), *sys.argv[1:]])
    environment = {name: value for name, value in os.environ.items() if name.startswith("KONG_")}
    program = os.path.join(options.binaries, "portcullis")
    subprocess.run([program, "migrations", "bootstrap", "-q"], check=True, env={**os.environ, "KONG_PREFIX": candidates.RUN})
    nodes = [start(program, number, environment) for number in range(NODES)]
    try:
        admin = connect(nodes[0].admin)
        ask(admin, "POST", "/services", {"name": "s", "url": "http://127.0.0.1:9"})
        ask(admin, "POST", "/plugins", {"name": "request-termination", "config": {"status_code": 200}, "service": {"name": "s"}})
        time.sleep(1)
        lines = ["| what | samples | p50, ms | p99, ms | slowest, ms | target |", "|---|---|---|---|---|---|"]
        answered, visible = rounds(nodes, options.writes, 0.02)
        lines += [row("a write answered, and served by its node", answered),
                  row("served by the other nodes, from the begin of the write", visible, f"p99 ≤ {TARGET_MS} ms")]
        for number in range(options.writes):
            ask(admin, "DELETE", f"/routes/route-{number}")
        stop, counts = threading.Event(), []
        began = time.monotonic()
        threads = load(nodes, stop, counts)
        answered, visible = rounds(nodes, options.writes, 0.02)
        stop.set()
        for thread in threads:
            thread.join()
        rate = sum(counts) / (time.monotonic() - began)
        lines += [row(f"the same beside {rate:.0f} other writes a second", answered),
                  row("served by the other nodes meanwhile", visible, f"p99 ≤ {TARGET_MS} ms")]
    finally:
        for node in nodes:
            node.stop()
    day = datetime.date.today().isoformat()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    text = f"# Changes from node to node, {day}\n\nCommit {commit}; {os.cpu_count()} cores for three nodes, Postgres and the measuring.\n\n"
    text += "\n".join(lines) + "\n"
    path = options.out or os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", f"{day}-cluster.md")
    with open(path, "w") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    main()
