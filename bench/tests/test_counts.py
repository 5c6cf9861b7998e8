"""Counts of instructions, allocations and system calls: what is read, and what counts as a change."""

import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from driver import counts  # noqa: E402

CALLGRIND = """version: 1
events: Ir
fn=landfall::main
10 5
cfn=_rjem_malloc
calls=3 0
10 60
cfn=_rjem_rallocx
calls=2 0
10 9
cfn=_rjem_je_malloc_default
calls=7 0
10 70
totals: 144
"""

STRACE = """10 recvfrom(20, "POST /files/ HTTP/1.1"..., 8192, 0, NULL, NULL) = 5152
10 openat(9, "a94329230bbb180f", O_WRONLY|O_CREAT|O_EXCL, 0664) = 58
10 pwrite64(58, "xxxxxxxx"..., 8, 0) = 8
11 epoll_wait(12, [], 1024, 0) = 0
11 write(13, "\\1\\0\\0\\0\\0\\0\\0\\0", 8) = 8
11 write(13, "\\1\\0\\0\\0\\0\\0\\0\\0", 8 <unfinished ...>
11 <... write resumed>) = 8
12 openat(AT_FDCWD, "/srv/data/.landfall/requests", O_RDONLY|O_DIRECTORY) = -1 ENOENT (No such file or directory)
12 fcntl(10, F_OFD_GETLK, {l_type=F_UNLCK, l_whence=SEEK_SET, l_start=4, l_len=1, l_pid=0}) = 0
10 newfstatat(AT_FDCWD, "/srv/data", {st_mode=S_IFDIR|0755, st_size=12420, ...}, 0) = 0
10 fstat(9, {st_mode=S_IFDIR|0755, st_size=12420, ...}) = 0
11 futex(0x7f, FUTEX_WAKE_PRIVATE, 1) = 1
10 close(58 <unfinished ...>
10 <... close resumed>) = 0
10 +++ exited with 0 +++
"""


class Counts(unittest.TestCase):
    def read(self, reader, text):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            return reader(file.name)

    def test_calls_of_the_allocator_count(self):
        self.assertEqual(self.read(counts.read_callgrind, CALLGRIND), {"instructions": 144, "allocations": 5})

    def test_system_calls_of_requests_count_once(self):
        self.assertEqual(self.read(counts.read_strace, STRACE), 4)

    def test_runs_are_repeated_until_the_two_lowest_agree(self):
        values = iter([130, 101, 115, 100.8, 100])
        self.assertEqual(counts.least(lambda: {"instructions": next(values)}), {"instructions": 100.8})
        values = iter(range(200, 100, -10))
        self.assertEqual(counts.least(lambda: {"instructions": next(values)}, rounds=4), {"instructions": 170})

    def test_only_changes_beyond_the_limit_are_reported(self):
        before = {"head": {"instructions": 1000.0, "allocations": 20.0, "system calls": 4.0}}
        self.assertEqual(counts.differences(before, {"head": {**before["head"], "instructions": 1029.0}}), [])
        more = {"head": {"instructions": 1031.0, "allocations": 21.0, "system calls": 4.0}}
        self.assertEqual(counts.differences(before, more), [
            "HEAD: instructions 1,000 before, 1,031 now", "HEAD: allocations 20 before, 21 now"])
        self.assertEqual(len(counts.differences(before, more, ("instructions",))), 1)
        # Less is a change, too: the baseline would hide the next one.
        less = {"head": {**before["head"], "system calls": 3.0}}
        self.assertEqual(len(counts.differences(before, less)), 1)


if __name__ == "__main__":
    unittest.main()
