"""What a start puts into the log: whatever will not work is said then, and not at the worst moment."""

from tests.builders import PLAYBOOK
from tests.fakes import harness


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
