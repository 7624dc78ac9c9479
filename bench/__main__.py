"""`python -m bench [--size-mib N] [--rounds N]`: starts a real store and the API, prints the tables."""

import argparse
import tempfile
from pathlib import Path

from bench.upload import bench_upload
from tests.lab.product import product_on
from tests.lab.rgw import rgw


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--size-mib", type=int, default=2048, help="size of the uploaded file")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, rgw(Path(directory)) as gateway:
        server = gateway.server
        logs = Path(directory)
        with product_on(server.endpoint_url, server.access_key, server.secret_key, logs) as product:
            bench_upload(product, arguments.size_mib, arguments.rounds)


if __name__ == "__main__":
    main()
