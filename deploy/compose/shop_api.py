"""The example service: /health, /metrics, and /break, after which it answers 503 until it is restarted."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock


class Shop(ThreadingHTTPServer):
    daemon_threads = True
    broken = False
    requests: dict[int, int]
    lock: Lock


class Request(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        match self.path:
            case "/metrics":
                with self.server.lock:
                    counts = sorted(self.server.requests.items())
                lines = [f'http_requests_total{{code="{code}"}} {count}\n' for code, count in counts]
                self.answer(200, "# TYPE http_requests_total counter\n" + "".join(lines))
                return
            case "/break":
                self.server.broken = True
                status, text = 200, "broken until restarted\n"
            case _ if self.server.broken:
                status, text = 503, "broken\n"
            case "/" | "/health":
                status, text = 200, "ok\n"
            case _:
                status, text = 404, "no such page\n"
        with self.server.lock:
            self.server.requests[status] = self.server.requests.get(status, 0) + 1
        self.answer(status, text)

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def shop(port: int) -> Shop:
    server = Shop(("", port), Request)
    server.requests, server.lock = {}, Lock()
    return server


if __name__ == "__main__":
    shop(8080).serve_forever()
