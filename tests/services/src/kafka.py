"""kafka.py PORT: librdkafka's mock cluster of three brokers, which speaks Kafka's protocol.

Commands come over TCP on PORT of loopback, a line and a connection each, and are answered in JSON:

  brokers                         host:port of each
  topic NAME PARTITIONS           makes a topic
  down | up                       closes all brokers, or opens them again on the same ports
  lead TOPIC PARTITION BROKER     moves a partition to a broker (1, 2 or 3)
  refuse CODE COUNT               answers the next requests to store something with an error
  records TOPIC                   all that is in a topic, read and checked by librdkafka's consumer
"""

import ctypes
import glob
import json
import os
import socketserver
import sys

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, TopicPartition

PRODUCER = 0
PRODUCE = 0
BROKERS = 3

package = os.path.dirname(confluent_kafka.__file__)
[path] = glob.glob(os.path.join(package, "..", "confluent_kafka.libs", "librdkafka-*.so*"))
lib = ctypes.CDLL(path)
pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
for name, result, arguments in [
    ("new", pointer, [number, pointer, text, ctypes.c_size_t]),
    ("mock_cluster_new", pointer, [pointer, number]),
    ("mock_cluster_bootstraps", text, [pointer]),
    ("mock_topic_create", number, [pointer, text, number, number]),
    ("mock_push_request_errors_array", None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
    ("mock_clear_request_errors", None, [pointer, ctypes.c_int16]),
    ("mock_partition_set_leader", number, [pointer, text, ctypes.c_int32, ctypes.c_int32]),
    ("mock_broker_set_down", number, [pointer, ctypes.c_int32]),
    ("mock_broker_set_up", number, [pointer, ctypes.c_int32]),
]:
    function = getattr(lib, "rd_kafka_" + name)
    function.restype, function.argtypes = result, arguments

why = ctypes.create_string_buffer(512)
handle = lib.rd_kafka_new(PRODUCER, None, why, len(why))
assert handle, why.value
cluster = lib.rd_kafka_mock_cluster_new(handle, BROKERS)
assert cluster
brokers = lib.rd_kafka_mock_cluster_bootstraps(cluster).decode()


def must(code):
    assert code == 0, code
    return True


def refuse(code, count):
    lib.rd_kafka_mock_clear_request_errors(cluster, PRODUCE)
    errors = (ctypes.c_int * count)(*[code] * count)
    lib.rd_kafka_mock_push_request_errors_array(cluster, PRODUCE, count, errors)


def all_brokers(change):
    return all(must(change(cluster, broker)) for broker in range(1, BROKERS + 1))


def records(topic):
    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": "reader",
        "auto.offset.reset": "earliest",
        "check.crcs": True,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    })
    partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    unread, found = len(partitions), []
    while unread:
        message = consumer.poll(20)
        assert message is not None, "a partition does not end"
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            unread -= 1
            continue
        found.append({
            "partition": message.partition(),
            "key": message.key().decode(),
            "value": message.value().decode(),
            "headers": {name: value.decode() for name, value in message.headers() or []},
            "timestamp": message.timestamp()[1],
        })
    consumer.close()
    return found


commands = {
    "brokers": lambda: brokers,
    "topic": lambda name, partitions: must(
        lib.rd_kafka_mock_topic_create(cluster, name.encode(), int(partitions), 1)
    ),
    "down": lambda: all_brokers(lib.rd_kafka_mock_broker_set_down),
    "up": lambda: all_brokers(lib.rd_kafka_mock_broker_set_up),
    "lead": lambda topic, partition, broker: must(
        lib.rd_kafka_mock_partition_set_leader(
            cluster, topic.encode(), int(partition), int(broker)
        )
    ),
    "refuse": lambda code, count: refuse(int(code), int(count)),
    "records": records,
}


class Command(socketserver.StreamRequestHandler):
    def handle(self):
        args = self.rfile.readline().decode().split()
        if args:
            answer = commands[args[0]](*args[1:])
            self.wfile.write(json.dumps(answer).encode())


socketserver.TCPServer.allow_reuse_address = True
with socketserver.TCPServer(("127.0.0.1", int(sys.argv[1])), Command) as server:
    server.serve_forever()
