"""A slow way to the real Docker engine: restarts are underway for a while, and are lost if their sender dies meanwhile."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import AF_UNIX, MSG_DONTWAIT, MSG_PEEK, SHUT_RDWR, SOCK_STREAM, socket
from time import sleep

CHUNK_BYTES = 65_536
UNIX = "unix://"


@dataclass(slots=True)
class SlowWay:
    url: str
    engine: str
    chance: random.Random
    seconds_max: float
    lost: int = 0
    """Restarts that the engine never heard of."""

    def carry(self, client: socket) -> None:
        """One connection, both directions, until either side ends it."""
        with client, socket(AF_UNIX, SOCK_STREAM) as engine, suppress(OSError):
            engine.connect(self.engine)
            back = threading.Thread(target=_pour, args=[engine, client], daemon=True)
            back.start()
            while chunk := client.recv(CHUNK_BYTES):
                if b"/restart" in chunk.split(b"\r\n", 1)[0]:
                    sleep(self.chance.uniform(0, self.seconds_max))
                    if _has_gone(client):
                        self.lost += 1
                        break
                engine.sendall(chunk)
            engine.shutdown(SHUT_RDWR)
            back.join()


@contextmanager
def slow_way(path: Path, engine_url: str, chance: random.Random, seconds_max: float) -> Iterator[SlowWay]:
    """Listens at `path`; a restart takes up to `seconds_max` to the engine, which must be one behind a Unix socket."""
    way = SlowWay(f"{UNIX}{path}", engine_url.removeprefix(UNIX), chance, seconds_max)
    with socket(AF_UNIX, SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(32)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=way.carry, args=[listener.accept()[0]], daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield way
        finally:
            listener.shutdown(SHUT_RDWR)
            accepting.join(10)


def _pour(source: socket, sink: socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            sink.sendall(chunk)
        sink.shutdown(SHUT_RDWR)


def _has_gone(peer: socket) -> bool:
    try:
        return peer.recv(1, MSG_PEEK | MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
