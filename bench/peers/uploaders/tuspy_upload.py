"""Uploads a file by tuspy: URL PATH."""

import sys

from tusclient import client

url, path = sys.argv[1:]
client.TusClient(url).uploader(path, chunk_size=64 << 20).upload()
