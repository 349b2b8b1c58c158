"""Configuration changes under load, through the Admin API and the embedded database."""
import http.client
import os
import re
import subprocess
import sys
import time

import candidates
import measure
from rows import Row

# wrk counts answers only by class; this tells which statuses there were.
COUNT_STATUSES = """
local seen = {}
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args) statuses = "" end
function response(status)
  if status ~= 200 then seen[status] = (seen[status] or 0) + 1
    statuses = ""
    for code, count in pairs(seen) do statuses = statuses .. code .. "x" .. count .. " " end
  end
end
function done(summary)
  local text = ""
  for _, thread in ipairs(threads) do text = text .. (thread:get("statuses") or "") end
  local e = summary.errors
  io.write(string.format("RESULT %d served, not 200: [%s], connect %d read %d write %d timeout %d\\n",
    summary.requests, text, e.connect, e.read, e.write, e.timeout))
end
"""


def start_load(url, seconds):
    path = os.path.join(candidates.RUN, "statuses.lua")
    with open(path, "w") as out:
        out.write(COUNT_STATUSES)
    return subprocess.Popen(
        ["taskset", "-c", candidates.LOAD_CORE, "wrk", "-t1", "-c64", f"-d{seconds}s", "--latency", "--timeout", "10s", "-s", path, url],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish_load(process):
    """The load's own words: (requests served, p50, p99, whether not one failed, the line that says so)."""
    output = process.communicate()[0]
    line = re.search(r"RESULT (.*)", output)
    latencies = [re.search(rf"\s{share}%\s+(\S+)", output) for share in (50, 99)]
    if not line or not all(latencies):
        raise measure.Wrong(output)
    clean = "[], connect 0 read 0 write 0 timeout 0" in line.group(1)
    return int(line.group(1).split()[0]), *(measure.microseconds(found.group(1)) for found in latencies), clean, line.group(1)


def soak(program, upstream, seconds):
    """Load for so long with a change every 0.59 s, some 200 in two minutes (a route, a plugin, a consumer come and go); exits 1 when one request failed."""
    with candidates.portcullis(program, database=True) as gateway:
        admin = candidates.Admin(gateway.admin)
        admin.send("POST", "/services", {"name": "canned", "url": f"http://{upstream}"})
        admin.send("POST", "/services/canned/routes", {"name": "loaded", "paths": ["/api"]})
        await_status(gateway.port, "/api", 200)
        before = measure.resident_mib(gateway.pids)
        load = start_load(f"http://127.0.0.1:{gateway.port}/api/x", seconds)
        started, changes, slowest = time.monotonic(), 0, 0.0
        while time.monotonic() < started + seconds - 1:
            moment = time.monotonic()
            one_change(admin, changes)
            slowest = max(slowest, time.monotonic() - moment)
            changes += 1
            time.sleep(max(0.0, started + changes * 0.59 - time.monotonic()))
        served, p50, p99, clean, line = finish_load(load)
        after = measure.resident_mib(gateway.pids)
    print(f"soak: {seconds} s, {changes} changes (slowest answered in {slowest * 1000:.0f} ms), {line}; p50 {p50:.0f} µs, p99 {p99:.0f} µs; "
          f"resident {before:.1f} MiB before, {after:.1f} MiB after")
    if not clean:
        sys.exit("soak: requests failed")


def one_change(admin, number):
    kind, name = number % 4, f"soak-{number // 4}"
    if kind == 0:
        admin.send("PUT", f"/services/canned/routes/{name}", {"paths": [f"/{name}"]})
    elif kind == 1:
        admin.send("POST", f"/routes/{name}/plugins", {"name": "request-termination", "config": {"status_code": 403}})
    elif kind == 2:
        admin.send("PATCH", f"/routes/{name}", {"paths": [f"/{name}/changed"]})
    else:
        admin.send("DELETE", f"/routes/{name}")


def await_status(port, path, status):
    """Seconds until the proxy answers the path with this status."""
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while time.monotonic() < started + 60:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        if answer.status == status:
            return time.monotonic() - started
    raise RuntimeError(f"{path} did not become {status} within a minute")


def among(program, upstream, routes):
    """How long a change among so many routes takes until it is served, and what the load beside it noticed."""
    with candidates.portcullis(program, database=True) as gateway:
        admin = candidates.Admin(gateway.admin)
        started = time.monotonic()
        candidates.fill_database(gateway.admin, candidates.declaration(upstream, Row("change", "", routes=routes)))
        print(f"change: {routes} routes created through the Admin API in {time.monotonic() - started:.0f} s", flush=True)
        await_status(gateway.port, "/r1/x", 200)
        url = f"http://127.0.0.1:{gateway.port}/r1/x"
        quiet = finish_load(start_load(url, 10))
        load, took, served_after = start_load(url, 10), [], []
        time.sleep(1)
        for number in range(20):
            moment = time.monotonic()
            admin.send("PUT", f"/services/canned/routes/new-{number}", {"paths": [f"/new-{number}"]})
            took.append(time.monotonic() - moment)
            await_status(gateway.port, f"/new-{number}", 200)
            served_after.append(time.monotonic() - moment)
            time.sleep(0.3)
        busy = finish_load(load)
        print(f"change: among {routes} routes, 20 changes: answered in {sorted(took)[10] * 1000:.1f} ms (slowest {max(took) * 1000:.1f}), "
              f"served {sorted(served_after)[10] * 1000:.1f} ms after the call began (slowest {max(served_after) * 1000:.1f})")
        print(f"change: load without changes: p50 {quiet[1]:.0f} p99 {quiet[2]:.0f} µs, {quiet[4]}")
        print(f"change: load with changes:    p50 {busy[1]:.0f} p99 {busy[2]:.0f} µs, {busy[4]}")
        print(f"change: resident {measure.resident_mib(gateway.pids):.1f} MiB")
    if not (quiet[3] and busy[3]):
        sys.exit("change: requests failed")
