"""Make the store's bucket as soon as the server beside this process answers."""

import sys
import time
from urllib.parse import urlsplit

from mantus.storage.objects import S3Store

deadline = time.monotonic() + 60
while True:
    try:
        S3Store(urlsplit(sys.argv[1]).netloc, "").ensure_bucket()
        break
    except OSError as error:
        if time.monotonic() > deadline:
            sys.exit(f"mantus: {error}")
        time.sleep(0.25)
