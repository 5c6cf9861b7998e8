"""Verifies one delivery, {"body", "headers"} on stdin, with the secret in the first argument."""

import json
import sys

from standardwebhooks.webhooks import Webhook

delivery = json.load(sys.stdin)
assert Webhook(sys.argv[1]).verify(delivery["body"], delivery["headers"])
