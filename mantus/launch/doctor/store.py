"""Whether a store can be reached and written: one object is written, read and removed. It knows no cluster."""

import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from mantus.launch.doctor.checks import Check
from mantus.storage import Store, StoreError, open_store
from mantus.storage.objects import S3Store, s3_client

PROBE = b"mantus doctor"


def check_store(uri: str, environment: Mapping[str, str] | None = None) -> Check:
    """Write, read and remove a probe object at `uri`.

    environment: AWS_* settings to use instead of this process's own.
    """
    name = f"doctor/{secrets.token_hex(8)}"
    try:
        store = _open(uri, environment)
        store.put(name, PROBE)
        try:
            same = store.get(name) == PROBE
        finally:
            store.delete(name)
    except ValueError as error:
        return Check("store", "lacks", str(error))
    except FileNotFoundError as error:
        return Check("store", "lacks", f"{error}, though it was just written", "is the store consistent?")
    except StoreError as error:
        return Check("store", "lacks", str(error))
    if not same:
        return Check("store", "lacks", f"{uri} gives other bytes than were written", "use another S3 server")
    return Check("store", "ok", f"{uri} can be written and read")


def _open(uri: str, environment: Mapping[str, str] | None) -> Store:
    store = open_store(uri)
    if environment is None or not isinstance(store, S3Store):
        return store
    return S3Store(store.bucket, store.prefix, s3_client(environment))


def is_internal(endpoint: str) -> bool:
    """Whether an endpoint has a name that only a cluster knows."""
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".svc", ".local")) or (bool(host) and "." not in host and ":" not in host)
