"""Breakers over the API: which are not closed, and their reset by a person, on record with who and why."""

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from remediator.ingress.expand import Admission
from remediator.ingress.people import People, json_object, refusal, text_of, who_and_why
from remediator.ports import Breaker, Clock, Ledger, Store
from remediator.telemetry import Log

WHICH = 'say which breaker, who and why: {"target": "docker:container/shop-api-1", "by": "ann", "why": "disk replaced"}'


class Breakers:
    """Handlers of what people see and do about breakers."""

    def __init__(
        self,
        store: Store,
        people: People,
        admission: Callable[[], Admission],
        wake: Callable[[], None],
        clock: Clock,
        log: Log,
    ) -> None:
        self._store = store
        self._people = people
        self._admission = admission
        self._wake = wake
        self._clock = clock
        self._log = log

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/breakers", self._people.any(self.list)),
            web.post("/api/v1/breaker/reset", self._people.any(self.reset)),
        ]

    async def list(self, request: web.Request, who: str) -> web.Response:
        found = await self._store.run(self._not_closed)
        now = self._clock.now()
        shown = [{**breaker_view(each), "state": "open" if now < each.open_until else "half-open"} for each in found]
        return web.json_response({"breakers": shown})

    async def reset(self, request: web.Request, who: str) -> web.Response:
        body = await json_object(request)
        said, target, playbook = who_and_why(who, body), text_of(body, "target"), text_of(body, "playbook")
        if said is None or bool(target) == bool(playbook):
            return refusal(400, WHICH)
        by, why = said

        def work(ledger: Ledger) -> tuple[Breaker | None, int]:
            found = next((each for each in self._not_closed(ledger) if _is_of(each, target, playbook)), None)
            if found is None:
                return None, 0
            ledger.breakers.reset(found, by, why, ledger.now)
            stopped = ledger.breakers.stopped(found)
            return found, sum(self._admission().admit(ledger, episode, ledger.now) for episode in stopped)

        found, begun = await self._store.run(work)
        if found is None:
            return refusal(
                409, f"nothing to reset: no breaker of {f'target {target}' if target else f'playbook {playbook}'} is open"
            )
        self._log.warning("breaker.reset", target=target, playbook=playbook, by=by, why=why)
        self._wake()
        return web.json_response({"reset": breaker_view(found), "by": by, "why": why, "begun": begun})

    def _not_closed(self, ledger: Ledger) -> Sequence[Breaker]:
        return [each for playbook in self._admission().playbooks.playbooks for each in ledger.breakers.of(playbook)]


def _is_of(breaker: Breaker, target: str, playbook: str) -> bool:
    return breaker.target == target if target else (breaker.target, breaker.playbook) == ("", playbook)


def breaker_view(breaker: Breaker) -> dict[str, Any]:
    """A breaker as the API shows it; `target` is empty for that of a whole playbook."""
    return {
        "playbook": breaker.playbook,
        "target": breaker.target,
        "open_until": breaker.open_until.isoformat(),
        "opened_times": breaker.opened_times,
    }
