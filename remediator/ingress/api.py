"""The API for people and for `remediator` on the command line: runs and their timelines, pause and resume, reload, health.

Who may use it says `people.py`; what people decide about plans and breakers stands in `answers.py` and `breakers.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from remediator.announcements import sentence
from remediator.asking import question_of
from remediator.core.run import Run, RunState
from remediator.ingress.openapi import OPENAPI
from remediator.ingress.people import People, json_object, refusal, who_and_why
from remediator.ports import Asked, Clock, Ledger, LedgerRow, Store
from remediator.telemetry import Log

RUNS_MAX = 500

Reload = Callable[[], Sequence[str]]
"""Loads playbooks and planned maintenance anew; the problems, a line each, if the old ones were kept."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What keeps remediator from taking alerts, or empty; and what else an operator who asks should know."""

    missing: str = ""
    remark: str = ""


class Api:
    """Handlers of everything but the webhook."""

    def __init__(
        self,
        store: Store,
        people: People,
        registry: CollectorRegistry,
        reload: Reload,
        ready: Callable[[], Readiness],
        wake: Callable[[], None],
        clock: Clock,
        log: Log,
    ) -> None:
        self._store = store
        self._people = people
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
            web.post("/-/reload", self._people.any(self.reload)),
            web.get("/api/v1/openapi.json", self.openapi),
            web.get("/api/v1/runs", self._people.any(self.list_runs)),
            web.get("/api/v1/runs/{run}", self._people.any(self.show_run)),
            web.post("/api/v1/pause", self._people.any(self.pause)),
            web.post("/api/v1/resume", self._people.any(self.resume)),
        ]

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="healthy\n")

    async def ready(self, request: web.Request) -> web.Response:
        """200 while alerts are taken. That nothing is automatic is no reason to send them elsewhere: it is only said."""
        state = self._ready()
        lines = [state.missing or "ready", *filter(None, [state.remark])]
        return web.Response(text="".join(f"{line}\n" for line in lines), status=503 if state.missing else 200)

    async def openapi(self, request: web.Request) -> web.Response:
        return web.json_response(OPENAPI)

    async def reload(self, request: web.Request, who: str) -> web.Response:
        problems = self._reload()
        if problems:
            return web.json_response(
                {"error": "nothing was loaded; what was in force is kept", "problems": problems}, status=422
            )
        return web.json_response({"reloaded": True})

    async def list_runs(self, request: web.Request, who: str) -> web.Response:
        state = request.query.get("state", "")
        if state and state not in list(RunState):
            return refusal(400, f"state={state} is none of {', '.join(RunState)}")
        limit = request.query.get("limit", "50")
        if not limit.isdecimal() or len(limit) > len(str(RUNS_MAX)) or not 1 <= int(limit) <= RUNS_MAX:
            return refusal(400, f"limit={limit[:20]} is not a number from 1 to {RUNS_MAX}")
        runs = await self._store.run(lambda ledger: ledger.runs.list(int(limit), state))
        return web.json_response({"runs": [run_view(run) for run in runs]})

    async def show_run(self, request: web.Request, who: str) -> web.Response:
        name = request.match_info["run"]

        def work(ledger: Ledger) -> tuple[Run, Asked | None, Sequence[LedgerRow]] | None:
            run = ledger.runs.get(name)
            return None if run is None else (run, question_of(ledger, run), ledger.runs.timeline(name))

        found = await self._store.run(work)
        if found is None:
            return refusal(404, f"there is no run {name}")
        run, asked, timeline = found
        shown = run_view(run) | {"asked": asked_view(asked) if asked else None}
        return web.json_response({"run": shown, "timeline": [row_view(row) for row in timeline]})

    async def pause(self, request: web.Request, who: str) -> web.Response:
        return await self._throw_switch(request, who, paused=True)

    async def resume(self, request: web.Request, who: str) -> web.Response:
        return await self._throw_switch(request, who, paused=False)

    async def _throw_switch(self, request: web.Request, who: str, *, paused: bool) -> web.Response:
        said = who_and_why(who, await json_object(request))
        if said is None:
            return refusal(400, 'say who and why: {"by": "ann", "why": "database migration"}')
        by, why = said
        now = self._clock.now()
        await self._store.run(lambda ledger: (ledger.switch.pause if paused else ledger.switch.resume)(by, why, now))
        self._log.warning("switch.paused" if paused else "switch.resumed", by=by, why=why)
        self._wake()
        return web.json_response({"paused": paused, "by": by, "why": why})


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


def asked_view(asked: Asked) -> dict[str, Any]:
    """What people are asked, as the API shows it: an answer names the plan."""
    return {"plan": asked.plan, "command": asked.command, "until": asked.until.isoformat()}


def row_view(row: LedgerRow) -> dict[str, Any]:
    """A row of a timeline: the facts, and the sentence that tells them."""
    return {"at": row.at.isoformat(), "kind": row.kind, "step": row.rung + 1, "text": sentence(row), "data": dict(row.data)}
