"""The API for people and for `remediator` on the command line: runs and their timelines, pause and resume, reload, health.

Who may: with REMEDIATOR_OPERATORS_FILE, whoever has a token of it; without, only callers on the same host, who must say
who they are. A page in a browser on that host is no such caller: it sends `Origin` with what it posts (CSRF), and a name
of its own in `Host` once it has that name point here (DNS rebinding); both are refused. Pause and resume take JSON only.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from remediator.announcements import sentence
from remediator.core.run import Run, RunState
from remediator.ingress.auth import Operators
from remediator.ingress.openapi import OPENAPI
from remediator.ports import Clock, LedgerRow, Store, StoreUnavailable
from remediator.telemetry import Log

RUNS_MAX = 500
LOCAL_ONLY = "only callers on the same host may do this, at localhost or a loopback address, and no web page"
NOT_LOCAL = frozenset({"Forwarded", "X-Forwarded-For", "Origin"})
"""Headers of proxies, and of requests that a web page has caused."""

Reload = Callable[[], Sequence[str]]
"""Loads playbooks anew; the problems, a line each, if the old ones were kept."""


class Api:
    """Handlers of everything but the webhook."""

    def __init__(
        self,
        store: Store,
        operators: Operators,
        registry: CollectorRegistry,
        reload: Reload,
        ready: Callable[[], str],
        wake: Callable[[], None],
        clock: Clock,
        log: Log,
    ) -> None:
        self._store = store
        self._operators = operators
        self._registry = registry
        self._reload = reload
        self._ready = ready
        self._wake = wake
        self._clock = clock
        self._log = log

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/metrics", self.metrics),
            web.get("/-/healthy", self.healthy),
            web.get("/-/ready", self.ready),
            web.post("/-/reload", self._for_people(self.reload)),
            web.get("/api/v1/openapi.json", self.openapi),
            web.get("/api/v1/runs", self._for_people(self.list_runs)),
            web.get("/api/v1/runs/{run}", self._for_people(self.show_run)),
            web.post("/api/v1/pause", self._for_people(self.pause)),
            web.post("/api/v1/resume", self._for_people(self.resume)),
        ]

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="healthy\n")

    async def ready(self, request: web.Request) -> web.Response:
        missing = self._ready()
        return web.Response(text=missing or "ready\n", status=503 if missing else 200)

    async def openapi(self, request: web.Request) -> web.Response:
        return web.json_response(OPENAPI)

    async def reload(self, request: web.Request, who: str) -> web.Response:
        problems = self._reload()
        if problems:
            return web.json_response(
                {"error": "the playbooks were not loaded; the old ones are kept", "problems": problems}, status=422
            )
        return web.json_response({"reloaded": True})

    async def list_runs(self, request: web.Request, who: str) -> web.Response:
        state = request.query.get("state", "")
        if state and state not in list(RunState):
            return _error(400, f"state={state} is none of {', '.join(RunState)}")
        limit = request.query.get("limit", "50")
        if not limit.isdecimal() or len(limit) > len(str(RUNS_MAX)) or not 1 <= int(limit) <= RUNS_MAX:
            return _error(400, f"limit={limit[:20]} is not a number from 1 to {RUNS_MAX}")
        runs = await self._store.run(lambda ledger: ledger.runs.list(int(limit), state))
        return web.json_response({"runs": [run_view(run) for run in runs]})

    async def show_run(self, request: web.Request, who: str) -> web.Response:
        name = request.match_info["run"]
        run, timeline = await self._store.run(lambda ledger: (ledger.runs.get(name), ledger.runs.timeline(name)))
        if run is None:
            return _error(404, f"there is no run {name}")
        return web.json_response({"run": run_view(run), "timeline": [row_view(row) for row in timeline]})

    async def pause(self, request: web.Request, who: str) -> web.Response:
        return await self._throw_switch(request, who, paused=True)

    async def resume(self, request: web.Request, who: str) -> web.Response:
        return await self._throw_switch(request, who, paused=False)

    async def _throw_switch(self, request: web.Request, who: str, *, paused: bool) -> web.Response:
        said = await _json_object(request)
        who, why = who or said.get("by", ""), said.get("why", "")
        if not (isinstance(who, str) and isinstance(why, str) and who.strip() and why.strip()):
            return _error(400, 'say who and why: {"by": "ann", "why": "database migration"}')
        now = self._clock.now()
        await self._store.run(lambda ledger: (ledger.switch.pause if paused else ledger.switch.resume)(who, why, now))
        self._log.warning("switch.paused" if paused else "switch.resumed", by=who, why=why)
        self._wake()
        return web.json_response({"paused": paused, "by": who, "why": why})

    def _for_people(
        self, handler: Callable[[web.Request, str], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Only for operators, or for this host where none are configured; a store that is down is a 503."""

        async def guarded(request: web.Request) -> web.Response:
            who = self._operators.who(request.headers.get("Authorization", ""))
            if self._operators.tokens and not who:
                return _error(401, "send a bearer token of REMEDIATOR_OPERATORS_FILE")
            if not self._operators.tokens and not _is_local(request):
                return _error(403, f"until REMEDIATOR_OPERATORS_FILE is configured, {LOCAL_ONLY}")
            try:
                return await handler(request, who)
            except StoreUnavailable as error:
                return _error(503, str(error))

        return guarded


def run_view(run: Run) -> dict[str, Any]:
    """A run as the API shows it."""
    return {
        "id": run.id,
        "state": run.state,
        "reason": run.reason,
        "playbook": run.playbook,
        "playbook_version": run.playbook_version,
        "target": run.target,
        "step": run.rung + 1,
        "episode": run.episode.id,
        "labels": dict(run.episode.labels),
        "created_at": run.created_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
    }


def row_view(row: LedgerRow) -> dict[str, Any]:
    """A row of a timeline: the facts, and the sentence that tells them."""
    return {"at": row.at.isoformat(), "kind": row.kind, "step": row.rung + 1, "text": sentence(row), "data": dict(row.data)}


async def _json_object(request: web.Request) -> Mapping[str, Any]:
    """The body of a command. Raises the 4xx that says what is wrong with it."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send application/json\n")
    try:
        said = await request.json()
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text="the body is not JSON\n") from error
    if not isinstance(said, dict):
        raise web.HTTPBadRequest(text="the body is not a JSON object\n")
    return said


def _is_local(request: web.Request) -> bool:
    """From this host itself: not through a proxy that stands on it, nor by a page in a browser that runs on it."""
    if not NOT_LOCAL.isdisjoint(request.headers):
        return False
    try:
        called = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    except ValueError:
        return False
    return _is_loopback(request.remote or "") and (called == "localhost" or _is_loopback(called))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _error(status: int, why: str) -> web.Response:
    return web.json_response({"error": why}, status=status)
