"""The command as a whole: an honest server passes, and each lie ends it with 1 and a reason."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
RUN = os.path.join(os.path.dirname(HERE), "run")


def run(lie, mode):
    """Runs the benchmark on the liar; exit status, result, and what was printed."""
    with tempfile.TemporaryDirectory() as folder:
        liar = "signer" if mode.startswith("direct-") else "liar"
        server = f"liar={sys.executable} {HERE}/{liar}.py {{port}} {lie} {{data}}:/files/"
        done = subprocess.run(
            [sys.executable, RUN, "--quick", "--only", "liar", "--modes", mode, "--data", folder,
             "--out", f"{folder}/result", "--quiet-budget", "0", "--server", server],
            text=True, capture_output=True, check=False)
        if not os.path.exists(f"{folder}/result.json"):
            raise AssertionError(done.stderr)
        with open(f"{folder}/result.json") as file:
            result = json.load(file)
        left = [name for name in os.listdir(folder) if name.startswith("landfall-bench-")]
        return done.returncode, result, done.stdout, left


class Lies(unittest.TestCase):
    def test_honest(self):
        for mode in ("browser", "small", "small-patch", "head", "slow", "idle", "s3-browser",
                     "hooks-create", "hooks-told", "hooks-start", "grants-ask-memory",
                     "grants-create-memory", "grants-small-memory", "grants-off",
                     "grants-listen", "direct-part", "direct-batch", "direct-form-memory",
                     "direct-put-memory", "direct-multipart"):
            with self.subTest(mode=mode):
                status, result, _, left = run("none", mode)
                self.assertEqual(result["faults"], [])
                self.assertEqual([row["mode"] for row in result["rows"]], [mode])
                self.assertEqual(status, 0)
                self.assertEqual(left, [], "the data is removed")

    def test_lies_are_found_out(self):
        for lie, mode, reason in [
            ("status", "browser", "PATCH answered 200, expected [204]"),
            ("offset", "browser", "PATCH left offset 2000001, expected 2000000"),
            ("offset", "head", "POST took offset 4097, 4096 bytes were sent"),
            ("head", "small", "HEAD says"),
            ("head", "head", "HEAD says 4095"),
            ("head", "idle", "HEAD says"),
            ("byte", "browser", "check: reading back: wrong byte at offset 1000000"),
            ("byte", "small", "check: reading back: wrong byte"),
            ("byte", "head", "check: reading back: wrong byte at offset 2048"),
            ("byte", "slow", "reading back: wrong byte at offset 524288"),
            ("short", "small", "check: reading back gave"),
            ("drop", "browser", "check: HEAD says"),
            ("byte", "s3-browser", "check: reading back: wrong byte at offset 1000000"),
            ("unasked", "hooks-create", "hook: {'pre-create': 719} came to the hook, not "
             "{'pre-create': 720}"),
            ("lost", "hooks-told", "hook: 1 post-finish never came"),
            ("disorder", "hooks-told", "hook: post-create of /files/"),
            ("twice", "hooks-told", "hook: post-finish of /files/"),
            ("byte", "hooks-told", "check: reading back: wrong byte"),
            ("same", "grants-ask-memory", "was given before"),
            ("forgotten", "grants-ask-memory", "check: the grant bench-"),
            ("free", "grants-create-memory", "POST without a token answered 201, expected [401]"),
            ("byte", "grants-small-memory", "check: reading back: wrong byte"),
            ("unheard", "grants-listen", "listeners heard 249 completions, and then no more"),
            ("again", "grants-listen", "a listener: the completion of bench-"),
            ("part", "direct-part", "no URL of part 2: "),
            ("part", "direct-batch", "no URL of part 2: "),
            ("other", "direct-part", "check: a signed upload answered 404"),
            ("same", "direct-form-memory", "check: measured-0 was signed before"),
            ("same", "direct-put-memory", "check: http://"),
            ("forged", "direct-put-memory", "check: a signed upload answered 403"),
            ("forged", "direct-form-memory", "check: a signed upload answered 403"),
            ("early", "direct-multipart", "in the bucket are (0, 0, "),
            ("early", "direct-part", "in the bucket are (0, 0, 16)"),
        ]:
            with self.subTest(lie=lie, mode=mode):
                status, result, printed, _ = run(lie, mode)
                self.assertEqual(status, 1)
                self.assertEqual(result["rows"], [])
                self.assertEqual(len(result["faults"]), 1)
                self.assertIn(reason, result["faults"][0]["reason"])
                self.assertIn("| failed |", printed)
                self.assertIn(reason, printed)


if __name__ == "__main__":
    unittest.main()
