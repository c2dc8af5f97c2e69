"""YAML with lines, and validation errors in plain words."""

from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from remediator.yaml_lines import BYTES_MAX, FileProblem, Lines, dotted, load_yaml, problems_of, read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("010", 10),
        ("-7", -7),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("1:30", "1:30"),
        ("30s", "30s"),
        ("0.95", 0.95),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        (".", "."),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("[a, 1]", ["a", 1]),
        ("{off: on}", {"off": "on"}),
        ("{<<: a}", {"<<": "a"}),
        ("{1: a, true: b}", {"1": "a", "true": "b"}),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(text, value):
    assert load_yaml(text, "f.yaml")[0] == value


def test_every_part_of_a_document_has_the_line_on_which_it_begins():
    _, lines = load_yaml("# comment\nname: a\nladder:\n  - restart:\n      timeout: 10s\n  - {stop: {}, when: x}\n", "f.yaml")
    assert lines.at(("name",)) == 2
    assert lines.at(("ladder",)) == 3
    assert lines.at(("ladder", 0, "restart", "timeout")) == 5
    assert lines.at(("ladder", 1, "when")) == 6


def test_what_is_not_in_the_document_has_the_line_of_what_surrounds_it():
    _, lines = load_yaml("a: 1\nladder:\n  - restart: {}\n", "f.yaml")
    assert lines.at(("ladder", 0, "restart", "argv", 3)) == 3
    assert lines.at(("missing",)) == 1
    assert Lines().at(("missing",)) == 0


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a: is given twice; it is on line 1 already"),
        ("a:\n  b: {c: 1, c: 2}", 2, "a.b.c: is given twice; it is on line 2 already"),
        ("a: &x 1\nb: *x", 2, "aliases are refused; put text that begins with * in quotes"),
        ("a: 1\n---\nb: 2", 2, "a second document begins"),
        ("a: 1\nb: [1", 2, "expected ',' or ']'"),
        ("- rollback\n  when: x", 2, "a ':' is missing before this line"),
        ("a:\n\tb: 1", 2, "indent with spaces"),
        ("a: 1\nb: !!python/object/apply:os.system [id]", 2, "b: the tag"),
        ("a: !!int ten", 1, "a: 'ten' is not a number"),
        ("a: " + "9" * 5000, 1, "a: '9999"),
        ("a: !!set {b}", 1, "a: the tag"),
        ("? [a, b]\n: 1", 1, "the name of a field must be text"),
        ("a: 1\nb: " + "[" * 40, 2, "nested deeper than 32 levels"),
        ("a: 1\nb: x\x00y", 2, "the character U+0000 is not allowed"),
        ('a: 1\nb: "\\UFFFFFFFF"', 2, "cannot be read as YAML"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused_with_its_line(text, line, message):
    with pytest.raises(FileProblem) as caught:
        load_yaml(text, "f.yaml")
    assert [problem.line for problem in caught.value.problems] == [line]
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"f.yaml:{line}: ")


def test_all_duplicates_are_reported_at_once():
    with pytest.raises(FileProblem) as caught:
        load_yaml("a: 1\na: 2\nb: 1\nb: 2", "f.yaml")
    assert [(problem.line, problem.field) for problem in caught.value.problems] == [(2, "a"), (4, "b")]


def test_a_file_of_the_largest_size_is_read_and_a_larger_one_is_refused():
    load_yaml("a: " + "x" * (BYTES_MAX - 3), "f.yaml")
    with pytest.raises(FileProblem, match="larger than 256 KiB"):
        load_yaml("a: " + "ü" * (BYTES_MAX // 2), "f.yaml")


def test_a_larger_file_is_not_even_read_to_its_end(tmp_path):
    (tmp_path / "large.yaml").write_text("x" * (2 * BYTES_MAX))
    assert len(read_text(tmp_path / "large.yaml")) == BYTES_MAX + 1


def test_a_file_that_is_missing_or_not_text_is_a_problem_of_the_file(tmp_path):
    with pytest.raises(FileProblem, match=r"gone\.yaml: cannot be read: No such file"):
        read_text(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(FileProblem, match=r"binary\.yaml: is not UTF-8 text: invalid start byte at byte 3"):
        read_text(tmp_path / "binary.yaml")


@given(st.one_of(st.text(), st.text(alphabet="ab:-?[]{}&*!|>'\"%@#,\\ \t\nxU0F~1.", max_size=60)))
def test_whatever_the_text_the_only_exception_is_file_problem(text):
    with suppress(FileProblem):
        load_yaml(text, "f.yaml")


# --- Validation errors in words ---------------------------------------------------------------------------------------


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


def _even(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd; write an even one")
    return number


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Wheel(Strict):
    size: Annotated[int, Field(strict=True, ge=10, le=30)] = 20
    spare: bool = False


class Car(Strict):
    name: str = Field(default="x", max_length=5)
    owner: str = Field(default="x", examples=["Ada"])
    colour: Colour = Colour.RED
    drive: Literal["front", "rear"] | None = None
    wheels: tuple[Wheel, ...] = Field(default=(), min_length=1, max_length=3)
    named: Mapping[str, Wheel] = Field(default_factory=dict)
    doors: Annotated[int, AfterValidator(_even)] = 4
    limit: float | None = None


class Garage(Strict):
    car: Car
    street: str = Field(examples=["Main Street"])


def problems(model: type[BaseModel], text: str) -> list[str]:
    value, lines = load_yaml(text, "f.yaml")
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return [str(problem) for problem in problems_of(caught.value, "f.yaml", lines, model)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("colr: red", "colr: unknown field 'colr'; did you mean 'colour'?"),
        (
            "zzz: 1",
            "zzz: unknown field 'zzz'; write one of: colour, doors, drive, limit, name, named, owner, wheels",
        ),
        ("size: 20", "size: unknown field 'size'; it belongs inside wheels or named"),
        ("wheels: [{}, {siz: 20}]", "wheels[1].siz: unknown field 'siz'; did you mean 'size'?"),
        ("named: {left: {siz: 20}}", "named.left.siz: unknown field 'siz'; did you mean 'size'?"),
        ("colour: Gren", "colour: 'Gren' is not one of its values; did you mean 'green'?"),
        ("colour: 7", "colour: 7 is not one of its values; write one of: green, red"),
        ("drive: read", "drive: 'read' is not one of its values; did you mean 'rear'?"),
        ("doors: 3", "doors: 3 is odd; write an even one"),
        ("name: 5", "name: must be text, not 5; put it in quotes"),
        ("name: true", "name: must be text, not true; put it in quotes"),
        ("name: [a]", "name: must be text, not a list"),
        ("name: abcdef", "name: must have at most 5 characters"),
        ("doors: many", "doors: must be a whole number, not 'many'"),
        ("doors: 2.5", "doors: must be a whole number, not 2.5"),
        ("limit: {}", "limit: must be a number, not a mapping"),
        ("wheels: 4", "wheels: must be a list, not 4"),
        ("wheels: [4]", "wheels[0]: must be a mapping (name: value), not 4"),
        ("wheels: []", "wheels: must not be empty"),
        ("wheels: [{}, {}, {}, {}]", "wheels: must have at most 3 items"),
        ("wheels: [{size: 9}]", "wheels[0].size: must be at least 10"),
        ("wheels: [{size: 31}]", "wheels[0].size: must be at most 30"),
        ("wheels: [{spare: perhaps}]", "wheels[0].spare: must be true or false, not 'perhaps'"),
        ("named: left", "named: must be a mapping (name: value), not 'left'"),
    ],
)
def test_a_validation_error_says_what_to_write_instead(text, problem):
    assert problems(Car, text) == [f"f.yaml:1: {problem}"]


def test_a_missing_field_comes_with_an_example():
    assert problems(Garage, "car: {}") == ["f.yaml:1: street: is missing; write for instance street: Main Street"]
    assert problems(Garage, "street: x") == ["f.yaml:1: car: is missing; write car: …"]


def test_problems_come_in_the_order_of_the_file():
    text = "street: 5\ncar:\n  wheels:\n    - size: 1\n  colour: blue\n  nmae: x"
    assert [problem.split(": ")[0] for problem in problems(Garage, text)] == ["f.yaml:1", "f.yaml:4", "f.yaml:5", "f.yaml:6"]


def test_a_long_wrong_value_is_repeated_only_in_part():
    [problem] = problems(Car, "colour: " + "x" * 1000)
    assert len(problem) < 200


def test_a_place_is_written_as_people_write_it():
    place: tuple[Any, ...] = ("ladder", 0, "redis.flush", "timeout")
    assert dotted(place) == "ladder[0].redis.flush.timeout"
    assert dotted(()) == ""
