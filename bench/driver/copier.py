"""Programs that upload a file to S3 as several parts at once: what a server can hope for."""

import os
import shutil
import subprocess
import threading
import time

from . import proc
from .garage import Garage
from .modes import GIB, LOAD_PATIENCE, MIB

PHASE_STEP = 7919  # the load generator's: each file begins elsewhere in its pattern


def copy_once(copier, mode, loadgen, root, pin=None):
    """Copies as many files at once as the mode has connections, of the size of its uploads.

    What the program takes for an empty file, starting above all, is taken off time and processor
    time: what is left is the copying.
    """
    count, size = mode.arguments[:2]
    if proc.memory_available() < mode.memory:
        raise RuntimeError(f"needs {mode.memory // MIB} MiB of free memory")
    folder = os.path.join(root, f"copied-{copier.name}")
    os.makedirs(folder)
    try:
        files = [os.path.join(folder, f"file-{index}") for index in range(count)]
        for index, file in enumerate(files):
            subprocess.run([loadgen, "file", file, str(1 + PHASE_STEP * index), str(size)],
                           check=True, stdout=subprocess.DEVNULL)
        with Garage(root) as garage:
            one = copier.within(garage.environment(copier.environment))
            result = copied(one, garage, files, pin)
            kept = garage.settled()["bytes"]
            if kept != count * size:
                raise RuntimeError(f"{kept:,} bytes arrived, not {count * size:,}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result.update(
        bytes=count * size, mib_per_s=count * size / MIB / result["wall_s"],
        cpu_s_per_gib=result["cpu_s"] / (count * size) * GIB)
    return result


def copied(one, garage, files, pin):
    """Times an empty file, and then all files at once."""
    empty = os.path.join(os.path.dirname(files[0]), "empty")
    open(empty, "wb").close()
    start, start_cpu, _ = min(run_all(one, [empty], pin) for _ in range(2))
    calls, behind = garage.calls(), garage.cpu_seconds()
    busy = proc.machine_busy_seconds()
    wall, cpu, peak_kib = run_all(one, files, pin)
    busy = proc.machine_busy_seconds() - busy
    behind = garage.cpu_seconds() - behind
    return {
        "wall_s": max(1e-6, wall - start), "cpu_s": max(0.0, cpu - len(files) * start_cpu),
        "start_s": start, "peak_kib": peak_kib, "operations": len(files), "behind_cpu_s": behind,
        "calls": garage.calls_since(calls),
        "other_cpus": round(max(0, busy - cpu - behind) / wall, 3),
    }


def run_all(copier, files, pin):
    """One process for each file: seconds until the last has ended, their processor time, and the
    sum of the most memory that each had."""
    before = ["taskset", "-c", pin] if pin else []
    commands = [before + copier.ask("command", file, os.path.basename(file)) for file in files]
    began = time.perf_counter()
    running = [subprocess.Popen(command, env=copier.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
               for command in commands]
    # One that hangs ends the run, not the benchmark.
    watch = threading.Timer(LOAD_PATIENCE, lambda: [process.kill() for process in running])
    watch.start()
    cpu, peak_kib, failed = 0.0, 0, None
    try:
        for process in running:
            said = process.stderr.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu, peak_kib = cpu + used.ru_utime + used.ru_stime, peak_kib + used.ru_maxrss
            if process.returncode:
                failed = said.decode(errors="replace").strip()[-500:] or f"exit status {status}"
        wall = time.perf_counter() - began
    finally:
        watch.cancel()
        for process in running:
            process.stderr.close()
            if process.returncode is None:
                process.kill()
                process.wait()
    if failed:
        raise RuntimeError(f"{copier.name} failed: {failed}")
    return wall, cpu, peak_kib
