"""The door's HTTP server with nothing behind it: reads the body, answers {}.

python echo.py HOST PORT
"""

import sys
from typing import Any

import uvicorn

HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"2")]


async def app(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"{}"})


uvicorn.run(app, host=sys.argv[1], port=int(sys.argv[2]), loop="uvloop", http="httptools", lifespan="off",
            log_config=None, access_log=False, interface="asgi3")  # fmt: skip
