"""What secrets look like: by the prefix that a service gives its tokens, by their place, or by the name they stand behind.

The prefixes are those that the services document, and that gitleaks (https://github.com/gitleaks/gitleaks, MIT licence) looks
for; the lengths are shorter, because evidence may have been cut. What may repeat before something that must follow is
bounded, so that no text takes long.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

REDACTED = "[redacted]"


@dataclass(frozen=True, slots=True)
class Rule:
    """`pattern` is looked for only in a text that has one of `hints` in it, in small letters: that is what makes it fast."""

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str] = REDACTED


def _token(hints: str, pattern: str) -> Rule:
    return Rule(tuple(hints.split()), re.compile(rf"(?<![A-Za-z0-9]){pattern}"))


KEPT = rf"\g<kept>{REDACTED}"
"""A pattern's group `kept` says what it was."""

PRIVATE_KEY = Rule(
    ("private key",),
    # With the times that an engine puts before each line. One without an end was cut.
    re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY.*?(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY[A-Z ]*-----|\Z)", re.DOTALL),
)

TOKENS = (
    _token("eyj", r"eyJ[\w-]{8,}(?:\.[\w-]*){1,4}"),  # JWT (RFC 7519) and JWE: a JSON object in base64url, and more parts
    _token("ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"(?:gh[pousr]_|github_pat_)\w{16,}"),
    _token("gl", r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|oas)-[\w.-]{16,}"),
    _token("xox", r"xox[a-z](?:\.xox[a-z])?-[\w-]{8,}"),  # Slack
    _token("xapp-", r"xapp-[\w-]{8,}"),
    _token("akia asia abia acca", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}"),  # AWS access key ids
    _token("aiza", r"AIza[\w-]{30,}"),  # Google
    _token("ya29.", r"ya29\.[\w-]{16,}"),
    _token("gocspx-", r"GOCSPX-[\w-]{16,}"),
    _token("k_live_ k_test_", r"(?:sk|rk)_(?:live|test)_\w{10,}"),  # Stripe
    _token("whsec_", r"whsec_[\w+/=]{16,}"),
    _token("sk-", r"sk-[\w-]{20,}"),  # OpenAI, Anthropic
    _token("npm_", r"npm_\w{20,}"),
    _token("pypi-", r"pypi-[\w-]{20,}"),
    _token("dckr_", r"dckr_(?:pat|oat)_[\w-]{16,}"),  # Docker Hub
    _token("hvs. hvb. hvr.", r"hv[sbr]\.[\w-]{16,}"),  # HashiCorp Vault
    _token(".atlasv1.", r"\w{10,}\.atlasv1\.[\w=-]{16,}"),  # Terraform Cloud
    _token("glsa_ glc_", r"gl(?:sa|c)_[\w+/=]{16,}"),  # Grafana
    _token("dop_ doo_ dor_", r"do[opr]_v1_\w{16,}"),  # DigitalOcean
    _token("dapi", r"dapi[0-9a-f]{24,}"),  # Databricks
    _token("sg.", r"SG\.[\w-]{16,}\.[\w-]{16,}"),  # SendGrid
    _token(":aa", r"(?:bot)?\d{8,10}:AA[\w-]{25,}"),  # Telegram
    _token("shp", r"shp(?:at|ca|pa|ss)_\w{16,}"),  # Shopify
    _token("hf_", r"hf_[A-Za-z]{24,}"),  # Hugging Face
    _token("nrak-", r"NRAK-[A-Z0-9]{16,}"),  # New Relic
    _token("atatt3", r"ATATT3[\w=-]{16,}"),  # Atlassian
    _token("age-secret-key-", r"AGE-SECRET-KEY-1[A-Z0-9]{16,}"),
    _token("sntry", r"sntry[su]_[\w+/=-]{16,}"),  # Sentry
    _token("tskey-", r"tskey-[\w-]{16,}"),  # Tailscale
    _token("8q~", r"[\w~.-]{3}8Q~[\w~.-]{24,}"),  # Microsoft Entra ID
)
WEBHOOKS = Rule(
    ("hooks.slack.com/", "discord", "webhook.office.com/"),
    re.compile(r"(?P<kept>hooks\.slack\.com/\w+/|discord(?:app)?\.com/api/webhooks/|webhook\.office\.com/\w+/)[\w/@.-]+"),
    KEPT,
)
"""Addresses to which whoever knows them may post."""

# RFC 3986, and with slashes in the password all the same.
URL_PASSWORD = Rule(
    ("://", "@tcp(", "@unix("),
    re.compile(
        r"""(?P<kept>://[^\s/:@"'<>\[\]]{0,100}:)(?:[^\s/"'<>]{1,300}|(?!\d{1,5}/)[^\s@"'<>]{1,300})(?=@)"""
        r"""|(?P<user>\b[\w.-]{1,100}:)[^\s@/:"']{1,300}(?=@(?:tcp|unix)\()"""  # Go's MySQL driver
    ),
    lambda found: f"{found['kept'] or found['user']}{REDACTED}",
)
BASIC_OR_BEARER = Rule(
    ("bearer", "authorization"),
    re.compile(
        r"""(?P<kept>\bauthorization\\*["']?[ \t]*[:=][ \t]*\\*["']?"""
        r"""(?:basic|bearer|token|digest|negotiate|apikey|aws4-hmac-sha256)[ \t]+)[^"'\\\r\n]+"""
        r"""|(?P<scheme>\bbearer[ \t]+)(?=[\w.~+/=-]*\d)[\w.~+/=-]{16,}""",
        re.IGNORECASE,
    ),
    lambda found: f"{found['kept'] or found['scheme']}{REDACTED}",
)
COOKIE = Rule(
    ("cookie",),
    re.compile(r"""(?P<kept>\bcookie\\*["']?[ \t]*[:=][ \t]*\\*["']?)[\w.$-]+=[^"'\\\r\n]*""", re.IGNORECASE),
    KEPT,
)
"""The whole header (RFC 6265): which of the cookies is the session is not known."""

# --- Behind a name ----------------------------------------------------------------------------------------------------

_PASSWORDS = "password|passwd|passphrase|pwd(?!=[/~])|requirepass|masterauth|redis(?:cli)?_auth"
_OTHERS = (
    "secret|token|credentials?|authorization|x-amz-signature|(?<=[?&])sig"
    "|(?:api|access|secret|private|account|shared|auth|signing|encryption|master)[_-]?key(?:[_-]?id)?"
)
_NAME_HINTS = (
    "passw", "passphrase", "pwd", "requirepass", "masterauth", "cli_auth", "redis_auth", "secret", "token", "credential",
    "authorization", "signature", "sig=", "key",
)  # fmt: skip
_VALUE = (
    r"""(?:(?P<quote>["'])(?P<quoted>(?:\\.|(?!(?P=quote))[^\\\n])*)(?P=quote)"""
    r"""|(?P<escape>\\+["'])(?P<escaped>.*?)(?P=escape)"""  # JSON as a text in JSON
    r"""|(?P<bare>\\*["']?[^\s,;&"'<>(){}\[\]\\]++(?![(\[])))"""
)
_NAMED = re.compile(
    rf"""(?P<kept>(?:(?P<password>{_PASSWORDS})|{_OTHERS})\\*["']?(?P<sign>[ \t]*(?::=|=>|[:=])(?!=)[ \t]*))(?:{_VALUE})""",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r".{0,2}|null|nil|none|true|false|undefined|unset|empty|yes|no|[*x•.-]+|\$\{?\w+(?::-)?\}?|\$\(.*|%\w+%?|\d{1,5}",
    re.IGNORECASE,
)
"""Values that give nothing away: that there is none, a placeholder, a count. (What is called like a function is code.)"""
_END = re.compile(r"[ \t]*(?:$|[,;}\])])", re.MULTILINE)


def _behind_a_name(found: re.Match[str]) -> str:
    """`name=value` and quoted values are secrets. `name: word` may be prose, as in `invalid token: unexpected end of input`."""
    quote = found["quote"] or found["escape"] or ""
    value = (found["quoted"] if found["quote"] else found["escaped"]) if quote else found["bare"]
    if REDACTED in found[0] or (_NOTHING.fullmatch(value) and not (found["password"] and value.isdecimal())):
        return found[0]
    prose = not quote and found["sign"].strip() == ":" and not _stands_alone(found) and not _is_mixed(value)
    return found[0] if prose else f"{found['kept']}{quote}{REDACTED}{quote}"


def _stands_alone(found: re.Match[str]) -> bool:
    """Whether a password is all that the rest of the line says, as in YAML."""
    return found["password"] is not None and _END.match(found.string, found.end()) is not None


def _is_mixed(value: str) -> bool:
    """Letters with digits, or with signs that words do not have."""
    return len(value) >= 6 and any(map(str.isalpha, value)) and any(c.isdigit() or c in "!#$%^*+=~?@|" for c in value)


BEHIND_A_NAME = Rule(_NAME_HINTS, _NAMED, _behind_a_name)
ON_A_COMMAND_LINE = Rule(
    ("--", "redis-cli", "valkey-cli", "curl", "sshpass", "mysql"),
    re.compile(
        rf"""(?P<kept>(?<![\w-])--[\w-]{{0,40}}?(?:{_PASSWORDS}|{_OTHERS})[ \t]+(?!-)"""
        r"""|\b(?:redis|valkey)-cli\b[^\n]{0,200}?[ \t]-a[ \t]+|\bsshpass[ \t]+-p[ \t]*"""
        r"""|\bmysql\w*\b[^\n]{0,200}?[ \t]-p(?=\S)|\bcurl\b[^\n]{0,200}?[ \t](?:-u|--user)[ \t=]+[^\s:]+:)"""
        r"""\\*["']?(?!\[redacted)[^\s"'\\]+""",
        re.IGNORECASE,
    ),
    KEPT,
)
IN_A_STATEMENT = Rule(
    ("password", "identified by", "requirepass", "masterauth", "auth"),
    re.compile(
        r"""(?P<kept>\b(?:password|identified[ \t]+by|requirepass|masterauth)\\*["']?[ \t]+\\*["'])[^"'\\]+"""  # SQL, MONITOR
        r"""|(?P<plain>\b(?:requirepass|masterauth)[ \t]+)(?!\[redacted)[^\s"']+"""  # redis.conf
        r"""|(?P<auth>"AUTH"[ \t]+")(?!\[redacted)[^"]+(?:"[ \t]+"[^"]+)?""",
        re.IGNORECASE,
    ),
    lambda found: f"{found['kept'] or found['plain'] or found['auth']}{REDACTED}",
)

RULES = (
    PRIVATE_KEY,
    BASIC_OR_BEARER,
    COOKIE,
    WEBHOOKS,
    *TOKENS,
    URL_PASSWORD,
    IN_A_STATEMENT,
    ON_A_COMMAND_LINE,
    BEHIND_A_NAME,
)
"""In this order: what is recognised as a whole goes before what would take a part of it."""
