"""A hook server over gRPC, written as one for tusd is: stubs from the .proto, one method.

    grpc_hooks.py PORT FOLDER    (FOLDER holds hook_pb2 and hook_pb2_grpc)

It rejects files named *.exe, renames and labels the others, and prints the messages as JSON.
"""

import json
import sys
from concurrent import futures

import grpc
from google.protobuf.json_format import MessageToDict

sys.path.insert(0, sys.argv[2])
import hook_pb2 as pb  # noqa: E402
import hook_pb2_grpc as service  # noqa: E402


class Hooks(service.HookHandlerServicer):
    """Allows or rejects creations, and records the rest."""

    def InvokeHook(self, request, context):
        seen = MessageToDict(request, preserving_proto_field_name=True)
        seen["metadata"] = dict(context.invocation_metadata())
        print(json.dumps(seen), flush=True)
        if request.type != "pre-create":
            return pb.HookResponse()
        meta = dict(request.event.upload.metaData)
        if meta.get("filename", "").endswith(".exe"):
            return pb.HookResponse(rejectUpload=True, httpResponse=pb.HTTPResponse(
                statusCode=403, body="no programs, please", header={"X-Why": "exe"}))
        changes = pb.FileInfoChanges(id="from-python", metaData={**meta, "seen": "yes"})
        changes.labels["team"] = "red"
        return pb.HookResponse(changeFileInfo=changes,
                               httpResponse=pb.HTTPResponse(header={"X-Welcome": "by gRPC"}))


server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
service.add_HookHandlerServicer_to_server(Hooks(), server)
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
