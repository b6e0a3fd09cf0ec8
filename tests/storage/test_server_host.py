"""The embedded server at an address that others reach."""

from pathlib import Path
from urllib.parse import urlsplit

import psutil

from mantus.storage.objects import S3Store, s3_client
from mantus.storage.server import EmbeddedS3


def test_s3_answers_at_that_address_and_nothing_else_does(tmp_path: Path):
    server = EmbeddedS3(tmp_path, host="127.0.0.2")
    with server as environment:
        address = urlsplit(environment["AWS_ENDPOINT_URL"])
        store = S3Store("mantus", "", s3_client(environment))
        store.put("x", b"1")
        assert store.get("x") == b"1"
        assert server.process is not None
        ports = {server._ports["s3.port"], server._ports["s3.port.grpc"]}
        found = [c.laddr for c in psutil.Process(server.process.pid).connections("tcp") if c.status == "LISTEN"]
        assert {ip for ip, _ in found} <= {"127.0.0.1", "127.0.0.2"}
        assert address.port in ports
        assert {port for ip, port in found if ip == "127.0.0.2"} == ports
