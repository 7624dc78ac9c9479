"""A Litestar application with one route and nothing else, on a server set up like the API's."""

import sys

import uvicorn
import uvloop
from litestar import Litestar, get


@get("/", media_type="text/plain", sync_to_thread=False)
def bare() -> str:
    return "ok"


def main() -> None:
    app = Litestar([bare], openapi_config=None, logging_config=None)
    port = int(sys.argv[1])
    config = uvicorn.Config(app, port=port, http="httptools", ws="none", access_log=False, log_config=None)
    uvloop.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
