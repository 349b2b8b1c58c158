#!/usr/bin/env python3
"""Measures Portcullis beside nginx and HAProxy; see README.md. Standard library only. `--list` names the rows."""
import argparse
import datetime
import os
import platform
import shutil
import statistics
import subprocess
import sys

import candidates
import change
import measure
from rows import ROWS

TARGETS = """Targets: bare ≤ 0.65 × nginx and × HAProxy; plugins ≤ 0.90 × nginx bare; 100,000 routes ≤ 1.10 × one route; TLS keep-alive
≤ 0.75 × nginx; HTTP/2 ≤ 0.70 × nginx and ≤ 1.00 × HAProxy; resident ≤ 15 MB idle, ≤ 40 MB under 1,000 connections; four data system
calls and ≤ 20,000 user instructions a request."""


def starter(name, options):
    """How to start the candidate: a function of the row, the upstream's address and a command to wrap it in."""
    if name == "portcullis":
        program = os.path.join(options.binaries, "portcullis")
        start = candidates.portcullis_with_database if options.database else candidates.portcullis
        return lambda row, upstream, wrap=(): start(program, row, upstream, wrap)
    if name == "portcullis-without":
        program = os.path.join(options.binaries, "portcullis")
        return lambda row, upstream, wrap=(): candidates.portcullis(program, row.without_plugins(), upstream, wrap)
    peer = {"nginx": candidates.nginx, "haproxy": candidates.haproxy}[name.split("-")[0]]
    return lambda row, upstream, wrap=(): peer(row, upstream, wrap, plain=name.endswith("-plain"))


def measure_row(row, names, options, upstream):
    """All rounds of a row, candidates interleaved: {candidate: [measurement, …]}."""
    rounds = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names:
            with starter(name, options)(row, upstream) as running:
                idle = measure.resident_mib(running.pids)
                got = measure.once(row, running, options.secs)
            rounds[name].append({**got, "idle": idle})
            print(f"  round {number + 1} {name:14} {got['us']:8.2f} µs/request {got['rps']:9.0f}/s  p50 {got['p50']:.0f} µs  "
                  f"p99 {got['p99']:.0f} µs  {got['resident']:.1f} MiB  core {got['busy']:.0%}", flush=True)
    return rounds


def count_row(row, names, options, upstream):
    """System calls and user instructions of a row's candidates: {candidate: (calls, instructions)} and notes on the tools."""
    counts, notes = {}, set()
    counter = measure.has_instruction_counter()
    for name in names:
        calls = instructions = None
        try:
            with starter(name, options)(row, upstream) as running:
                calls, tool = measure.system_calls(row, running)
                notes.add(f"system calls: {tool}")
                if counter:
                    instructions = measure.instructions_by_perf(row, running)
                    notes.add("user instructions: perf")
            if not counter and shutil.which("valgrind"):
                with starter(name, options)(row, upstream, measure.CALLGRIND) as running:
                    instructions = measure.instructions_by_callgrind(row, running)
                notes.add("user instructions: callgrind, 4 connections")
            elif not counter:
                notes.add("user instructions: neither counters nor valgrind are to be had")
        except (RuntimeError, subprocess.SubprocessError, OSError) as error:
            notes.add(f"{row.name}, {name}: not counted: {str(error)[:200]}")
        counts[name] = (calls, instructions)
        print(f"  counts  {name:14} instructions {instructions and round(instructions)}  calls {calls and shown_calls(calls)}", flush=True)
    return counts, notes


def shown_calls(calls):
    rest = ", ".join(f"{name} {count:.2f}" for name, count in sorted(calls.items(), key=lambda pair: -pair[1]) if name != "all")
    return f"{calls['all']:.2f} ({rest})"


def table(row, rounds, counts, reference):
    """The row's part of the report. `reference` holds the medians of the bare row's peers, for rows whose peers weren't run."""
    def median(name, key):
        return statistics.median(got[key] for got in rounds[name])

    bases = {peer: median(peer, "us") if peer in rounds else reference.get(peer) for peer in ("nginx", "haproxy")}
    lines = [f"## {row.title}", "",
             "| | µs/request | spread | user share | × nginx | × HAProxy | requests/s | p50 µs | p99 µs | MiB idle | MiB loaded "
             "| user instructions | system calls |", "|---|" + "---:|" * 11 + "---|"]
    for name in rounds:
        us = [got["us"] for got in rounds[name]]
        ratios = [f"{statistics.median(us) / base:.2f}" if base else "" for base in (bases["nginx"], bases["haproxy"])]
        calls, instructions = counts.get(name, (None, None))
        lines.append(
            f"| {name} | **{statistics.median(us):.2f}** | {min(us):.2f}–{max(us):.2f} | {median(name, 'user_share'):.0%} | {ratios[0]} "
            f"| {ratios[1]} | {median(name, 'rps'):.0f} | {median(name, 'p50'):.0f} | {median(name, 'p99'):.0f} "
            f"| {median(name, 'idle'):.1f} | {median(name, 'resident'):.1f} | {f'{instructions:,.0f}' if instructions else ''} "
            f"| {shown_calls(calls) if calls else ''} |")
    return lines + [""]


def machine():
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.machine())
    versions = []
    for command in (["nginx", "-v"], ["haproxy", "-v"]):
        if shutil.which(command[0]):
            output = subprocess.run(command, capture_output=True, text=True)
            versions.append((output.stdout + output.stderr).splitlines()[0])
    return [f"{model}, {os.cpu_count()} cores, Linux {platform.release()}", *versions]


def compare(options, upstream):
    wanted = options.rows.split(",") if options.rows else [row.name for row in ROWS]
    unknown = set(wanted) - {row.name for row in ROWS}
    if unknown:
        sys.exit(f"no such row: {', '.join(sorted(unknown))}; --list names them")
    report, notes, reference = [], set(), {}
    for row in (row for row in ROWS if row.name in wanted):
        names = [name for name in row.candidates if not options.only or name in options.only.split(",")]
        print(f"{row.name}: {row.title}", flush=True)
        try:
            rounds = measure_row(row, names, options, upstream)
        except RuntimeError as error:
            print(f"  failed: {error}", flush=True)
            report += [f"## {row.title}", "", f"Failed: {str(error)[:500]}", ""]
            continue
        counts = {}
        if options.counts and (row.plugins or row.name in ("bare", "post", "tls", "h2", "plugin-access-log")):
            counts, told = count_row(row, names, options, upstream)
            notes |= told
        if row.name == "bare":
            reference = {peer: statistics.median(got["us"] for got in rounds[peer]) for peer in ("nginx", "haproxy") if peer in rounds}
        report += table(row, rounds, counts, reference)
    head = [f"# Bench, {datetime.date.today()}", "", *(f"- {line}" for line in machine()),
            f"- {options.rounds} interleaved rounds of {options.secs} s; medians; peers add the headers that we add, -plain ones don't",
            *(f"- {note}" for note in sorted(notes)), "", TARGETS, ""]
    path = os.path.join(candidates.HERE, "results", f"{datetime.date.today()}.md")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as out:
        out.write("\n".join(head + report))
    print("\n" + "\n".join(head + report) + f"\nwritten to {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", default=os.path.join(candidates.HERE, "..", "target", "release"), help="folder of our release programs")
    parser.add_argument("--upstream", help="the bench upstream's program, when it lies elsewhere")
    parser.add_argument("--rows")
    parser.add_argument("--only", help="only these candidates")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secs", type=int, default=8)
    parser.add_argument("--no-counts", dest="counts", action="store_false")
    parser.add_argument("--database", action="store_true", help="configure ours through the Admin API, into its embedded database")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--soak", type=int, nargs="?", const=120, metavar="SECONDS", help="load with a change every 0.59 s (200 in 120 s)")
    parser.add_argument("--change", type=int, nargs="?", const=100_000, metavar="ROUTES", help="how soon a change among so many routes is served")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{row.name:14} {row.title}" for row in ROWS))
        return
    os.makedirs(candidates.RUN, exist_ok=True)
    program = os.path.join(options.binaries, "portcullis")
    with candidates.upstream(options.upstream or os.path.join(options.binaries, "portcullis-bench-upstream")) as upstream:
        if options.soak:
            change.soak(program, upstream.address, options.soak)
        elif options.change:
            change.among(program, upstream.address, options.change)
        else:
            compare(options, upstream.address)


if __name__ == "__main__":
    main()
