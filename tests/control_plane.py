"""A real Kubernetes control plane without nodes: KUBECONFIG's, or one made of the programs in KUBEBUILDER_ASSETS."""

import os
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

from tests.kubernetes_bench import self_signed
from tests.servers import accepts, directory, free_port, is_ready, running

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
TOKEN = "an-administrator"


@contextmanager
def own_control_plane() -> Iterator[Path]:
    """A kubeconfig that may do anything; without one the test is skipped."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    if kubeconfig := os.environ.get("KUBECONFIG", ""):
        yield Path(kubeconfig)
    elif not assets:
        pytest.skip("neither KUBECONFIG nor KUBEBUILDER_ASSETS is set")
    elif missing := [each for each in PROGRAMS if not (Path(assets) / each).exists()]:
        pytest.skip(f"KUBEBUILDER_ASSETS has no {', '.join(missing)}")
    else:
        with directory() as home, _started(Path(assets), home) as kubeconfig_made:
            yield kubeconfig_made


@contextmanager
def _started(assets: Path, home: Path) -> Iterator[Path]:
    """etcd, then the API server, then the controllers, each with a directory of its own."""
    store, server = f"http://127.0.0.1:{free_port()}", f"https://127.0.0.1:{(port := free_port())}"
    certificate, key = self_signed(home), home / "account.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    (home / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
    kubeconfig = _kubeconfig(home, server, certificate)
    etcd = [f"--listen-client-urls={store}", f"--advertise-client-urls={store}", "--listen-peer-urls=http://127.0.0.1:0"]
    api = [
        f"--etcd-servers={store}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={certificate}",
        f"--token-auth-file={home}/tokens.csv",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--disable-admission-plugins=ServiceAccount",
    ]
    controllers = [
        f"--kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={(health := free_port())}",
        f"--cert-dir={home}/controllers",
        "--leader-elect=false",
        f"--service-account-private-key-file={key}",
    ]
    for name in ("store", "api", "controllers"):
        (home / name).mkdir()
    with (
        running([str(assets / "etcd"), *etcd, "--data-dir=data"], home / "store", lambda: is_ready(f"{store}/health")),
        running([str(assets / "kube-apiserver"), *api], home / "api", lambda: _answers(f"{server}/readyz", certificate)),
        running([str(assets / "kube-controller-manager"), *controllers], home / "controllers", lambda: accepts(health)),
    ):
        yield kubeconfig


def _kubeconfig(home: Path, server: str, certificate: Path) -> Path:
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "own", "cluster": {"server": server, "certificate-authority": str(certificate)}}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "own", "context": {"cluster": "own", "user": "admin"}}],
        "current-context": "own",
    }
    path = home / "kubeconfig"
    path.write_text(yaml.safe_dump(configuration))
    return path


def _answers(url: str, certificate: Path) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=1, context=ssl.create_default_context(cafile=certificate)):
        return True
    return False
