"""What Linux tells about running processes."""

import os
import re
import time

TICK = os.sysconf("SC_CLK_TCK")


def tree(pid):
    """The process and all that descend from it."""
    found, left = [], [pid]
    while left:
        pid = left.pop()
        found.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    left += [int(child) for child in file.read().split()]
        except OSError:
            pass  # ended meanwhile
    return found


def cpu_seconds(pids):
    """Processor time of the processes, ended threads included, exact to the nanosecond."""
    total = 0.0
    for pid in pids:
        try:
            # The CPU-time clock of another process (clock_getcpuclockid): /proc/PID/stat has the
            # same figure, but in ticks of 10 ms.
            total += time.clock_gettime(~pid << 3 | 2)
        except OSError:
            pass  # ended meanwhile
    return total


def kernel_share(before, after):
    """The share of processor time in the kernel between two results of `ticks`; None if it is too short to tell."""
    user, kernel = (now - then for then, now in zip(before, after))
    return kernel / (user + kernel) if user + kernel > 0 else None


def ticks(pids):
    """Processor time in user mode and in the kernel, in ticks."""
    user = kernel = 0
    for pid in pids:
        try:
            fields = stat(pid)
        except OSError:
            continue  # ended meanwhile
        user, kernel = user + int(fields[11]), kernel + int(fields[12])
    return user, kernel


def stat(pid):
    """The fields of /proc/PID/stat after the name, which is in parentheses and may hold anything."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def ended_cpu_seconds(pid):
    """Processor time of the children of a process that have ended and that it waited for."""
    try:
        fields = stat(pid)
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / TICK


def memory_kib(pids, field):
    """Sum of a field of /proc/PID/status: VmRSS now, or VmHWM, the most it ever was."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status") as file:
                match = re.search(rf"^{field}:\s+(\d+) kB", file.read(), re.MULTILINE)
            total += int(match.group(1)) if match else 0
        except OSError:
            pass  # ended meanwhile
    return total


def written(pids):
    """Bytes that the processes wrote to files which a disk holds, synced or not."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/io") as file:
                match = re.search(r"^write_bytes: (\d+)", file.read(), re.MULTILINE)
            total += int(match.group(1)) if match else 0
        except OSError:
            pass  # ended meanwhile
    return total


def machine_busy_seconds():
    """Processor time that the whole machine has spent on anything since it started."""
    with open("/proc/stat") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    idle, waiting = fields[3], fields[4]
    return (sum(fields) - idle - waiting) / TICK


def memory_available():
    """Bytes that can still be used without swapping."""
    with open("/proc/meminfo") as file:
        return int(re.search(r"MemAvailable:\s+(\d+)", file.read()).group(1)) * 1024


def processor():
    """The processor's own name."""
    with open("/proc/cpuinfo") as file:
        match = re.search(r"model name\s*:\s*(.*)", file.read())
    return match.group(1).strip() if match else os.uname().machine


def file_system(folder):
    """The type of the file system that holds a folder."""
    folder, best = os.path.realpath(folder), ("", "unknown")
    with open("/proc/mounts") as file:
        for line in file:
            _, point, kind = line.split()[:3]
            point = point.replace("\\040", " ")
            inside = folder == point or folder.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, kind)
    return best[1]
