"""What the figures are held against: `python -m bench.floor parse|transaction|slow DIRECTORY`, a server in its own process.

`parse` does the least that any receiver in this language must do: read the body, parse it with the same pydantic models,
answer. `transaction` also commits, one transaction a request: what remediator would be without grouped commits; `slow` does
so on a disk with a slow fsync.
"""

import asyncio
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import web

from bench.slow_disk import SlowConnection
from remediator.app import BACKLOG
from remediator.ingress.payload import _MESSAGE as MESSAGE  # the same models, and nothing else of the product
from remediator.storage.sqlite import connect

BODY_BYTES_MAX = 8 * 1024 * 1024


async def parse_only(request: web.Request) -> web.Response:
    alerts = len(MESSAGE.validate_json(await request.read()).alerts)
    return web.Response(text=f'{{"accepted":{alerts}}}', content_type="application/json")


class TransactionEach:
    """Parse, then insert and commit by itself."""

    def __init__(self, path: Path, *, slowly: bool) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        opened: sqlite3.Connection = self._thread.submit(connect, path).result()
        self._connection = SlowConnection(opened) if slowly else opened
        self._connection.execute("CREATE TABLE inbox (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")

    async def __call__(self, request: web.Request) -> web.Response:
        body = await request.read()
        alerts = len(MESSAGE.validate_json(body).alerts)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, body)
        return web.Response(text=f'{{"accepted":{alerts}}}', content_type="application/json")

    def _commit(self, body: bytes) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO inbox (body) VALUES (?)", (body,))
        self._connection.execute("COMMIT")


async def serve(kind: str, directory: Path) -> None:
    application = web.Application(client_max_size=BODY_BYTES_MAX)
    handler = parse_only if kind == "parse" else TransactionEach(directory / "transaction.db", slowly=kind == "slow")
    application.add_routes([web.post("/webhook", handler)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
    print(f'{{"event": "bench.ready", "port": {runner.addresses[0][1]}}}', file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
