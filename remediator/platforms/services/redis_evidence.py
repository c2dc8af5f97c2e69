"""What Redis says of itself, as text for people and numbers for `when:`. Pure.

INFO: https://redis.io/docs/latest/commands/info/, CLIENT LIST: https://redis.io/docs/latest/commands/client-list/, both
as redis-py parses them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from remediator.core.playbook import brief
from remediator.core.redis_step import RedisClients, RedisInfo, RedisKillIdle, RedisReplication
from remediator.ports import Evidence

Info = Mapping[str, Any]
Connection = Mapping[str, str]

SHOWN = (
    "redis_version", "uptime_in_seconds", "role", "loading", "used_memory_human", "maxmemory_human", "maxmemory_policy",
    "mem_fragmentation_ratio", "connected_clients", "maxclients", "blocked_clients", "rejected_connections", "evicted_keys",
    "connected_slaves", "master_link_status", "rdb_bgsave_in_progress", "rdb_last_bgsave_status",
    "rdb_changes_since_last_save", "aof_enabled", "aof_last_write_status",
)  # fmt: skip
CONNECTIONS_SHOWN = 20
PLAIN = "N"
"""The flag of a connection that has no other: not blocked, subscribed, in a transaction, a replica's or a monitor's."""


def info(said: Info, now_s: int) -> Evidence:
    """`now_s` is the server's own time, in seconds since 1970."""
    numbers = {
        "redis.info.up": 1.0,
        "redis.info.memory_ratio": memory_ratio(said),
        "redis.info.connected_clients": float(said["connected_clients"]),
        "redis.info.persistence_failing": float(bool(failures(said))),
        "redis.info.save_age_seconds": float(save_age_s(said, now_s)),
        "redis.info.unsaved_changes": float(said["rdb_changes_since_last_save"]),
    }
    if said.get("maxclients"):  # Redis 6 and later
        numbers["redis.info.clients_ratio"] = said["connected_clients"] / said["maxclients"]
    saved = f"last save: {brief(timedelta(seconds=save_age_s(said, now_s)))} ago"
    shown = [f"{name}: {said[name]}" for name in SHOWN if name in said]
    return Evidence(RedisInfo.name, "\n".join(["PING: PONG", *shown, saved, *_keyspace(said)]), numbers)


def memory_ratio(said: Info) -> float:
    """Used memory as a share of maxmemory; 0 when no maximum is set."""
    return float(said["used_memory"] / said["maxmemory"]) if said["maxmemory"] else 0.0


def save_age_s(said: Info, now_s: int) -> int:
    """Seconds since the last save that succeeded; a Redis that never saved counts from its start."""
    return max(0, now_s - int(said["rdb_last_save_time"]))


def failures(said: Info) -> list[str]:
    """What of its persistence failed last."""
    last = {"save": said["rdb_last_bgsave_status"], "write to the append-only file": said.get("aof_last_write_status", "ok")}
    return [f"the last {what} failed" for what, status in last.items() if status != "ok"]


def _keyspace(said: Info) -> list[str]:
    return [
        f"{name}: {value['keys']} keys" for name, value in said.items() if name.startswith("db") and isinstance(value, dict)
    ]


def replication(said: Info) -> Evidence:
    """A lag is that of the replica that is farthest behind."""
    if said["role"] != "master":
        return _replica(said)
    replicas = [value for name, value in said.items() if name.startswith("slave") and isinstance(value, dict)]
    online = [replica for replica in replicas if replica["state"] == "online"]
    lags = [said["master_repl_offset"] - replica["offset"] for replica in online]
    lines = [f"master of {len(replicas)} replicas, {len(online)} of them online"]
    lines += [f"{one['ip']}:{one['port']} is {one['state']}, heard of {one['lag']}s ago" for one in replicas]
    numbers = {"is_master": 1.0, "replicas": float(len(online)), "lag_bytes": float(max(lags, default=0))}
    return _replication(lines, numbers)


def _replica(said: Info) -> Evidence:
    is_up = said["master_link_status"] == "up"
    lines = [f"replica of {said['master_host']}:{said['master_port']}, link {said['master_link_status']}"]
    if not is_up:
        lines.append(f"for {said.get('master_link_down_since_seconds', 0)}s")
    if said.get("master_sync_in_progress"):
        lines.append("a full synchronisation is under way")
    return _replication(lines, {"is_master": 0.0, "replicas": float(said["connected_slaves"]), "link_up": float(is_up)})


def _replication(lines: Iterable[str], numbers: Mapping[str, float]) -> Evidence:
    named = {f"{RedisReplication.name}.{name}": value for name, value in numbers.items()}
    return Evidence(RedisReplication.name, "\n".join(lines), named)


def clients(diagnosis: RedisClients, connections: Sequence[Connection]) -> Evidence:
    """Ports are left out: what belongs to one client program comes from one address under one name."""
    long_idle = list(idle(connections, diagnosis.idle))
    blocked = [one for one in connections if "b" in one["flags"]]
    numbers = {
        "redis.clients.total": float(len(connections)),
        "redis.clients.idle": float(len(long_idle)),
        "redis.clients.blocked": float(len(blocked)),
    }
    lines = [
        f"{len(connections)} connections, {len(long_idle)} idle for {brief(diagnosis.idle)} or longer, "
        f"{len(blocked)} blocked in a command that waits"
    ]
    counted = Counter((one["name"] or "-", one["addr"].rpartition(":")[0], one["db"]) for one in connections)
    for (name, address, database), count in counted.most_common(CONNECTIONS_SHOWN):
        lines.append(f"{count:5}  name {name}, from {address}, database {database}")
    return Evidence(diagnosis.name, "\n".join(lines), numbers)


def idle(connections: Iterable[Connection], at_least: timedelta) -> Iterator[Connection]:
    """Those that have sent nothing for so long and wait for nothing."""
    return (one for one in connections if one["flags"] == PLAIN and int(one["idle"]) >= at_least.total_seconds())


def longest_idle(step: RedisKillIdle, connections: Iterable[Connection], database: str) -> list[Connection]:
    """Whom the step may close: clients of the configured database only, though others share the server."""
    own = [one for one in idle(connections, step.older_than) if one["db"] == database]
    return sorted(own, key=lambda one: (-int(one["idle"]), int(one["id"])))[: step.at_most]
