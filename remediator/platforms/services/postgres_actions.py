"""PostgreSQL, the writing side: sessions, queries, maintenance, backups. Only built where something may act."""

from functools import partial

from remediator.core.postgres_step import (
    CancelLongQueries,
    PostgresDump,
    PostgresReindex,
    PostgresRestore,
    PostgresVacuum,
    TerminateIdle,
)
from remediator.core.step import Step
from remediator.core.target import Workload
from remediator.platforms import MaySend, always, ensure_may_send
from remediator.platforms.services import postgres_backups as backups
from remediator.platforms.services import postgres_maintenance as upkeep
from remediator.platforms.services import postgres_signals as signals
from remediator.platforms.services.addresses import Services
from remediator.platforms.services.postgres import own
from remediator.ports import Facts


class PostgresActuator:
    """`may_send` is asked once PostgreSQL has answered, right before the statement that changes something is sent."""

    def __init__(self, services: Services, may_send: MaySend = always) -> None:
        self._services = services
        self._before = partial(ensure_may_send, may_send)

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        match own(step):
            case TerminateIdle() | CancelLongQueries() as signal:
                chosen = signals.signal_of(signal)
                return await signals.perform(self._services, workload.service, chosen, mark, self._before)
            case PostgresVacuum() | PostgresReindex() as maintenance:
                return await upkeep.perform(self._services, workload.service, maintenance, self._before)
            case PostgresDump() | PostgresRestore() as backup:
                return await backups.perform(self._services, workload.service, backup, mark, self._before)
