"""What is measured of a running proxy: time, memory, load, system calls, instructions."""
import glob
import os
import re
import shutil
import signal
import subprocess
import threading
import time

from candidates import HERE, LOAD_CORE, RUN

# The headers of an ordinary API client.
HEADERS = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "Accept: application/json", "Accept-Encoding: gzip, deflate, br",
    "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcdefghijklmnop",
]


class Wrong(RuntimeError):
    """A measurement that must not be believed: failed requests, or output that can't be read."""


def cpu_us(pids):
    """Microseconds on a core so far by thread, exact, and the ticks of 10 ms spent in user mode and in the kernel."""
    threads, user, system = {}, 0, 0
    for pid in pids:
        for file in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            try:
                with open(file) as stat:
                    threads[file] = int(stat.read().split()[0]) / 1000
            except OSError:
                pass
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    return threads, user, system


def spent_us(before, after):
    """What the threads of `after` ran since `before`. A thread that ended meanwhile (a start's helper) must not count backwards."""
    return sum(us - before.get(thread, 0) for thread, us in after.items())


def resident_mib(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as status:
            found = re.search(r"VmRSS:\s+(\d+)", status.read())
        total += int(found.group(1)) if found else 0
    return total / 1024


def microseconds(text):
    number, unit = re.match(r"([\d.]+)(us|ms|s|m)$", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}[unit]


def load(row, port, seconds, connections=None):
    """Runs the row's load; returns requests served, p50 and p99 in microseconds."""
    scheme = "https" if row.tls else "http"
    url = f"{scheme}://127.0.0.1:{port}{row.path}"
    headers = [word for line in HEADERS + list(row.headers) for word in ("-H", line)]
    pinned = ["taskset", "-c", LOAD_CORE]
    if row.http2:
        command = pinned + ["h2load", "-t1", "-c", str(connections or 8), "-m", "32" if not connections else "4", "-D", str(seconds),
                            *headers, url]
        output = subprocess.run(command, capture_output=True, text=True).stdout
        counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", output)
        times = re.search(r"time for request:\s+(\S+)\s+(\S+)\s+(\S+)", output)
        statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
        if not counts or not times or int(counts.group(2)) == 0 or any(int(n) for n in statuses.groups()[1:]):
            raise Wrong(f"{' '.join(command)}: {output}")
        # h2load tells the mean and the slowest, no percentiles: the mean stands for the median, the slowest for p99.
        return int(counts.group(2)), microseconds(times.group(3)), microseconds(times.group(2))
    script = []
    if row.script:
        path = os.path.join(RUN, "load.lua")
        with open(path, "w") as out:
            out.write(row.script)
        script = ["-s", path]
    command = pinned + ["wrk", "-t1", "-c", str(connections or row.connections), f"-d{seconds}s", "--latency", "--timeout", "10s",
                        *headers, *script, url]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    served = re.search(r"(\d+) requests in", output)
    latencies = [re.search(rf"\s{share}%\s+(\S+)", output) for share in (50, 99)]
    if not served or not all(latencies) or "Non-2xx" in output or "Socket errors" in output:
        raise Wrong(f"{' '.join(command)}: {output}")
    return int(served.group(1)), microseconds(latencies[0].group(1)), microseconds(latencies[1].group(1))


def once(row, running, seconds):
    """One measurement of one candidate."""
    load(row, running.port, 1)
    pids = running.pids
    resident = []
    sampler = threading.Timer(seconds / 2, lambda: resident.append(resident_mib(pids)))
    before, started = cpu_us(pids), time.monotonic()
    sampler.start()
    served, p50, p99 = load(row, running.port, seconds)
    took, after = time.monotonic() - started, cpu_us(pids)
    sampler.join()
    spent, ticks = spent_us(before[0], after[0]), [after[n] - before[n] for n in (1, 2)]
    return {
        "us": spent / served, "user_share": ticks[0] / max(1, sum(ticks)), "rps": served / took, "p50": p50, "p99": p99,
        "resident": resident[0], "busy": spent / took / 1e6,
    }


def system_calls(row, running, seconds=3):
    """System calls per request by name, and the tool that counted them: perf's tracepoints, or strace."""
    pids = ",".join(map(str, running.pids))
    load(row, running.port, 1)
    names = sorted(os.path.basename(path) for path in glob.glob("/sys/kernel/tracing/events/syscalls/sys_enter_*"))
    if names and shutil.which("perf"):
        wanted = [name for name in names if name[len("sys_enter_"):] in COMMON_CALLS]
        counter = subprocess.Popen(
            ["perf", "stat", "-x,", "-e", ",".join(["raw_syscalls:sys_enter"] + [f"syscalls:{name}" for name in wanted]), "-p", pids],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
        served = load(row, running.port, seconds)[0]
        counter.send_signal(signal.SIGINT)
        lines = [line.split(",") for line in counter.communicate()[1].splitlines()]
        counts = {line[2].split(":")[1].replace("sys_enter_", ""): int(line[0]) / served for line in lines if line[0].isdigit()}
        if "sys_enter" in counts or "raw_syscalls" in counts or counts:
            total = next((int(line[0]) / served for line in lines if line[0].isdigit() and "raw_syscalls" in line[2]), sum(counts.values()))
            return {"all": total, **{name: count for name, count in counts.items() if name in COMMON_CALLS and count > 0.005}}, "perf"
    if shutil.which("strace"):
        report = os.path.join(RUN, "strace")
        counter = subprocess.Popen(["strace", "-c", "-f", "-o", report, *(word for pid in running.pids for word in ("-p", str(pid)))],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        served = load(row, running.port, seconds)[0]
        counter.send_signal(signal.SIGINT)
        counter.wait()
        counts = {}
        with open(report) as lines:
            for line in lines:
                words = line.split()
                if len(words) >= 5 and words[0].replace(".", "").isdigit() and words[-1] != "total":
                    counts[words[-1]] = int(words[3]) / served
        if counts:
            return {"all": sum(counts.values()), **{name: count for name, count in counts.items() if count > 0.005}}, "strace"
    return None, "neither perf's tracepoints nor strace are to be had"


COMMON_CALLS = {
    "epoll_wait", "epoll_pwait", "epoll_ctl", "recvfrom", "read", "readv", "sendto", "write", "writev", "sendmsg", "recvmsg", "accept4",
    "close", "futex", "clock_gettime", "ioctl", "splice", "setsockopt", "getsockopt", "timerfd_settime", "socket", "connect",
}


def has_instruction_counter():
    if not shutil.which("perf"):
        return False
    output = subprocess.run(["perf", "stat", "-x,", "-e", "instructions:u", "true"], capture_output=True, text=True).stderr
    return output.split(",")[0].strip().isdigit()


def instructions_by_perf(row, running, seconds=3):
    load(row, running.port, 1)
    counter = subprocess.Popen(["perf", "stat", "-x,", "-e", "instructions:u", "-p", ",".join(map(str, running.pids))],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    served = load(row, running.port, seconds)[0]
    counter.send_signal(signal.SIGINT)
    return int(counter.communicate()[1].split(",")[0]) / served


CALLGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=" + os.path.join(RUN, "callgrind.%p"))


def instructions_by_callgrind(row, running, seconds=4):
    """User instructions per request of a program that runs under CALLGRIND: counted from zero after warming up."""
    pid = running.pids[0]
    for old in glob.glob(os.path.join(RUN, f"callgrind.{pid}*")):
        os.remove(old)
    load(row, running.port, 2, connections=4)
    subprocess.run(["callgrind_control", "-z", str(pid)], check=True, capture_output=True)
    served = load(row, running.port, seconds, connections=4)[0]
    subprocess.run(["callgrind_control", "-d", str(pid)], check=True, capture_output=True)
    total = 0
    for file in glob.glob(os.path.join(RUN, f"callgrind.{pid}*")):
        with open(file, errors="replace") as dump:
            found = re.findall(r"^(?:summary|totals):\s+(\d+)", dump.read(), re.M)
        total += int(found[-1]) if found else 0
        os.remove(file)
    if not total:
        raise Wrong("callgrind wrote no total")
    return total / served
