"""The runner of playbook tests: right expectations pass, and a wrong one of every kind fails, with the line that is wrong."""

import re
import textwrap
from pathlib import Path

import jsonschema
import pytest

from remediator.cli.main import main
from remediator.lab.playbook_tests.case import Verb
from remediator.lab.playbook_tests.files import json_schema, load_cases, parse_cases
from remediator.lab.playbook_tests.model import CasePart, WorldPart
from remediator.lab.playbook_tests.rehearsal import rehearse
from remediator.lab.playbook_tests.report import judge, lines_of
from remediator.playbook_files import parse_playbook
from remediator.yaml_lines import FileProblem, load_yaml

PLAYBOOK = parse_playbook(
    """
name: cache-down
summary: Restart a cache, and offer to empty it.
matchers: ['alertname = CacheDown']
target: {service: $labels.service}
mode: auto
limits: {settle: 30s, cooldown: 10m, hold_if: ['alertname = HostDown']}
diagnose: [redis.info]
ladder:
  - restart
  - redis.flush: {}
    when: redis.info.memory_ratio > 0.95
    approval: required
verify: {within: 2m, stable_for: 30s, all: [redis.ping, alert_resolved]}
escalate: cache
""",
    "cache-down.yaml",
)
GIVEN = """
given:
  alert: {alertname: CacheDown, service: shop-cache}
  others: {web: {service: web-cache}, host: {alertname: HostDown}}
"""


def cases_of(text: str):
    return parse_cases(GIVEN + textwrap.dedent(text), "cache-down.cases.yaml", PLAYBOOK)


def case_of(expect: str, given: str = ""):
    """One case; `given` is what stands above its expectations."""
    lines = [f"  {line}" for line in textwrap.dedent(given).splitlines() if line]
    expected = [f"    {line}" for line in textwrap.dedent(expect).splitlines() if line] or ["    {}"]
    [case] = cases_of("\n".join(["cases:", "- name: It", *lines, "  expect:", *expected]))
    return case


RESTART = """
0s: wait settling until 30s
30s: restart shop-cache done
1m: succeeded verified
"""
FLUSH = """
0s: wait settling until 30s
30s: restart shop-cache done
2m30s: [verification failed, ask redis.flush shop-cache, tell cache approval_required]
3m: redis.flush shop-cache done
3m30s: succeeded verified
"""
FULL = "world: {cured_by: redis.flush, numbers: {redis.info.memory_ratio: 0.96}}\nhappens: {0s: fire, 3m: approve by ann}"
DOUBT = "world: {cured_by: restart, steps: {restart: in_doubt}}"
DOUBTFUL = """
0s: wait settling until 30s
30s: [restart shop-cache in_doubt, observed yes]
1m: succeeded verified
"""
CURED = "world: {cured_by: restart}"
STUCK = """
0s: wait settling until 30s
30s: restart shop-cache done
2m30s: [verification failed, escalated ladder_exhausted, tell cache ladder_exhausted]
"""

KINDS = [
    pytest.param(RESTART, CURED, "wait settling", "wait cooldown", id="a reason to wait"),
    pytest.param(RESTART, CURED, "until 30s", "until 31s", id="until when it waits"),
    pytest.param(RESTART, CURED, "30s: restart", "31s: restart", id="the time of a step"),
    pytest.param(RESTART, CURED, "cache done", "cache failed", id="the outcome of a step"),
    pytest.param(RESTART, CURED, "shop-cache", "web-cache", id="the target of a step"),
    pytest.param(RESTART, CURED, "succeeded verified", "succeeded recovered", id="the reason of an end"),
    pytest.param(RESTART, CURED, "succeeded", "escalated", id="the state of an end"),
    pytest.param(RESTART, CURED, "1m: succeeded verified", "", id="a line that is not expected"),
    pytest.param(RESTART, CURED, "1m: succ", "50s: ask restart x\n1m: succ", id="a line that never comes"),
    pytest.param(FLUSH, FULL, "ask redis.flush", "ask restart", id="what people are asked"),
    pytest.param(FLUSH, FULL, "tell cache approval", "tell owner approval", id="whom people tell"),
    pytest.param(STUCK, "", "tell cache ladder_exhausted", "tell cache gave_up", id="what people are told"),
    pytest.param(STUCK, "", "verification failed", "verification unverified", id="what verification saw"),
    pytest.param(STUCK, "", ", tell cache ladder_exhausted", "", id="a message that is not expected"),
    pytest.param(DOUBTFUL, DOUBT, "observed yes", "observed no", id="what was observed of a doubt"),
    pytest.param(
        "0s: wait settling until 30s\n30s: suggest restart shop-cache", "settings: {mode: suggest}", "suggest restart",
        "suggest redis.flush", id="what is suggested",
    ),
    pytest.param(
        "0s: wait settling until 30s for web\n1s: cancelled resolved for web", "happens: {0s: fire web, 1s: resolve web}",
        "resolved for web", "resolved for host", id="which alert it is about",
    ),
    pytest.param("0s: answer not_taken", "happens: {0s: approve by ann}", "answer not_taken", "refused stale", id="an answer"),
]  # fmt: skip


@pytest.mark.parametrize(("expect", "given", "right", "wrong"), KINDS)
def test_what_is_right_passes_and_what_is_wrong_fails(expect, given, right, wrong):
    assert list(lines_of(judge(case_of(expect, given)))) == ["  ok      It"]
    assert right in expect
    verdict = judge(case_of(expect.replace(right, wrong), given))
    assert not verdict.passed
    changed = [line for line in verdict.difference if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed, "the difference shows the line"
    gone = [" ".join(line[1:].split()) for line in changed if line.startswith("-")]
    assert all(line not in " ".join(rehearsed(expect, given)) for line in gone), "only what did not happen is marked with -"


def rehearsed(expect: str, given: str) -> list[str]:
    return [f"{line.at.total_seconds():g}s {line.text}" for line in rehearse(case_of(expect, given)).story]


def test_a_failure_shows_what_was_expected_what_happened_and_why():
    verdict = judge(case_of(STUCK.replace("ladder_exhausted", "gave_up"), "happens: {0s: fire}"))
    shown = list(lines_of(verdict))
    assert shown[0] == "  FAILED  It  (cache-down.cases.yaml:6)"
    assert [line.strip() for line in shown[1:]] == [
        "--- expected",
        "+++ what happened",
        "@@ -2,5 +2,5 @@",
        "0s  wait settling until 30s",
        "30s  restart shop-cache done",
        "2m30s  verification failed",
        "-   2m30s  escalated gave_up",
        "-   2m30s  tell cache gave_up",
        "+   2m30s  escalated ladder_exhausted",
        f"{'+   2m30s  tell cache ladder_exhausted':<60} # CacheDown on docker:service/shop-cache: ladder_exhausted",
    ]


def test_what_happens_in_the_case_stands_in_the_difference_on_both_sides():
    verdict = judge(case_of("0s: wait settling until 30s", "happens: {0s: fire, 10s: resolve}"))
    assert "     10s  (resolve)" in [line.removeprefix(" ") for line in verdict.difference]


def test_a_case_is_the_same_every_time():
    assert rehearse(case_of(FLUSH, FULL)) == rehearse(case_of(FLUSH, FULL))


def test_three_hours_are_played_in_no_time_worth_mentioning():
    case = case_of("0s: wait silence_unknown\n30m: [wait silence_unknown, escalated gave_up, tell cache gave_up]",
                   "world: {alertmanager: unreachable}\nuntil: 3h")  # fmt: skip
    verdict = judge(case)
    assert verdict.passed
    assert verdict.outcome.lasted.total_seconds() == 3 * 3600


def test_a_case_that_never_ends_says_so():
    case = case_of("0s: wait settling until 30s", "world: {steps: {restart: {outcome: in_doubt, happened: unknown}}}")
    verdict = judge(case)
    assert not verdict.passed
    assert verdict.outcome.breakdowns == ("the case goes on after 1 d; say where it ends with `until`",)
    assert any("broke down: the case goes on" in line for line in lines_of(verdict))


def test_history_on_a_target_that_there_is_not_says_so():
    verdict = judge(case_of("0s: refused no_target", "world: {target: absent}\nhistory: [{ago: 1h, step: restart}]"))
    assert not verdict.passed
    assert verdict.outcome.breakdowns == ("history: nothing is selected that restart could have been taken on",)


def test_in_mode_suggest_nothing_that_could_write_is_built(monkeypatch):
    from remediator.lab.playbook_tests import rehearsal

    built = []

    def remember(*arguments, **options):
        built.append(neighbours(*arguments, **options))
        return built[-1]

    neighbours = rehearsal.neighbours
    monkeypatch.setattr(rehearsal, "neighbours", remember)
    judge(case_of("0s: wait settling until 30s", "settings: {mode: suggest}"))
    assert [(world.actuators, world.executors) for world in built] == [({}, {})]


# --- Wrong files ------------------------------------------------------------------------------------------------------


def problems(text: str) -> list[str]:
    with pytest.raises(FileProblem) as caught:
        cases_of(text)
    return [str(problem) for problem in caught.value.problems]


def in_a_case(line: str) -> str:
    expect = "" if line.startswith("expect") else "\n  expect: {0s: wait settling}"
    return f"cases:\n- name: It\n  {line}{expect}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("wrld: {}", "cases[0].wrld: unknown field 'wrld'; did you mean 'world'?"),
        ("world: {cured_by: restrt}", "cases[0].world.cured_by.restrt: 'restrt' is not a step of the playbook's ladder; "
         "did you mean 'restart'?"),
        ("world: {steps: {restart: don}}", "cases[0].world.steps.restart.outcome[0]: 'don' is not one of its values; "
         "did you mean 'done'?"),
        ("world: {numbers: {redis.info.memory: 1}}", "cases[0].world.numbers.redis.info.memory: 'redis.info.memory' is not a "
         "fact that the playbook's diagnoses find; did you mean 'redis.info.memory_ratio'?"),
        ("world: {checks: {redis.pin: fails}}", "cases[0].world.checks.redis.pin: 'redis.pin' is not a check of the playbook's "
         "verification; did you mean 'redis.ping'?"),
        ("world: {lasts: 5m}", "cases[0]: the fault comes back for ever; say where the case ends, for instance until: 2h"),
        ("happens: {0s: fyre}", "cases[0].happens.0s[0].deed: 'fyre' is nothing that can happen; did you mean 'fire'?"),
        ("happens: {0s: approve ann}", "cases[0].happens.0s[0].deed: 'approve ann' is not understood; write it as: "
         "approve by ann"),
        ("happens: {0s: fire wob}", "cases[0].happens.0s[0]: 'wob' is not another alert; write one of: host, web"),
        ("happens: {5 minutes: fire}", "cases[0].happens.5 minutes: '5 minutes' is not a duration; write one as 30s, 10m or "
         "1h30m"),
        ("happens: {5m: fire, 1m: resolve}", "cases[0].happens: 1m must stand before 5m, in the order of time"),
        ("happens: {0s: {deed: fire, target: absent}}", "cases[0].happens.0s[0]: is a deed and a change of the world at once; "
         "write them as two items of a list"),
        ("happens: {1m: {alertmanager: 'off'}}", "cases[0].happens.1m[0]: Alertmanager cannot stop being configured in the "
         "middle of a case; write unreachable"),
        ("history: [{ago: 5m, step: restrat}]", "cases[0].history[0].step: 'restrat' is not a step of the playbook's ladder; "
         "did you mean 'restart'?"),
        ("history: [{ago: 5m, step: restart, times: 3, every: 5m}]", "cases[0].history[0]: the last one would be after the "
         "start"),
        ("services: [{name: shop-cache, needs: [shop-bd]}]", "cases[0].services[0].needs[0]: there is no service 'shop-bd'; "
         "write one of: shop-cache"),
        ("settings: {mod: auto}", "cases[0].settings.mod: unknown field 'mod'; did you mean 'mode'?"),
        ("expect: {0s: wait setling}", "cases[0].expect.0s[0]: 'setling' in 'wait setling' is not a word that stands there; "
         "did you mean 'settling'?"),
        ("expect: {0s: restart shop dune}", "cases[0].expect.0s[0]: 'dune' in 'restart shop dune' is not a word that stands "
         "there; did you mean 'done'?"),
        ("expect: {0s: suceeded verified}", "cases[0].expect.0s[0]: 'suceeded verified' is not a line of a story; did you mean "
         "'succeeded'?"),
        ("expect: {0s: succeeded verified for wob}",
         "cases[0].expect.0s[0]: 'wob' is not another alert; write one of: host, web"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named_with_its_line_and_the_right_word(line, said):
    assert problems(in_a_case(line)) == [f"cache-down.cases.yaml:{6 if said.startswith('cases[0]: ') else 7}: {said}"]


def test_two_cases_of_one_name_are_one_too_many():
    text = "cases:\n- {name: It, expect: {}}\n- {name: It, expect: {}}"
    assert problems(text) == ["cache-down.cases.yaml:5: cases: two cases are called 'It'"]


def test_a_case_without_an_alert_is_about_nothing():
    with pytest.raises(FileProblem, match=r"cases\[0\]\.alert: is missing; write its labels here or in given"):
        parse_cases("cases: [{name: It, expect: {}}]", "x.cases.yaml", PLAYBOOK)


def test_cases_of_a_playbook_that_there_is_not_are_a_problem(tmp_path):
    (tmp_path / "cache-down.yaml").write_text(PLAYBOOK.source)
    (tmp_path / "cash-down.cases.yaml").write_text(GIVEN + "cases: [{name: It, expect: {}}]")
    with pytest.raises(FileProblem, match=r"there is no playbook .*cash-down\.yaml; did you mean 'cache-down'\?"):
        load_cases(tmp_path)


def test_a_playbook_without_cases_is_found_without_any(tmp_path):
    (tmp_path / "cache-down.yaml").write_text(PLAYBOOK.source)
    [of] = load_cases(tmp_path)
    assert (of.playbook.name, of.file, of.cases) == ("cache-down", "", ())


SCHEMA = jsonschema.Draft202012Validator(json_schema())
SHIPPED = sorted((Path(__file__).parents[2] / "playbooks").glob("*.cases.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_json_schema_takes_the_shipped_cases(path):
    SCHEMA.validate(load_yaml(path.read_text(), path.name)[0])


def test_the_json_schema_refuses_a_mistyped_field():
    good = GIVEN + "cases:\n- name: It\n  world: {cured_by: restart}\n  expect: {0s: wait settling}\n"
    assert SCHEMA.is_valid(load_yaml(good, "x")[0])
    assert not SCHEMA.is_valid(load_yaml(good.replace("world:", "wrld:"), "x")[0])
    assert not SCHEMA.is_valid(load_yaml(good.replace("cured_by:", "curd_by:"), "x")[0])


def test_the_json_schema_is_itself_valid():
    jsonschema.Draft202012Validator.check_schema(json_schema())


# --- What the documentation shows -------------------------------------------------------------------------------------


def test_the_example_of_the_documentation_fails_as_it_says(tmp_path, capsys, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "playbook-tests.md").read_text()
    cases, shown = (page.split(f"```{language}\n")[1].split("```")[0] for language in ("yaml", "console"))
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "cache-down.yaml").write_text(PLAYBOOK.source)
    (tmp_path / "playbooks" / "cache-down.cases.yaml").write_text(cases)
    monkeypatch.chdir(tmp_path)
    assert main(["test", "playbooks/"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[:-1] == shown.splitlines()[1:-1]
    assert said[-1].startswith("1 of 2 cases failed: 6m32s played in ")


@pytest.mark.parametrize("word", [*WorldPart.model_fields, *CasePart.model_fields, *Verb], ids=str)
def test_every_word_of_a_cases_file_is_documented(word):
    page = (Path(__file__).parents[2] / "docs" / "playbook-tests.md").read_text()
    assert re.search(rf"`[^`\n]*\b{word}\b[^`\n]*`|^ *(- )?{word}:", page, re.MULTILINE), word
