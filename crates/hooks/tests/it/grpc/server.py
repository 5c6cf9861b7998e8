"""A hook server on grpcio: server.py PROTO TLS FOLDER PORT

PROTO is what its Python is made of, in FOLDER. With TLS, a folder, it shows server.pem (server.key) and
wants clients of ca.pem; "-" is none.

What it answers is up to the upload's metadata "say":

seen    a body that tells what has arrived, as JSON
all     something in each field that PROTO has
later   UNAVAILABLE to the first two attempts
no      FAILED_PRECONDITION
"""

import concurrent.futures
import json
import pathlib
import sys

import grpc
from google.protobuf import json_format
from grpc_tools import protoc

proto, tls, folder, port = sys.argv[1:]
proto, folder = pathlib.Path(proto), pathlib.Path(folder)
made = protoc.main(
    ["protoc", f"-I{proto.parent}", f"--python_out={folder}", f"--grpc_python_out={folder}", str(proto)]
)
if made:
    sys.exit(made)
sys.path.insert(0, str(folder))
import hook_pb2  # noqa: E402
import hook_pb2_grpc  # noqa: E402


def fill(message):
    """Puts something into each field."""
    for field in message.DESCRIPTOR.fields:
        entry = field.message_type
        if entry and entry.GetOptions().map_entry:
            getattr(message, field.name)[f"x-{field.name}"] = field.name
        elif entry:
            fill(getattr(message, field.name))
        elif field.is_repeated:
            getattr(message, field.name).append(field.name)
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, field.name)
        elif field.type == field.TYPE_BOOL:
            setattr(message, field.name, True)
        else:
            setattr(message, field.name, 200 + field.number)
    return message


class Hooks(hook_pb2_grpc.HookHandlerServicer):
    def InvokeHook(self, request, context):
        say = request.event.upload.metaData["say"]
        metadata = dict(context.invocation_metadata())
        answer = hook_pb2.HookResponse()
        if say == "seen":
            seen = json_format.MessageToDict(request, always_print_fields_with_no_presence=True)
            answer.httpResponse.body = json.dumps({"request": seen, "metadata": metadata})
        elif say == "all":
            fill(answer)
        elif say == "later":
            attempt = metadata.get("x-retry-attempty", "0")
            if attempt != "2":
                context.abort(grpc.StatusCode.UNAVAILABLE, f"attempt {attempt}")
            answer.httpResponse.body = "at last"
        else:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{say}: Zoë")
        return answer


server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
hook_pb2_grpc.add_HookHandlerServicer_to_server(Hooks(), server)
address = f"127.0.0.1:{port}"
if tls == "-":
    server.add_insecure_port(address)
else:
    key, chain, clients = ((pathlib.Path(tls) / name).read_bytes() for name in ("server.key", "server.pem", "ca.pem"))
    credentials = grpc.ssl_server_credentials([(key, chain)], clients, require_client_auth=True)
    server.add_secure_port(address, credentials)
server.start()
server.wait_for_termination()
