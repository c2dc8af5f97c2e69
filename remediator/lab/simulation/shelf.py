"""The playbooks of the simulation: what the shipped ones do, in a tenth of their time, so that an hour fits in minutes."""

from functools import lru_cache

from remediator.core.playbook import Playbook, PlaybookIndex
from remediator.playbook_files import parse_playbook

LIMITS = """limits:
  settle: 3s
  cooldown: 40s
  max: [2 per 2m, 3 per 6m]
  max_all_targets: [3 per 2m]
  give_up: 150s
  masking: 2 per 10m
  breaker: {failures: 2, targets: 3, window: 6m, open_for: 90s, open_for_at_most: 6m, min_healthy_period: 45s}
"""
API_DOWN = f"""name: api-down
summary: Restart an API that is down, then roll it back.
matchers: ['alertname = ApiDown']
target: {{service: $labels.service}}
mode: auto
{LIMITS}diagnose: [stats]
ladder:
  - restart: {{timeout: 3s}}
  - rollback: {{}}
verify: {{within: 12s, stable_for: 4s, all: [healthy]}}
"""
API_DOWN_LATER = API_DOWN.replace("restart: {timeout: 3s}", "restart: {timeout: 2s}").replace("  - rollback: {}\n", "")
"""The same after a reload: no rollback any more."""
HOLDS = LIMITS + "  hold_if: ['alertname = HostDown']\n"
JOB_STUCK = f"""name: job-stuck
summary: Run the command that unblocks a job.
matchers: ['alertname = JobStuck']
target: {{service: $labels.service}}
mode: auto
{HOLDS}ladder:
  - exec: [unblock]
verify: {{within: 12s, stable_for: 4s, any: [healthy, alert_resolved]}}
"""
CACHE_FULL = f"""name: cache-full
summary: Flush a cache, once somebody has agreed.
matchers: ['alertname = CacheFull']
target: {{service: $labels.service}}
mode: auto
{LIMITS}ladder:
  - redis.flush: {{}}
    approval: required
verify: {{within: 12s, stable_for: 4s, all: [healthy]}}
"""
DISK_FULL = f"""name: disk-full
summary: Say how to make room; do nothing.
matchers: ['alertname = DiskFull']
target: {{service: $labels.service}}
mode: suggest
{LIMITS}ladder:
  - restart: {{timeout: 3s}}
verify: {{within: 12s, stable_for: 4s, all: [healthy]}}
"""
TEXTS = (API_DOWN, JOB_STUCK, CACHE_FULL, DISK_FULL)
TEXTS_LATER = (API_DOWN_LATER, JOB_STUCK, CACHE_FULL, DISK_FULL)


@lru_cache(maxsize=32)
def read(text: str, name: str) -> Playbook:
    """Parsed by the real parser, once: it costs more than a whole seed."""
    return parse_playbook(text, name)


@lru_cache(maxsize=2)
def index(texts: tuple[str, ...]) -> PlaybookIndex:
    return PlaybookIndex(read(text, "simulated") for text in texts)
