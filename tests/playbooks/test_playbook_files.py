"""Playbook files: what is read, and what is said about everything that cannot be."""

from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core.matching import Matcher, MatchOp
from remediator.core.playbook import BreakerLimits, Condition, Limits, Mode, Need, RateLimit
from remediator.core.postgres_step import PostgresLongQueries
from remediator.core.redis_step import RedisFlush, RedisInfo
from remediator.core.step import DIAGNOSES, STEPS, AlertResolved, Exec, Healthy, Http, Logs, PromQL, Restart, Rollback, Stats
from remediator.core.target import Selector
from remediator.playbook_files import effective_limits, json_schema, load_playbooks, parse_playbook
from remediator.yaml_lines import FileProblem, load_yaml

SMALLEST = """\
name: a
summary: Restart it.
matchers: ['alertname = A']
target: {service: $labels.service}
ladder: [restart]
verify: {all: [healthy]}
"""

FULL = """\
name: redis-down
summary: Restart it.
runbook: docs/runbooks/redis-down.md
matchers: ['alertname = RedisDown', 'severity =~ "critical|page"']
target: {namespace: shop, deployment: $labels.deployment}
mode: off
limits:
  settle: 1m
  cooldown: 1h30m
  max: [1 per 10m, 3 per 1d]
  max_all_targets: [7 per 1h]
  hold_if: ['alertname = HostDown', 'alertname = NodeDown']
  give_up: 2h
  breaker: {failures: 5, targets: 6, window: 2h, open_for: 5m, open_for_at_most: 1h, min_healthy_period: 3m}
diagnose:
  - stats
  - logs: {tail: 7, grep: error}
  - exec: [df, -h]
  - exec: {argv: [free], timeout: 5s}
  - redis.info: {cache: $labels.service}
  - postgres.long_queries: {over: 1m}
  - promql: 'up{service="$labels.service"} == 1'
  - http:
ladder:
  - restart: {timeout: 20s}
  - redis.flush: {}
    when: redis.info.memory_ratio > 0.95
    approval: required
    target: {cache: $labels.cache}
  - rollback
verify:
  within: 5m
  stable_for: 45s
  any: [healthy, {http: {status: 204, path: /live}}, alert_resolved]
escalate: cache
"""


def problems(text: str) -> list[str]:
    with pytest.raises(FileProblem) as caught:
        parse_playbook(text, "f.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_every_field_of_a_file_arrives_in_the_playbook():
    playbook = parse_playbook(FULL, "redis-down.yaml")
    assert playbook.name == "redis-down"
    assert playbook.summary == "Restart it."
    assert playbook.runbook == "docs/runbooks/redis-down.md"
    assert playbook.escalate == "cache"
    assert playbook.matchers == (
        Matcher("alertname", MatchOp.EQUAL, "RedisDown"),
        Matcher("severity", MatchOp.REGEX, "critical|page"),
    )
    assert playbook.target == Selector({"namespace": "shop", "deployment": "$labels.deployment"})
    assert playbook.mode is Mode.OFF
    assert playbook.limits == Limits(
        settle=timedelta(minutes=1),
        cooldown=timedelta(minutes=90),
        max=(RateLimit(1, timedelta(minutes=10)), RateLimit(3, timedelta(days=1))),
        max_all_targets=(RateLimit(7, timedelta(hours=1)),),
        hold_if=(Matcher("alertname", MatchOp.EQUAL, "HostDown"), Matcher("alertname", MatchOp.EQUAL, "NodeDown")),
        give_up=timedelta(hours=2),
        breaker=BreakerLimits(
            5, 6, timedelta(hours=2), timedelta(minutes=5), timedelta(hours=1), min_healthy_period=timedelta(minutes=3)
        ),
    )
    assert playbook.diagnose == (
        Stats(),
        Logs(tail=7, grep="error"),
        Exec(("df", "-h")),
        Exec(("free",), timeout=timedelta(seconds=5)),
        RedisInfo(cache="$labels.service"),
        PostgresLongQueries(over=timedelta(minutes=1)),
        PromQL('up{service="$labels.service"} == 1'),
        Http(),
    )
    restart, flush, rollback = playbook.ladder
    assert (restart.step, restart.target, restart.when, restart.approval_required) == (
        Restart(timeout=timedelta(seconds=20)), None, None, False,
    )  # fmt: skip
    assert flush.step == RedisFlush()
    assert flush.target == Selector({"cache": "$labels.cache"})
    assert flush.when == Condition("redis.info.memory_ratio", ">", 0.95)
    assert flush.approval_required
    assert rollback.step == Rollback()
    assert playbook.verify.need is Need.ANY
    assert playbook.verify.checks == (Healthy(), Http(status=204, path="/live"), AlertResolved())
    assert playbook.verify.within == timedelta(minutes=5)
    assert playbook.verify.stable_for == timedelta(seconds=45)


def test_what_a_file_leaves_out_is_the_default_of_the_core():
    playbook = parse_playbook(SMALLEST, "a.yaml")
    assert playbook.mode is Mode.SUGGEST
    assert playbook.limits == Limits()
    assert playbook.verify.need is Need.ALL
    assert playbook.diagnose == ()


def test_the_version_changes_with_the_text_and_only_with_it():
    first, same = parse_playbook(SMALLEST, "a.yaml"), parse_playbook(SMALLEST, "elsewhere.yaml")
    assert first.source == SMALLEST
    assert first.version == same.version
    assert first.version != parse_playbook(SMALLEST + "# changed\n", "a.yaml").version


BROKEN = r"""
# names and texts
name: a ⇒ name: Redis_Down
    1: name: 'Redis_Down' is not a name of small letters, digits and hyphens; write for instance redis-down
name: a ⇒ name: a--b
    1: name: 'a--b' is not a name of small letters, digits and hyphens; write for instance a-b
name: a⏎ ⇒
    1: name: is missing; write for instance name: redis-down
Restart it. ⇒
    2: summary: must be text, not nothing
# matchers
['alertname = A'] ⇒ []
    3: matchers: would match nearly every alert; ask for something in particular: 'alertname = RedisDown'
'alertname = A' ⇒ alertname
    3: matchers[0]: 'alertname' is not a matcher; write one as: alertname = RedisDown, or severity =~ "critical|page"
'alertname = A' ⇒ 7
    3: matchers[0]: 7 is not a matcher; write one as text: 'alertname = RedisDown'
= A ⇒ =~ "("
    3: matchers[0]: '(' is not a regular expression: missing ), unterminated subpattern at position 0
= A ⇒ =~ "x{99999999999}"
    3: matchers[0]: 'x{99999999999}' is not a regular expression: the repetition number is too large
alertname = A ⇒ alertname =
    3: matchers: would match nearly every alert; ask for something in particular: 'alertname = RedisDown'
= A ⇒ =~ .*
    3: matchers: would match nearly every alert; ask for something in particular: 'alertname = RedisDown'
= A ⇒ =~ .+
    3: matchers: would match nearly every alert; ask for something in particular: 'alertname = RedisDown'
= A ⇒ != A
    3: matchers: would match nearly every alert; ask for something in particular: 'alertname = RedisDown'
# target
{service: $labels.service} ⇒ {}
    4: target: selects nothing; write for instance {service: $labels.service}
$labels.service ⇒ ''
    4: target.service: must not be empty
$labels.service ⇒
    4: target.service: must be text, not nothing
$labels.service ⇒ $labels.
    4: target.service: '$labels.' is not a name; write one as shop-api or $labels.service
$labels.service ⇒ '{{ $labels.x }}'
    4: target.service: '{{ $labels.x }}' is not a name; write one as shop-api or $labels.service
{service: ⇒ {srvice:
    4: target.srvice: unknown field 'srvice'; did you mean 'service'?
# mode and limits
ladder: ⇒ mode: atuo⏎ladder:
    5: mode: 'atuo' is not one of its values; did you mean 'auto'?
ladder: ⇒ cooldown: 5m⏎ladder:
    5: cooldown: unknown field 'cooldown'; it belongs inside limits
ladder: ⇒ limits: {min_healthy: 0.51}⏎ladder:
    5: limits.min_healthy: 0.51 is not a share of the instances; write one as 50%
ladder: ⇒ limits: {settle: 30}⏎ladder:
    5: limits.settle: 30 is not a duration; write one as 30s, 10m or 1h30m
ladder: ⇒ limits: {settle: 2d}⏎ladder:
    5: limits.settle: must be at most 1d
ladder: ⇒ limits: {cooldown: 99999999999999w}⏎ladder:
    5: limits.cooldown: '99999999999999w' is longer than any duration can be
ladder: ⇒ limits: {settle: 5m, give_up: 5m}⏎ladder:
    5: limits.give_up: must be longer than settle, or nothing is ever done
ladder: ⇒ limits: {max: 3 per 1h}⏎ladder:
    5: limits.max: must be a list, not '3 per 1h'
ladder: ⇒ limits: {max: []}⏎ladder:
    5: limits.max: must not be empty
ladder: ⇒ limits: {max: [3]}⏎ladder:
    5: limits.max[0]: 3 is not a rate; write one as: 3 per 1h
ladder: ⇒ limits: {max: [0 per 1h]}⏎ladder:
    5: limits.max[0]: '0 per 1h' is not a rate; write one as: 3 per 1h
ladder: ⇒ limits: {max: [1001 per 1h]}⏎ladder:
    5: limits.max[0]: must be at most 1000, over at most 30d
ladder: ⇒ limits: {hold_if: ['a != b']}⏎ladder:
    5: limits.hold_if: a!="b" is met by nearly every alert, and any one that is open holds the playbook back
ladder: ⇒ limits: {breaker: {failures: 0}}⏎ladder:
    5: limits.breaker.failures: must be at least 1
ladder: ⇒ limits: {breaker: {open_for: 5h, open_for_at_most: 4h}}⏎ladder:
    5: limits.breaker.open_for_at_most: must be at least open_for
# steps
[restart] ⇒ []
    5: ladder: must not be empty
[restart] ⇒ [restrat]
    5: ladder[0].restrat: unknown field 'restrat'; did you mean 'restart'?
[restart] ⇒ [5]
    5: ladder[0]: must be a mapping (name: value), not 5
[restart] ⇒ [{}]
    5: ladder[0]: must have exactly one step and has none; steps are: ALL STEPS
[restart] ⇒ [{restart: , stop: }]
    5: ladder[0]: must have exactly one step and has 2 (restart, stop); steps are: ALL STEPS
[restart] ⇒ ⏎- restart:⏎  timeout: 5s
    7: ladder[0].timeout: unknown field 'timeout'; it belongs inside ALL WITH A TIMEOUT
[restart] ⇒ [{restart: {timeout: 6m}}]
    5: ladder[0].restart.timeout: must be at most 5m
[restart] ⇒ [{restart: 10s}]
    5: ladder[0].restart: must be a mapping (name: value), not '10s'
[restart] ⇒ [{rollback: {to: v1}}]
    5: ladder[0].rollback.to: unknown field 'to'; none is allowed here
[restart] ⇒ [exec]
    5: ladder[0].exec.argv: is missing; write argv: …
[restart] ⇒ [{exec: df -h}]
    5: ladder[0].exec.argv: must be a list, not 'df -h'
[restart] ⇒ [{exec: []}]
    5: ladder[0].exec.argv: must not be empty
[restart] ⇒ [{exec: [kill, -9]}]
    5: ladder[0].exec.argv[1]: must be text, not -9; put it in quotes
[restart] ⇒ [{exec: [echo, $labels.x]}]
    5: ladder[0].exec.argv[1]: takes no $labels: what an alert says never gets here; write the text itself
[restart] ⇒ [{prune: {images: yes}}]
    5: ladder[0].prune.images: must be true or false, not 'yes'
[restart] ⇒ [{prune: {keep: [api]}}]
    5: ladder[0].prune.keep: unknown field 'keep'; write one of: containers, images, older_than
[restart] ⇒ [redis.flush]
    5: ladder[0]: redis.flush is destructive; add approval: required
[restart] ⇒ [{restart: , approval: true}]
    5: ladder[0].approval: true is not one of its values; write one of: required
[restart] ⇒ [{restart: , when: }]
    5: ladder[0].when: is empty; give it a value or leave it out
[restart] ⇒ [{restart: , when: often}]
    5: ladder[0].when: 'often' is not a condition; write one as: redis.info.memory_ratio > 0.95
[restart] ⇒ [{restart: , when: redis.info.memory_ratio > 1}]
    5: ladder[0].when: no diagnosis of this playbook finds 'redis.info.memory_ratio'; add redis.info to diagnose
[restart] ⇒ [{restart: , when: redis.inf.up > 1}]
    5: ladder[0].when: no diagnosis of this playbook finds 'redis.inf.up'; did you mean 'redis.info.up'?
[restart] ⇒ [{restart: , target: {servce: a}}]
    5: ladder[0].target.servce: unknown field 'servce'; did you mean 'service'?
# diagnoses
ladder: ⇒ diagnose: [{logs: {tail: 1001}}]⏎ladder:
    5: diagnose[0].logs.tail: must be at most 1000
ladder: ⇒ diagnose: [{logs: {tail: '5'}}]⏎ladder:
    5: diagnose[0].logs.tail: must be a whole number, not '5'
ladder: ⇒ diagnose: [{logs: {grep: $labels.x}}]⏎ladder:
    5: diagnose[0].logs.grep: takes no $labels: what an alert says never gets here; write the text itself
ladder: ⇒ diagnose: [restart]⏎ladder:
    5: diagnose[0].restart: unknown field 'restart'; write one of: ALL DIAGNOSES
[restart] ⇒ [{postgres.vacuum: 'orders; drop'}]
    5: ladder[0].postgres.vacuum.table: 'orders; drop' is not a table or an index; write one as orders, shop.orders or $labels.relname
# verification
{all: [healthy]} ⇒ {within: 5m}
    6: verify: has no checks; write one list, for instance all: [healthy, alert_resolved]
all: [healthy] ⇒ all: []
    6: verify.all: must not be empty
all: [healthy] ⇒ all: [healthy], any: [healthy]
    6: verify: has both all and any; write one list, for instance all: [healthy, alert_resolved]
all: [healthy] ⇒ within: 0s, all: [healthy]
    6: verify.within: must be at least 1ms
all: [healthy] ⇒ stable_for: 0s, all: [healthy]
    6: verify.stable_for: must be at least 1ms
[healthy] ⇒ [helthy]
    6: verify.all[0].helthy: unknown field 'helthy'; did you mean 'healthy'?
[healthy] ⇒ [{redis.memory_below: {ratio: 1.5}}]
    6: verify.all[0].redis.memory_below.ratio: must be at most 1
[healthy] ⇒ [{redis.memory_below: {ratio: .nan}}]
    6: verify.all[0].redis.memory_below.ratio: must be a number, not nan
"""  # noqa: E501
"""What is changed in SMALLEST (⏎ is a new line), and the one problem that follows."""

NAMES = {
    "ALL STEPS": ", ".join(kind.name for kind in STEPS),
    "ALL WITH A TIMEOUT": " or ".join(kind.name for kind in STEPS if any(each.name == "timeout" for each in fields(kind))),
    "ALL DIAGNOSES": ", ".join(sorted(kind.name for kind in DIAGNOSES)),
}


def broken() -> list[object]:
    text = BROKEN
    for word, names in NAMES.items():
        text = text.replace(word, names)
    lines = [line for line in text.strip().split("\n") if not line.startswith("#")]
    changes = [change.replace("⏎", "\n").partition(" ⇒") for change in lines[::2]]
    return [
        pytest.param(old, new.removeprefix(" "), problem.strip(), id=problem.strip())
        for (old, _, new), problem in zip(changes, lines[1::2], strict=True)
    ]


@pytest.mark.parametrize(("old", "new", "problem"), broken())
def test_a_wrong_file_is_refused_with_line_field_and_what_to_write(old, new, problem):
    assert old in SMALLEST
    assert problems(SMALLEST.replace(old, new, 1)) == [f"f.yaml:{problem}"]


@pytest.mark.parametrize("text", ["", "# nothing", "5", "[]", "text"])
def test_a_file_that_is_no_mapping_is_refused(text):
    assert "must be a mapping" in problems(text)[0]


def test_all_problems_of_a_file_are_reported_at_once():
    broken = SMALLEST.replace("name: a", "name: A").replace("target", "traget").replace("[restart]", "[restrat, {stop: 5}]")
    assert [problem.split(": ")[1] for problem in problems(broken)] == [
        "name",
        "target",
        "traget",
        "ladder[0].restrat",
        "ladder[1].stop",
    ]


@pytest.mark.parametrize(
    "query",
    [
        'up{service="$labels.service"} == 1',
        'up{service="$labels.service", job!="x"} or vector(0)',
        'up{service="a-$labels.service-b"}',
        'up{job=~"api|web"}',
        "up # for all",
    ],
)
def test_a_query_takes_labels_inside_double_quoted_values(query):
    playbook = parse_playbook(SMALLEST.replace("[healthy]", f"[{{promql: {_quoted(query)}}}]"), "f.yaml")
    assert playbook.verify.checks == (PromQL(query),)


@pytest.mark.parametrize(
    "query",
    [
        "up{service='$labels.service'}",
        "up{service=`$labels.service`}",
        "up{service=$labels.service}",
        '$labels.metric{a="b"}',
        'up{service=~"$labels.service"}',
        'up{service!~ "x|$labels.service"}',
        'up{a="\\"", b=\'$labels.b\'}',
        'up{service="$label.service"}',
        'up{service="$labels.9"}',
    ],
)
def test_a_query_takes_labels_nowhere_else(query):
    [problem] = problems(SMALLEST.replace("[healthy]", f"[{{promql: {_quoted(query)}}}]"))
    assert "takes $labels.x only inside a double-quoted value that is no pattern" in problem


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# --- Directories ------------------------------------------------------------------------------------------------------


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / f"{name}.yaml").write_text(text, encoding="utf-8")
    return directory


def loading_problems(directory: Path) -> list[str]:
    with pytest.raises(FileProblem) as caught:
        load_playbooks(directory)
    return [str(problem).replace(f"{directory}/", "") for problem in caught.value.problems]


def test_a_directory_is_read_by_name_without_its_test_cases(tmp_path):
    write(tmp_path, b=SMALLEST.replace("name: a", "name: b").replace("= A", "= B"), a=SMALLEST)
    (tmp_path / "a.cases.yaml").write_text("not: a playbook")
    (tmp_path / "README.md").write_text("not a playbook either")
    assert [playbook.name for playbook in load_playbooks(tmp_path)] == ["a", "b"]


def test_a_directory_that_is_missing_or_without_playbooks_is_a_problem(tmp_path):
    for directory, message in (
        (tmp_path, "has no playbooks; they are called <name>.yaml"),
        (tmp_path / "x", "is not a directory"),
    ):
        with pytest.raises(FileProblem, match=f"^{directory}: {message}"):
            load_playbooks(directory)


def test_the_problems_of_all_files_are_reported_at_once(tmp_path):
    write(tmp_path, a=SMALLEST.replace("summary", "sumary"), b="a: [", c=SMALLEST.replace("name: a", "name: c"))
    assert [problem.split(": ")[0] for problem in loading_problems(tmp_path)] == ["a.yaml:1", "a.yaml:2", "b.yaml:1"]


def test_a_file_is_called_as_its_playbook(tmp_path):
    write(tmp_path, b=SMALLEST)
    assert loading_problems(tmp_path) == [
        "b.yaml:1: name: 'a' is not what the file is called; name the playbook b or the file a.yaml"
    ]


def test_two_playbooks_of_one_name_are_refused_naming_both(tmp_path):
    write(tmp_path, a=SMALLEST, b=SMALLEST.replace("= A", "= B"))
    assert f"b.yaml:1: name: 'a' is the name of {tmp_path}/a.yaml already".replace(f"{tmp_path}/", "") in loading_problems(
        tmp_path
    )


def test_two_playbooks_for_exactly_the_same_alerts_are_refused_naming_both(tmp_path):
    both = SMALLEST.replace("'alertname = A'", "'alertname = A', 'severity = page'")
    swapped = SMALLEST.replace("'alertname = A'", "'severity=\"page\"', alertname=A").replace("name: a\n", "name: b\n")
    write(tmp_path, a=both, b=swapped)
    assert loading_problems(tmp_path) == ["b.yaml:3: matchers: are those of a.yaml exactly; let one of the two ask for more"]


def test_the_effective_limits_are_in_the_notation_of_the_file():
    shown = dict(effective_limits(parse_playbook(SMALLEST.replace("ladder:", "limits: {max: [2 per 90m]}\nladder:"), "a.yaml")))
    assert shown["mode"] == "suggest"
    assert shown["limits.max"] == "2 per 1h30m"
    assert shown["limits.cooldown"] == "10m"
    assert shown["limits.hold_if"] == "nothing"
    assert shown["limits.breaker.open_for_at_most"] == "4h"
    assert shown["verify.within"] == "2m"


# --- Anything at all --------------------------------------------------------------------------------------------------


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """FULL with a few parts cut out, doubled, or replaced by something that might hurt."""
    text = FULL
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        harm = st.one_of(
            st.sampled_from(
                ["", "null", "[]", "{}", "1e999", ".nan", "true", "99999999w", "$labels.", "=~ '(((a+)+)+", "[[a]", ": "]
            ),
            st.text(alphabet=st.characters(codec="utf-8"), max_size=8),
            st.just(text[start:end] * 2),
        )
        text = text[:start] + draw(harm) + text[end:]
    return text


@given(mutations())
def test_whatever_is_done_to_a_file_the_only_exception_is_file_problem(text):
    try:
        read = parse_playbook(text, "f.yaml")
    except FileProblem as problem:
        found = problem.problems
    else:
        found = ()
        assert read.source == text
    assert all(str(one).startswith("f.yaml") for one in found)


@given(mutations())
def test_what_the_parser_takes_the_json_schema_takes_too(text):
    try:
        parse_playbook(text, "f.yaml")
    except FileProblem:
        return
    jsonschema.validate(load_yaml(text, "f.yaml")[0], json_schema(), cls=jsonschema.Draft202012Validator)
