"""Approve and reject over the API: named people only, one answer to each question, taken in one transaction."""

from collections.abc import Callable

from aiohttp import web

from remediator.asking import Answer, Objection, take
from remediator.core.run import Run
from remediator.core.snapshot import Approval, Policy
from remediator.ingress.api import asked_view
from remediator.ingress.people import People, json_object, refusal, text_of
from remediator.ports import Ledger, Store
from remediator.telemetry import Telemetry


class Answers:
    """Handlers of what people answer to questions about plans."""

    def __init__(
        self,
        store: Store,
        people: People,
        policy: Callable[[], Policy],
        wake: Callable[[], None],
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._people = people
        self._policy = policy
        self._wake = wake
        self._tell = telemetry

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/v1/runs/{run}/approve", self._people.named(self.approve)),
            web.post("/api/v1/runs/{run}/reject", self._people.named(self.reject)),
        ]

    async def approve(self, request: web.Request, who: str) -> web.Response:
        return await self._answer(request, who, granted=True)

    async def reject(self, request: web.Request, who: str) -> web.Response:
        return await self._answer(request, who, granted=False)

    async def _answer(self, request: web.Request, who: str, *, granted: bool) -> web.Response:
        name, body = request.match_info["run"], await json_object(request)
        plan, why = text_of(body, "plan"), text_of(body, "why")
        if not (plan and why):
            return refusal(400, 'say which plan and why: {"plan": "3f8a...", "why": "the cache can be filled again"}')
        if body.get("by", who) != who:
            return refusal(403, f"the token is of {who}: nobody answers in another's name")
        answer = Answer(name, plan, granted, who, why)

        def work(ledger: Ledger) -> tuple[Run, Approval | Objection] | None:
            taken, run = take(ledger, answer, self._policy()), ledger.runs.get(name)
            return None if run is None or taken is None else (run, taken)

        found = await self._store.run(work)
        if found is None:
            return refusal(404, f"there is no run {name}")
        run, taken = found
        if isinstance(taken, Objection):
            return refusal(409, taken.why, asked=asked_view(taken.asked) if taken.asked else None)
        self._tell.answered(run, taken)
        self._wake()
        until = taken.expires_at.isoformat() if granted else None
        return web.json_response({"run": name, "plan": plan, "granted": granted, "by": who, "why": why, "valid_until": until})
