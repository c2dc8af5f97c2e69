"""The one place that wires things: settings in, a running remediator out. Tests start it in process."""

import asyncio
import gc
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from aiohttp import ClientSession, ClientTimeout, web

from remediator import __version__
from remediator.clock import SystemClock, elapsed, jitter, new_id
from remediator.core.playbook import Mode, Playbook, lowest
from remediator.core.snapshot import Policy
from remediator.extensions.connect import connected
from remediator.extensions.installed import installed
from remediator.gaps import unconfigured, unworkable
from remediator.housekeeping import Housekeeping, Inventory
from remediator.ingress.answers import Answers
from remediator.ingress.api import Api, Readiness
from remediator.ingress.auth import WebhookAuth, read_operators, read_secret
from remediator.ingress.breakers import Breakers
from remediator.ingress.expand import Admission
from remediator.ingress.people import People
from remediator.ingress.webhook import Webhook
from remediator.leases import Leases
from remediator.outbound.alertmanager import AlertmanagerClient
from remediator.outbound.delivery import Delivery
from remediator.outbound.grafana import GrafanaAnnotations
from remediator.outbound.notify import EscalationWebhook
from remediator.outbound.prometheus import PrometheusClient
from remediator.playbook_files import parse_playbook
from remediator.ports import (
    Actuator,
    AlertList,
    Announcer,
    Channel,
    Clock,
    Executor,
    Platform,
    PortError,
    Store,
    StoreUnavailable,
)
from remediator.reconcile import Reconciliation, Rhythm
from remediator.remediate import Remediator
from remediator.settings import Settings
from remediator.shelf import Shelf
from remediator.storage.address import Address, BadAddress, PostgresAddress, parse_address
from remediator.storage.migrate import upgrade, upgrade_apart
from remediator.storage.sqlite import SqliteStore
from remediator.telemetry import Log, Metrics, Telemetry
from remediator.watchdog import DeadMansSwitch
from remediator.worker import Pace, Worker
from remediator.world import World

Upgrade = Callable[[Address], str]
Rights = Callable[[], Awaitable[Sequence[str]]]
"""What a platform refuses to let remediator do, a line each. Raises TransientError or PermanentError."""
ENGINE_TIMEOUT = timedelta(seconds=15)
HTTP_SECONDS = 10
KEEPALIVE_SECONDS = 75.0
"""A connection without a whole request, half-sent headers included, is closed after this (aiohttp 3.14)."""
PORT_MAX = 65_535
LINGER_SECONDS = 2.0
"""After an answer to a body that was not read to its end, so that the sender can read why."""
SWITCH_SECONDS = 0.001
"""How long the loop's thread and the store's may keep the interpreter from each other. Python's own is 5 ms."""
BACKLOG = 1024
"""Alertmanager was seen to open 700 to 1,050 connections in a burst (design, section 7a)."""


class BadConfiguration(Exception):
    """Remediator cannot start with these settings; the text says what to write instead."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The neighbours: what is acted on, what housekeeping asks, who is told, whose list of alerts is reconciled with."""

    world: World
    inventories: Sequence[Inventory] = ()
    announcers: Mapping[Channel, Announcer] = field(default_factory=dict)
    alert_list: AlertList | None = None
    rights: Sequence[Rights] = ()


class OpenStore(Store, Protocol):
    """A store as the process that has opened it sees it."""

    is_up: bool
    """Whether the last attempt to write succeeded."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class App:
    """A running remediator. `port` is what it listens on."""

    port: int
    shelf: Shelf
    worker: Worker
    store: OpenStore
    metrics: Metrics
    reconciliation: Reconciliation
    watchdog: DeadMansSwitch


def open_store(
    settings: Settings, policy: Callable[[], Policy], clock: Clock, upgrade: Upgrade = upgrade
) -> tuple[OpenStore, Clock]:
    """The store that REMEDIATOR_STORE names, with its schema brought up to date, and the clock that all its users go by.

    That is the host's, `clock`, where one process uses the store, and the database's where several do.
    Raises BadConfiguration, StoreInUse or SchemaTooNew.
    """
    address = store_address(settings)
    with usable(address):
        if isinstance(address, PostgresAddress):
            from remediator.storage.postgres import PostgresStore

            upgrade(address)
            shared = PostgresStore(address, policy, settings.confirm_after, elapsed)
            shared.ask_the_time()
            return shared, shared.clock
        store = SqliteStore(address, policy, settings.confirm_after, clock)
        upgrade(address)
        return store, clock


@contextmanager
def usable(address: Address) -> Iterator[None]:
    """What the file system or the database has against being the store is for the operator to put right."""
    try:
        yield
    except (OSError, sqlite3.Error, StoreUnavailable) as error:
        raise BadConfiguration(f"REMEDIATOR_STORE: {address} cannot be used: {error}") from error


def store_address(settings: Settings) -> Address:
    """Where the store is. Raises BadConfiguration."""
    try:
        return parse_address(settings.store)
    except BadAddress as error:
        raise BadConfiguration(f"REMEDIATOR_STORE: {error}") from error


def effective_policy(settings: Settings) -> Policy:
    """The configured policy; who posts alerts must prove who they are before anything is done on their word."""
    if settings.webhook_is_authenticated:
        return settings.policy
    return replace(settings.policy, mode=lowest((settings.mode, Mode.SUGGEST)))


@asynccontextmanager
async def surroundings(
    settings: Settings, *, may_act: bool, may_send: Callable[[], bool] = lambda: True
) -> AsyncIterator[Surroundings]:
    """Platforms and data services as configured. Without `may_act` the writing sides are not even built (promise S7).

    `may_send`, asked on any thread: whether what has waited to be sent may still be sent.
    Everything is imported only when configured: a Docker-only installation does not pay for PostgreSQL.
    """
    platforms: dict[str, Platform] = {}
    actuators: dict[str, Actuator] = {}
    executors: dict[str, Executor] = {}
    inventories: list[Inventory] = []
    rights: list[Rights] = []
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession(timeout=ClientTimeout(total=HTTP_SECONDS)))
        if settings.docker_url:
            from remediator.platforms.docker import DockerPlatform
            from remediator.platforms.docker_actions import DockerActuator
            from remediator.platforms.docker_engine import DockerEngine, own_container_id

            engine = DockerEngine(settings.docker_url, settings.engine_threads, ENGINE_TIMEOUT, may_send)
            stack.callback(engine.close)
            docker = platforms["docker"] = DockerPlatform(engine, own_container_id())
            inventories.append(docker.inventory)
            if may_act:
                actuators["docker"] = executors["docker"] = DockerActuator(engine)
        if settings.kubernetes:
            from remediator.platforms.kubernetes import KubernetesPlatform
            from remediator.platforms.kubernetes_actions import KubernetesActuator
            from remediator.platforms.kubernetes_api import KubernetesApi
            from remediator.platforms.kubernetes_connection import KubernetesConnection, own_pod
            from remediator.platforms.kubernetes_nodes import KubernetesNodes, KubernetesNodesActuator
            from remediator.platforms.kubernetes_rights import (
                NODES_READING,
                NODES_WRITING,
                READING,
                WRITING,
                missing_rights,
            )

            connection = KubernetesConnection(settings.kubernetes, settings.kubernetes_context)
            stack.push_async_callback(connection.forget)
            api = KubernetesApi(connection, ENGINE_TIMEOUT, may_send)
            namespaces = settings.namespaces
            cluster = platforms["kubernetes"] = KubernetesPlatform(api, namespaces, SystemClock(), new_id, own_pod())
            inventories.append(cluster.inventory)
            rights.append(partial(missing_rights, api, namespaces, READING, WRITING if may_act else {}))
            if may_act:
                actuators["kubernetes"] = executors["kubernetes"] = KubernetesActuator(api)
            if settings.kubernetes_nodes:
                platforms["kubernetes-nodes"] = KubernetesNodes(api, own_pod())
                rights.append(partial(missing_rights, api, ("",), NODES_READING, NODES_WRITING if may_act else {}))
                if may_act:
                    actuators["kubernetes-nodes"] = KubernetesNodesActuator(api)
        if settings.commands:
            from remediator.platforms.command import CommandActuator, CommandPlatform

            platforms["command"] = CommandPlatform(settings.commands)
            if may_act:
                actuators["command"] = CommandActuator(settings.commands, may_send)
        if any(endpoints.http or endpoints.tcp for endpoints in settings.services.values()):
            from remediator.platforms.services.http import NetworkProbes

            platforms["http"] = platforms["tcp"] = NetworkProbes(settings.services, session)
        if any(endpoints.postgres for endpoints in settings.services.values()):
            from remediator.platforms.services.postgres import PostgresDatabases
            from remediator.platforms.services.postgres_actions import PostgresActuator

            platforms["postgres"] = PostgresDatabases(settings.services)
            if may_act:
                actuators["postgres"] = PostgresActuator(settings.services, may_send)
        if any(endpoints.kafka for endpoints in settings.services.values()):
            from remediator.platforms.services.kafka import KafkaClusters

            platforms["kafka"] = KafkaClusters(settings.services)
        if any(endpoints.redis for endpoints in settings.services.values()):
            from remediator.platforms.services.redis import RedisCaches
            from remediator.platforms.services.redis_actions import RedisActuator

            platforms["redis"] = RedisCaches(settings.services)
            if may_act:
                actuators["redis"] = RedisActuator(settings.services, may_send)
        added = await stack.enter_async_context(connected(settings.extensions, installed(), may_send if may_act else None))
        platforms |= added.platforms
        actuators |= added.actuators
        prometheus = PrometheusClient(session, settings.prometheus_url) if settings.prometheus_url else None
        if prometheus is not None:
            platforms["prometheus"] = prometheus
        alerts = (
            AlertmanagerClient(
                session, settings.alertmanager_url, settings.alertmanager_receiver, settings.alertmanager_warm_up
            )
            if settings.alertmanager_url
            else None
        )
        world = World(platforms, actuators, executors, alerts, prometheus)
        yield Surroundings(world, inventories, announcers(settings, session), alerts, rights)


def announcers(settings: Settings, session: ClientSession) -> Mapping[Channel, Announcer]:
    """Whoever is configured to be told."""
    told: dict[Channel, Announcer] = {}
    if settings.grafana_url:
        token = read_secret("REMEDIATOR_GRAFANA_TOKEN_FILE", settings.grafana_token_file)
        told[Channel.ANNOTATION] = GrafanaAnnotations(session, settings.grafana_url, token)
    if settings.escalation_url:
        token = read_secret("REMEDIATOR_ESCALATION_TOKEN_FILE", settings.escalation_token_file)
        told[Channel.ESCALATION] = EscalationWebhook(session, settings.escalation_url, token)
    return told


@asynccontextmanager
async def running(
    settings: Settings,
    log: Log,
    clock: Clock | None = None,
    around: Surroundings | None = None,
    upgrade: Upgrade = upgrade,
) -> AsyncIterator[App]:
    """Remediator, from listening to drained. `around` replaces the configured surroundings, for tests and benchmarks.

    Raises BadConfiguration, BadSecretFile, FileProblem, StoreInUse or SchemaTooNew before it listens.
    """
    clock = clock or SystemClock()
    metrics = Metrics()
    telemetry = Telemetry(metrics, log)
    configured = effective_policy(settings)
    auth = WebhookAuth(
        read_secret("REMEDIATOR_WEBHOOK_TOKEN_FILE", settings.webhook_token_file),
        read_secret("REMEDIATOR_WEBHOOK_BASIC_FILE", settings.webhook_basic_file),
    )
    people = People(read_operators(settings.operators_file))
    shelf = Shelf(settings, configured, clock, metrics, log)
    if problems := shelf.load():
        raise BadConfiguration("\n".join(problems))
    async with AsyncExitStack() as stack:
        store, clock = open_store(settings, lambda: shelf.policy, clock, upgrade)
        stack.push_async_callback(store.close)
        metrics.store_up.set_function(lambda: store.is_up)
        leases = Leases(clock, settings.lease)
        may_act = configured.mode.rank >= Mode.APPROVE.rank
        if around is None:
            around = await stack.enter_async_context(surroundings(settings, may_act=may_act, may_send=leases.hold))
        remediator = Remediator(store, around.world, lambda: shelf.policy, parse_playbook, clock, telemetry)
        pace = Pace(new_id(clock.now()), settings.lease, settings.max_concurrent_runs)
        worker = Worker(store, remediator, lambda: shelf.index, new_id, clock, pace, telemetry, leases)
        _say_what_is_off(settings, configured, auth, shelf.index.playbooks, log)
        await stack.enter_async_context(_in_background(_say_what_is_refused(around.rights, log)))
        metrics.mode_is(configured.mode)

        def admission() -> Admission:
            return Admission(shelf.index, lambda: new_id(clock.now()))

        watchdog = DeadMansSwitch(store, lambda: shelf.policy, telemetry)
        reconciliation = Reconciliation(
            store,
            around.alert_list,
            admission,
            lambda: shelf.policy,
            Rhythm(settings.reconcile_every, settings.alertmanager_warm_up),
            worker.wake,
            telemetry,
        )
        await watchdog.look()
        await worker.recover()
        for each in (
            worker,
            Delivery(store, around.announcers, jitter, clock, telemetry),
            Housekeeping(
                store, around.inventories, lambda: shelf.index, lambda: shelf.policy, clock, telemetry, settings.retention
            ),
            reconciliation,
            watchdog,
        ):
            await stack.enter_async_context(_in_background(each.run()))
        stack.push_async_callback(worker.stop, settings.shutdown_grace)
        application = web.Application(client_max_size=settings.max_body_bytes)
        webhook = Webhook(store, auth, worker.wake, clock, metrics, log, settings.body_timeout)
        answers = Answers(store, people, lambda: shelf.policy, worker.wake, telemetry)
        breakers = Breakers(store, people, admission, worker.wake, clock, log)
        api = Api(store, people, metrics.registry, shelf.load, lambda: _readiness(store, watchdog), worker.wake, clock, log)
        application.add_routes([web.post("/webhook", webhook.take), *api.routes(), *answers.routes(), *breakers.routes()])
        port = await stack.enter_async_context(_listening(application, settings.listen))
        facts = {"mode": configured.mode, "store": str(store_address(settings)), "replica": pace.owner}
        log.info("remediator.ready", version=__version__, port=port, **facts)
        yield App(port, shelf, worker, store, metrics, reconciliation, watchdog)
        log.info("remediator.draining", grace_seconds=settings.shutdown_grace.total_seconds())


async def serve(settings: Settings, log: Log, around: Surroundings | None = None) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP loads playbooks, planned maintenance and services anew. `around` as in `running`."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with running(settings, log, around=around, upgrade=upgrade_apart) as app:
        _tune_interpreter()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stopping.set)
        loop.add_signal_handler(signal.SIGHUP, app.shelf.load)
        await stopping.wait()


def _tune_interpreter() -> None:
    """For a process with two busy threads that lives for months: neither may keep the other waiting for long."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # what was built for good: a full collection would go through all of it, and stop everything for 30 ms
    gc.set_threshold(10_000)  # of young objects: what a run makes is gone before it is looked at


def _readiness(store: OpenStore, watchdog: DeadMansSwitch) -> Readiness:
    return Readiness(
        "" if store.is_up else "the store cannot be written", f"auto is off: {watchdog.silent}" if watchdog.silent else ""
    )


def _say_what_is_off(settings: Settings, policy: Policy, auth: WebhookAuth, playbooks: Sequence[Playbook], log: Log) -> None:
    """What is not configured is off, and the log says so at the start rather than at the worst moment."""
    if auth.is_open:
        consequence = "anybody who reaches the port can post alerts; the mode stays at suggest"
        log.warning("webhook.unauthenticated", consequence=consequence, mode=policy.mode, configured=settings.mode)
    for neighbour in unconfigured(settings):
        log.info("not_configured", setting=neighbour.setting, consequence=neighbour.consequence)
    for each in installed().added:
        log.info("extension.installed", extension=each.name, package=each.package, opened=each.name in settings.extensions)
    for gap in unworkable(playbooks, settings):
        log.warning("playbook.unworkable", playbook=gap.playbook, step=gap.step, needs=gap.needs)


async def _say_what_is_refused(rights: Sequence[Rights], log: Log) -> None:
    """What a platform would refuse is said now, and not only when it is needed. Nobody waits for it."""
    for ask in rights:
        try:
            for line in await ask():
                log.warning("platform.not_permitted", consequence=line)
        except PortError as error:
            log.warning("platform.rights_unknown", error=str(error))


@asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """A loop that runs until the end. If it breaks down, the process ends: half a remediator is worse than a restarted one."""
    task = asyncio.create_task(work)
    task.add_done_callback(_stop_if_broken)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _stop_if_broken(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a background loop broke down", "exception": error, "task": task}
        )
        signal.raise_signal(signal.SIGTERM)


@asynccontextmanager
async def _listening(application: web.Application, listen: str) -> AsyncIterator[int]:
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > PORT_MAX:
        raise BadConfiguration(f"REMEDIATOR_LISTEN: {listen!r} is not an address; write one as :9595 or 127.0.0.1:9595")
    # Not decompressed: the webhook refuses what is compressed, and nobody's small bomb grows large here.
    runner = web.AppRunner(
        application,
        access_log=None,
        keepalive_timeout=KEEPALIVE_SECONDS,
        lingering_time=LINGER_SECONDS,
        auto_decompress=False,
        handle_signals=False,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host.strip("[]") or None, int(port), backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise BadConfiguration(f"REMEDIATOR_LISTEN: cannot listen on {listen}: {error.strerror}") from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
