"""Write, read and remove one object with the credentials that jobs get."""

import sys
import uuid

from mantus.storage.objects import open_store

uri, name, data = sys.argv[1], f".mantus-test/{uuid.uuid4().hex}", b"mantus"
try:
    store = open_store(uri)
    store.put(name, data)
    found = store.get(name)
    store.delete(name)
except (OSError, ValueError) as error:
    sys.exit(f"mantus: {error}")
if found != data:
    sys.exit(f"mantus: {uri}: read {found!r} where {data!r} was written")
print(f"{uri}: an object was written, read and removed")
