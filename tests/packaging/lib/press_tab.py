"""Types lines into an interactive shell on a terminal, each with Tab and Enter at its end, and prints what
the command `landfall` then gets as arguments, a line each.

    press_tab.py SHELL COMPLETIONS LINE...    SHELL is bash, zsh or fish; COMPLETIONS a script
"""

import os
import pty
import re
import select
import shlex
import sys
import time

TIMEOUT = 20
# For each shell: its arguments, and how it gets the completions and a command that prints its arguments.
SHELLS = {
    "bash": (
        ["--norc", "--noprofile", "-i"],
        "source /usr/share/bash-completion/bash_completion; source {}\n"
        "landfall() {{ echo \"<got:$*>\"; }}\n",
    ),
    "zsh": (
        ["-f", "-i"],
        "autoload -Uz compinit; compinit -u -D; source {}\nlandfall() {{ echo \"<got:$*>\" }}\n",
    ),
    "fish": (["--no-config", "-i"], "source {}\nfunction landfall; echo \"<got:$argv>\"; end\n"),
}


def main():
    shell, script, *lines = sys.argv[1:]
    args, setup = SHELLS[shell]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="dumb", PS1="> ", HISTFILE="/dev/null")
        os.execvp(shell, [shell, *args])
    seen = b""

    def wait_for(pattern):
        nonlocal seen
        deadline = time.monotonic() + TIMEOUT
        while (match := re.search(pattern, seen)) is None:
            if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
                sys.exit(f"{shell}: no {pattern} in {seen!r}")
            seen += os.read(terminal, 65536)
        seen = seen[match.end() :]
        return match

    try:
        for line in setup.format(shlex.quote(script)).splitlines():
            os.write(terminal, line.encode() + b"\n")
        os.write(terminal, b"landfall ready\n")
        wait_for(rb"<got:ready>")
        for line in lines:
            os.write(terminal, line.encode() + b"\t")
            # The shell shows all that was typed before it handles Enter, which some read as a choice.
            time.sleep(0.5)
            os.write(terminal, b"\n")
            print(wait_for(rb"<got:([^>$\r\n]*)>")[1].decode().strip())
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


main()
