"""Secrets of every kind, as they stand in logs, answers and environments. Made from a seed: none lies in a file."""

from dataclasses import dataclass
from random import Random
from string import ascii_letters, ascii_uppercase, digits

BASE64 = ascii_letters + digits + "+/"
BASE64_URL = ascii_letters + digits + "-_"
WORD = ascii_letters + digits


@dataclass(frozen=True, slots=True)
class Planted:
    """`line` is what a log says, `secret` the part of it that nobody may see."""

    kind: str
    line: str
    secret: str


def planted(seed: int = 1) -> list[Planted]:
    """One of each kind."""
    draw = Random(seed)

    def some(characters: str, count: int) -> str:
        return "aZ7" + "".join(draw.choices(characters, k=count - 3))  # with a digit, or it might be a word

    def put(kind: str, line: str, secret: str) -> Planted:
        return Planted(kind, line.replace("…", secret), secret)

    upper = "".join(draw.choices(ascii_uppercase + "234567", k=16))
    hexadecimal = "".join(draw.choices("0123456789abcdef", k=64))
    pem = "\n".join(some(BASE64, 64) for _ in range(12))
    jwt = f"eyJhbGciOiJIUzI1NiJ9.eyJ{some(BASE64_URL, 60)}.{some(BASE64_URL, 43)}"
    return [
        put("password", "connecting with password=… to db", some(WORD, 9)),
        put("password in quotes", 'config {"user": "app", "password": "…", "pool": 5}', some(WORD + " ", 12)),
        put("password in escaped JSON", r'{"msg":"sent {\"password\":\"…\",\"n\":1}"}', some(WORD, 11)),
        put("password in YAML", "  password: …", "".join(draw.choices(ascii_letters, k=12))),
        put("environment", "APP_DB_PASSWORD=…", some(WORD, 14)),
        put("secret key of the environment", "AWS_SECRET_ACCESS_KEY=…", some(BASE64, 40)),
        put("API key in hexadecimal", "x-api-key: …", hexadecimal[:32]),
        put("URL", "cannot reach postgres://app:…@db:5432/shop?sslmode=require", some(WORD, 12)),
        put("URL with odd characters", "dial redis://:…@cache:6379/0 failed", f"{some(WORD, 5)}@{some(WORD, 5)}"),
        put("URL of the MySQL driver", "open app:…@tcp(db:3306)/shop: bad handshake", some(WORD, 12)),
        put("signed address", "GET /backup.tar?sv=2024&sig=…&se=2026 403", some(WORD, 40)),
        put("bearer", "GET /v1 HTTP/1.1 Authorization: Bearer …", some(BASE64_URL, 30)),
        put("basic", "curl -H 'Authorization: Basic …' http://api", some(WORD, 14)),
        put("bearer alone", "retrying with bearer …", some(WORD, 24)),
        put("cookie", "Cookie: session=…; theme=dark", some(WORD, 20)),
        put("private key", f"-----BEGIN RSA PRIVATE KEY-----\n{pem}\n-----END RSA PRIVATE KEY-----", pem.splitlines()[6]),
        put("private key, cut", f"-----BEGIN PRIVATE KEY-----\n{pem}", pem.splitlines()[11]),
        put("JWT", "verified … for user 7", jwt),
        put("GitHub", "cloning with …", f"ghp_{some(WORD, 36)}"),
        put("GitLab", "job token …", f"glpat-{some(BASE64_URL, 20)}"),
        put("Slack", "posting as …", f"xoxb-{draw.randrange(10**11, 10**12)}-{some(WORD, 24)}"),
        put("Slack's webhook", "POST https://hooks.slack.com/services/… 500", f"T0AB/B0CD/{some(WORD, 24)}"),
        put("AWS", "using AKIA…", upper),
        put("Google", "key … is over its quota", f"AIza{some(BASE64_URL, 35)}"),
        put("Stripe", "charge by …", f"sk_live_{some(WORD, 24)}"),
        put("Grafana", "reading with …", f"glsa_{some(WORD, 32)}_{hexadecimal[:8]}"),
        put("Vault", "login by …", f"hvs.{some(BASE64_URL, 90)}"),
        put("OpenAI", "asked with …", f"sk-proj-{some(BASE64_URL, 40)}"),
        put("npm", "publishing by …", f"npm_{some(WORD, 36)}"),
        put("Docker Hub", "pulling as …", f"dckr_pat_{some(BASE64_URL, 27)}"),
        put("Telegram", "GET api.telegram.org/bot…/getMe", f"{draw.randrange(10**9, 10**10)}:AA{some(BASE64_URL, 33)}"),
        put("SQL", "ALTER ROLE app PASSWORD '…' VALID UNTIL 'infinity'", some(WORD, 10)),
        put("Redis", '1700000000.1 [0 127.0.0.1:5] "AUTH" "…"', some(WORD, 10)),
        put("redis.conf", "requirepass …", some(WORD, 10)),
        put("redis-cli", "ran redis-cli -h cache -a … PING", some(WORD, 10)),
        put("mysql", "ran mysql -u root -p… shop", some(WORD, 10)),
        put("curl", "ran curl -s -u app:… http://api", some(WORD, 10)),
        put("flag", "ran worker --db-password … --queue mail", some(WORD, 10)),
        put("random", "generated … just now", some(WORD, 40)),
        put("random in base64", "generated …= just now", some(BASE64, 43)),
        put("random part of a path", "read /var/keys/…/current", some(WORD, 48)),
    ]  # fmt: skip
