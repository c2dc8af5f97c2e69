"""A Grafana that knows annotations, as documented: https://grafana.com/docs/grafana/latest/developers/http_api/annotations/.

Real sockets, real JSON; what it holds and was asked can be looked at, and it can be told to fail. Words of errors are
those of Grafana 10 and 11.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

TOKEN = "glsa_right"
EVERYTHING = frozenset({"annotations:read", "annotations:create", "annotations:write"})
DENIED = "You'll need additional permissions to perform this action. Permissions needed: "


@dataclass(slots=True)
class GrafanaFake:
    """`annotations` by id, as Grafana returns them. `requests` are `METHOD /path` of what came in, failed ones too."""

    url: str = ""
    annotations: dict[int, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    permissions: frozenset[str] = EVERYTHING
    failing: int = 0
    """Answer everything with this status, unless 0."""
    retry_after: str = ""
    """The `Retry-After` header of such an answer."""
    slow: bool = False
    """Do what is asked, and answer nothing."""

    def tagged(self, tag: str) -> list[dict[str, Any]]:
        """The annotations with this tag, the oldest first."""
        return [annotation for annotation in self.annotations.values() if tag in annotation["tags"]]

    @web.middleware
    async def _border(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        if self.failing:
            headers = {"Retry-After": self.retry_after} if self.retry_after else None
            return web.json_response({"message": "an error told to happen"}, status=self.failing, headers=headers)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response(
                {"message": "Invalid API key", "messageId": "api-key.invalid", "statusCode": 401}, status=401
            )
        needed = {"GET": "annotations:read", "POST": "annotations:create", "PATCH": "annotations:write"}.get(request.method, "")
        if needed not in self.permissions:
            body = {"accessErrorId": "ACE0000000000", "message": DENIED + needed, "title": "Access denied"}
            return web.json_response(body, status=403)
        answer: web.StreamResponse = await handler(request)
        if self.slow:
            await asyncio.sleep(3600)
        return answer

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if not asked.get("text"):
            return web.json_response({"message": "Failed to save annotation"}, status=400)
        number = len(self.annotations) + 1
        time = asked.get("time", 0)
        self.annotations[number] = {
            "id": number, "alertId": 0, "dashboardId": 0, "panelId": 0, "userId": 1, "newState": "", "prevState": "",
            "time": time, "timeEnd": asked.get("timeEnd") or time, "text": asked["text"], "tags": asked.get("tags", []),
            "data": {},
        }  # fmt: skip
        return web.json_response({"message": "Annotation added", "id": number})

    async def _patch(self, request: web.Request) -> web.Response:
        known = self.annotations.get(int(request.match_info["id"]))
        if known is None:
            return web.json_response({"message": "Annotation not found"}, status=404)
        asked = await request.json()
        known.update({name: asked[name] for name in ("text", "tags", "time", "timeEnd") if asked.get(name)})
        return web.json_response({"message": "Annotation patched"})

    async def _find(self, request: web.Request) -> web.Response:
        tags = set(request.query.getall("tags", []))
        limit = int(request.query.get("limit", "100"))
        newest_first = sorted(self.annotations.values(), key=lambda annotation: annotation["time"], reverse=True)
        return web.json_response([annotation for annotation in newest_first if tags <= set(annotation["tags"])][:limit])


@asynccontextmanager
async def grafana_fake() -> AsyncIterator[GrafanaFake]:
    """Listens on a free loopback port, at `url`, until the block ends."""
    fake = GrafanaFake()
    app = web.Application(middlewares=[fake._border])
    app.router.add_post("/api/annotations", fake._create)
    app.router.add_get("/api/annotations", fake._find)
    app.router.add_patch("/api/annotations/{id:[0-9]+}", fake._patch)
    async with TestServer(app) as server:
        fake.url = str(server.make_url("")).rstrip("/")
        yield fake
