"""What a start puts into the log: whatever will not work is said then, and not at the worst moment."""

from remediator.app import Surroundings, running
from remediator.ports import TransientError
from remediator.settings import load_settings
from remediator.world import World
from tests.builders import PLAYBOOK
from tests.fakes import SilentLog, harness
from tests.waiting import eventually


async def test_a_playbook_that_can_never_be_verified_is_named_with_what_it_needs(tmp_path):
    async with harness(tmp_path, playbooks=[PLAYBOOK.replace("[healthy]", "[healthy, tcp]")]) as h:
        needs = "services.<service>.tcp in the configuration file"
        assert ("playbook.unworkable", {"playbook": "api-down", "step": "tcp", "needs": needs}) in h.log.events


async def test_a_dump_needs_a_directory_of_backups(tmp_path):
    services = {"shop": {"postgres": "postgresql://shop-db/shop"}}
    dumping = PLAYBOOK.replace("restart: {timeout: 1s}", "postgres.dump")
    async with harness(tmp_path, playbooks=[dumping], services=services) as h:
        needs = "services.<service>.backups in the configuration file"
        assert ("playbook.unworkable", {"playbook": "api-down", "step": "postgres.dump", "needs": needs}) in h.log.events
    services["shop"]["backups"] = str(tmp_path)
    async with harness(tmp_path, playbooks=[dumping], services=services) as h:
        assert "playbook.unworkable" not in h.log.names()


async def test_a_playbook_that_needs_nothing_is_not_named(tmp_path):
    async with harness(tmp_path) as h:
        assert "playbook.unworkable" not in h.log.names()


async def test_every_neighbour_that_is_not_configured_is_named_with_what_is_off(tmp_path):
    async with harness(tmp_path, alertmanager_url="http://alertmanager:9093") as h:
        named = [facts["setting"] for name, facts in h.log.events if name == "not_configured"]
        assert named == [
            "REMEDIATOR_PROMETHEUS_URL",
            "REMEDIATOR_GRAFANA_URL",
            "REMEDIATOR_ESCALATION_URL",
            "REMEDIATOR_OPERATORS_FILE",
            "REMEDIATOR_WATCHDOG_WITHIN",
        ]


async def test_what_a_platform_refuses_is_named_and_one_that_cannot_be_asked_too(tmp_path):
    async def some() -> list[str]:
        return ["cannot evict in shop: may not create pods/eviction"]

    async def nobody_answers() -> list[str]:
        raise TransientError("the API server cannot be reached")

    settings = load_settings({"REMEDIATOR_STORE": f"sqlite:///{tmp_path}/remediator.db", "REMEDIATOR_LISTEN": "127.0.0.1:0"})
    log = SilentLog()
    async with running(settings, log, around=Surroundings(World({}), rights=(nobody_answers, some))):
        await eventually(lambda: "platform.not_permitted" in log.names())
    assert ("platform.rights_unknown", {"error": "the API server cannot be reached"}) in log.events
    consequence = "cannot evict in shop: may not create pods/eviction"
    assert ("platform.not_permitted", {"consequence": consequence}) in log.events
