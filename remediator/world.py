"""The platforms and data services of this installation, asked as one. Reads only, unless actuators were built.

Everything that they say comes through here, and leaves without its secrets, whatever is done with it later (errors redact
themselves: `ports.PortError`).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from remediator.core.alert import Episode, EpisodeState
from remediator.core.guards.target import allows
from remediator.core.redaction import redacted
from remediator.core.snapshot import Corroboration, Found, Listing, Lookup, Neighbours, Off, Unknown
from remediator.core.step import Check, Diagnosis, Exec, Step
from remediator.core.target import Selection, Workload
from remediator.core.template import Unbound
from remediator.ports import (
    Actuator,
    AlertSource,
    Evidence,
    Executor,
    Facts,
    Happened,
    Observation,
    PermanentError,
    Platform,
    PortError,
    Probe,
    Reading,
    TransientError,
    Witness,
)

READ_SECONDS = 20.0
EVIDENCE_CHARACTERS_MAX = 16_384
REDACTED_CHARACTERS_MAX = 4 * EVIDENCE_CHARACTERS_MAX
"""Of a longer text only so much of its end is looked at: 4 ms for 16,384 characters full of secrets."""


@dataclass(frozen=True, slots=True)
class World:
    """`platforms` read, by name; `actuators` and `executors` write, by the same names, and are empty where nothing may act
    (promise S7).
    """

    platforms: Mapping[str, Platform]
    actuators: Mapping[str, Actuator] = field(default_factory=dict)
    executors: Mapping[str, Executor] = field(default_factory=dict)
    alerts: AlertSource | None = None
    witness: Witness | None = None

    async def neighbours(self, episode: Episode) -> Neighbours:
        """What Alertmanager and Prometheus say of the alert now, as far as they are configured."""
        listing, corroboration = await asyncio.gather(self._listing(episode), self._corroboration(episode))
        return Neighbours(listing, corroboration)

    async def _listing(self, episode: Episode) -> Listing | Unknown | Off:
        if self.alerts is None:
            return Off()
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self.alerts.look(episode.labels)
        except (PortError, TimeoutError) as error:
            return Unknown(str(error) or "Alertmanager did not answer in time")

    async def _corroboration(self, episode: Episode) -> Corroboration | Unknown | Off:
        if self.witness is None:
            return Off()
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self.witness.corroborate(episode.labels)
        except (PortError, TimeoutError) as error:
            return Unknown(str(error) or "Prometheus did not answer in time")

    async def find(self, selection: Selection | Unbound) -> Lookup:
        """Ask every platform. One that cannot be asked makes the answer Unknown: it might have had the target, too."""
        if isinstance(selection, Unbound):
            return selection
        try:
            async with asyncio.timeout(READ_SECONDS):
                answers = await asyncio.gather(*(platform.find(selection) for platform in self.platforms.values()))
        except TimeoutError:
            return Unknown(f"the platforms did not say within {READ_SECONDS:g} s what {selection} is")
        except PortError as error:
            return Unknown(f"cannot look up {selection}: {error}")
        return Found(tuple(workload for answer in answers for workload in answer), str(selection))

    def platform_of(self, step: Step | Diagnosis | Check, workload: Workload) -> Platform:
        """Whoever carries the step out: its data service, or the platform that owns the target. Raises PermanentError."""
        name = step.service or workload.platform
        try:
            return self.platforms[name]
        except KeyError:
            raise PermanentError(f"{step.name} needs {name}, which is not configured") from None

    def actuator_of(self, step: Step, workload: Workload) -> Actuator:
        """The writing side of the same. Raises PermanentError where none was built."""
        try:
            return self.actuators[step.service or workload.platform]
        except KeyError:
            raise PermanentError(f"remediator was started without the right to carry out {step.name}") from None

    def describe(self, step: Step, workload: Workload) -> str:
        """The command that a person could type instead. Raises PermanentError."""
        return redacted(self.platform_of(step, workload).describe(step, workload))

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        """Do it, once, and say what was done. Raises what `Actuator.perform` raises."""
        return redacted(await self.actuator_of(step, workload).perform(step, workload, mark))

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload, *, acting: bool) -> Evidence:
        """One piece of evidence, redacted and bounded. What could not be gathered is said in its text: it never stops a run."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                evidence = await self._diagnose(diagnosis, workload, acting=acting)
        except TimeoutError:
            evidence = Evidence(diagnosis.name, f"no answer within {READ_SECONDS:g} s")
        except PortError as error:
            evidence = Evidence(diagnosis.name, f"could not be gathered: {error}")
        text = redacted(evidence.text[-REDACTED_CHARACTERS_MAX:])  # before it is cut: half a secret is not recognised
        return replace(evidence, text=text[-EVIDENCE_CHARACTERS_MAX:])

    async def _diagnose(self, diagnosis: Diagnosis, workload: Workload, *, acting: bool) -> Evidence:
        """`exec` is a write call at the engine, whatever the command does: only a run that is to act makes it, with consent."""
        platform = self.platform_of(diagnosis, workload)
        if isinstance(diagnosis, Exec):
            executor = self.executors.get(workload.platform)
            if executor is None or not acting or not allows(workload, diagnosis):
                command = platform.describe(diagnosis, workload)
                return Evidence(diagnosis.name, f"not run (it needs mode auto and an opt-in): {command}")
            return await executor.diagnose_exec(diagnosis, workload)
        return await platform.diagnose(diagnosis, workload)

    async def check(self, check: Check, workload: Workload, episode: Episode) -> Reading:
        """One look. What cannot be asked is UNKNOWN."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                if check.service == "alert":
                    return await self._alert_resolved(episode)
                reading = await self.platform_of(check, workload).check(check, workload)
                return replace(reading, seen=redacted(reading.seen))
        except TimeoutError:
            return Reading(Probe.UNKNOWN, f"{check.name}: no answer within {READ_SECONDS:g} s")
        except PortError as error:
            return Reading(Probe.UNKNOWN, f"{check.name}: {error}")

    async def _alert_resolved(self, episode: Episode) -> Reading:
        """The webhook may tell of the resolve only minutes later (`group_interval`); Alertmanager's API knows at once."""
        if episode.state is EpisodeState.RESOLVED:
            return Reading(Probe.HOLDS, "the alert has resolved")
        if self.alerts is None or episode.listed_at is None:  # an alert of Grafana's is not listed while it fires
            if episode.state is EpisodeState.EXPIRED:
                return Reading(Probe.UNKNOWN, "the alert was not heard of any more, which does not say that it has resolved")
            return Reading(Probe.FAILS, "the alert has not resolved yet")
        firing = (await self.alerts.look(episode.labels)).firing
        return Reading(Probe.FAILS, "the alert still fires") if firing else Reading(Probe.HOLDS, "the alert has resolved")

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """What to remember before the call. Raises TransientError or PermanentError."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self.platform_of(step, workload).mark(step, workload)
        except TimeoutError as error:
            raise TransientError(f"{workload.id} could not be looked at within {READ_SECONDS:g} s") from error

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation | None:
        """Whether the step happened, or None while that cannot be asked. `workload` need not be found any more."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                observation = await self.platform_of(step, workload).observe(step, workload, mark)
                return replace(observation, seen=redacted(observation.seen))
        except (TimeoutError, TransientError):
            return None
        except PermanentError as error:
            return Observation(Happened.UNKNOWN, str(error))
