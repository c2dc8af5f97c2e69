"""What is taken out of text, and, as important, what is not: evidence that hides the container id helps nobody."""

import base64
import hashlib
import random
import string
from time import perf_counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.core.redaction import RANDOM_CHARACTERS_MIN, redacted, redacted_all
from remediator.core.redaction_rules import REDACTED
from tests.planted_secrets import BASE64, BASE64_URL, WORD, Planted, planted

SIXTEEN_KIB = 16_384
SECONDS_MAX = 0.1
"""On a busy machine. On a quiet one ordinary lines take 1 ms, lines full of secrets 4, the worst text known 20."""

# --- What goes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", planted(), ids=lambda one: one.kind)
def test_a_secret_is_taken_out_and_the_line_says_that_there_was_one(one: Planted):
    shown = redacted(one.line)
    assert one.secret not in shown
    assert REDACTED in shown


@given(st.integers(0, 2**32), st.text(string.printable, max_size=40), st.text(string.printable, max_size=40))
def test_whatever_stands_on_the_lines_around_it(seed, before, after):
    for one in planted(seed):
        assert one.kind.startswith("random") or one.secret not in redacted(f"{before}\n{one.line}\n{after}"), one.kind


@pytest.mark.parametrize("characters", [WORD, BASE64, BASE64_URL], ids=["base62", "base64", "base64url"])
@pytest.mark.parametrize(("length", "at_most"), [(RANDOM_CHARACTERS_MIN, 120), (43, 30), (64, 10)])
def test_of_2000_random_texts_without_any_context_few_stay(characters, length, at_most):
    draw = random.Random(length)
    texts = ["".join(draw.choices(characters, k=length)) for _ in range(2_000)]
    assert sum(text in redacted(f"made {text} now") for text in texts) <= at_most


@given(st.integers(0, 2**32))
def test_what_is_redacted_already_stays_as_it_is(seed):
    shown = redacted("\n".join(one.line for one in planted(seed) if one.kind != "private key, cut"))
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("postgres://app:tulip@db:5432/shop", "postgres://app:[redacted]@db:5432/shop"),
        ("Authorization: Bearer tulip7", "Authorization: Bearer [redacted]"),
        ("DB_PASSWORD='a tulip' DB_HOST=db", "DB_PASSWORD='[redacted]' DB_HOST=db"),
        ('{"token": "tulip", "ttl": 60}', '{"token": "[redacted]", "ttl": 60}'),
        ("Cookie: sid=tulip; a=b\nHost: shop", "Cookie: [redacted]\nHost: shop"),
        ("curl -u ann:tulip http://shop", "curl -u ann:[redacted] http://shop"),
        ("password='tulip", "password=[redacted]"),
    ],
)
def test_what_a_secret_stood_for_stays(line, shown):
    assert redacted(line) == shown


def test_a_private_key_goes_with_the_times_that_an_engine_puts_before_its_lines():
    lines = ["-----BEGIN EC PRIVATE KEY-----", "MHcCAQEEIF", "-----END EC PRIVATE KEY-----", "started"]
    shown = redacted("\n".join(f"2026-11-25T18:07:27.1Z {line}" for line in lines))
    assert shown == f"2026-11-25T18:07:27.1Z {REDACTED}\n2026-11-25T18:07:27.1Z started"


def test_texts_in_a_value_are_redacted_wherever_they_stand():
    value = {"a": ["password=tulip", {"b": "url redis://:tulip@c/0"}], "n": 3, "none": None, "on": True}
    expected = {"a": ["password=[redacted]", {"b": "url redis://:[redacted]@c/0"}], "n": 3, "none": None, "on": True}
    assert redacted_all(value) == expected


# --- What stays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "FATAL: password authentication failed for user \"app\"",
        "ERROR: Access denied for user 'app'@'10.0.0.7' (using password: YES)",
        "invalid token: unexpected end of JSON input",
        "wrong password: must have at least 8 characters",
        "no token=null, max_tokens=4096, fencing token=42, password=, secret: none",
        "PASSWORD=$DB_PASSWORD TOKEN=${TOKEN} --password-file /run/secrets/db",
        "env: {valueFrom: {secretKeyRef: {name: shop-db, key: url}}}",
        'MountVolume.SetUp failed for volume "tls" : secret "shop-tls" not found',
        "PWD=/srv/shop OLDPWD=/root HOME=/root",
        "HTTP 401 authorization: required by proxy, cookie: none sent",
        "listening at http://shop-api:8080/health, not at http://shop-api:8080/admin@v2",
        "Unable to pull registry:5000/team/shop@sha256:" + "0f" * 32,
        "image nginx:1.27.3-alpine3.20@sha256:" + "a9" * 32,
        "at org.springframework.web.servlet.FrameworkServlet.service(FrameworkServlet.java:897)",
        "at com.shop.AbstractAnnotationConfigDispatcherServletInitializerV2Factory.create(Factory.java:7)",
        "#3 0x00007f2c _ZNSt6vectorIN4shop5OrderESaIS1_EE17_M_realloc_insertIJRKS1_EEEvN9__gnu_cxx17E",
        "SyntaxError in /usr/lib/python3.11/site-packages/shop/Api_V2/OrdersController2.py, line 7",
        "overlay /var/lib/docker/overlay2/l/6Y5IM2XC7TSNIJZZFLJCS6I4J4:/var/lib/docker/overlay2/l/ZFLJCS6I4J46Y5IM2XC7TSNIJZ",
        "pod shop-api-7d9c5b6f4d-x2x7k OOMKilled, traceparent 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "request 01ARZ3NDEKTSV4RRFFQ69G5FAV of pi_3MtwBwLkdIwHu7ix28a3tqPa, KSUID 0ujtsYcgvSTl8PAuAdqWYSMnLOv",
        "host key SHA256:47DEQpj8HBSa+/TImW5JCeuQeRkm5NMpJWZG3hSuFUo",
        "integrity sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwv",
        "GET /api/v1/orders?page=2&sort=-created HTTP/1.1 200 12ms 10.1.2.3:51234 [::1]:8080 mailto:ann@shop.example",
        "raft: leader 8e9e05c52164694d term=12 key=user:42 partition key: 77 keyspace hits: 1204",
    ],
)  # fmt: skip
def test_an_ordinary_line_stays_as_it_is(line):
    assert redacted(line) == line


def _hex(digits: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=digits // 2, max_size=digits // 2).map(bytes.hex)


WORDS = st.lists(
    st.sampled_from(["shop", "Cart", "api", "Worker", "user", "Http", "item", "Db", "queue", "v2", "7"]), min_size=1, max_size=7
)
NAMES = st.one_of(
    WORDS.map("-".join), WORDS.map("_".join), WORDS.map(".".join), WORDS.map(lambda words: "".join(map(str.title, words)))
)
ORDINARY = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda one: str(one).upper()),
    st.uuids().map(lambda one: base64.urlsafe_b64encode(UUID(str(one)).bytes).decode()),
    _hex(12),
    _hex(32),
    _hex(40),
    _hex(64),
    _hex(64).map(lambda one: f"sha256:{one}"),
    _hex(64).map(str.upper),
    _hex(40).map(lambda one: f"0x{one}"),
    st.binary(min_size=32, max_size=32).map(lambda one: "sha256-" + base64.b64encode(hashlib.sha256(one).digest()).decode()),
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.datetimes().map(lambda at: f"{at:%Y%m%dT%H%M%S.%f}+0000"),
    st.ip_addresses().map(str),
    st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=26, max_size=26),
    st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=5, max_size=60).map(lambda one: f"shop-api-{one}"),
    st.floats(allow_nan=False).map(str),
    st.integers().map(str),
    NAMES,
    st.lists(NAMES, min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts)),
    st.lists(NAMES, min_size=2, max_size=4).map("/".join),
)


@given(
    st.lists(st.tuples(NAMES, st.sampled_from((" ", "=", ": ", " [", "] ", '="', '" ', ", ", " - ")), ORDINARY), max_size=12)
)
def test_ids_digests_paths_addresses_and_times_stay_readable(parts):
    line = " ".join(f"{name}{sign}{value}" for name, sign, value in parts)
    assert redacted(line) == line


@given(st.text(string.ascii_letters + string.digits + "+/_-", max_size=RANDOM_CHARACTERS_MIN - 1))
def test_what_is_too_short_to_tell_from_an_identifier_stays(text):
    for rest in (text, f"id={text} "):
        assert redacted(rest) == rest or text.startswith(("gh", "gl", "xox", "sk", "npm", "AKIA", "ASIA", "ABIA", "ACCA"))


@given(st.text(max_size=500))
def test_no_text_breaks_it(text):
    redacted(text)


# --- How fast ---------------------------------------------------------------------------------------------------------


def _seconds(text: str) -> float:
    began = perf_counter()
    redacted((text * (SIXTEEN_KIB // len(text) + 1))[:SIXTEEN_KIB])
    return perf_counter() - began


def test_sixteen_kib_of_log_lines_take_milliseconds():
    draw = random.Random(1)
    lines = (f"2026-11-25T18:07:27.1Z INFO {draw.randbytes(16).hex()} GET /api/v1/orders/{n} 200 12ms\n" for n in range(300))
    assert _seconds("".join(lines)) < SECONDS_MAX
    assert _seconds("\n".join(one.line for one in planted())) < SECONDS_MAX


@pytest.mark.parametrize(
    "unit",
    ["a", "aB1", "=", "://", "://a:", 'password="', 'password=\\"', "--a-", "--token", "curl ", "mysql ", "redis-cli -", "/aB1",
     "eyJaaaaaaaa.", "-----BEGIN A ", "-----BEGIN PRIVATE KEY", '"AUTH" "a" ', "cookie=a;", "bearer 1", "authorization: ",
     "a@tcp(", "key\\"],
)  # fmt: skip
def test_no_text_takes_long(unit):
    assert min(_seconds(unit) for _ in range(3)) < SECONDS_MAX
