"""Tokens and certificates, made for a test."""

import base64
import hashlib
import hmac
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mint:
    """Makes tokens (HS256 JWTs) that a broker with the same secret believes."""

    secret: bytes

    def token(self, role: str, seconds: float | None = None) -> str:
        """Give a token of a role; seconds: how long it is good for, less than nothing for one that has expired."""
        claims: dict[str, object] = {"sub": role}
        if seconds is not None:
            claims["exp"] = int(time.time() + seconds)
        signed = f"{_part(json.dumps({'alg': 'HS256'}).encode())}.{_part(json.dumps(claims).encode())}"
        return f"{signed}.{_part(hmac.digest(self.secret, signed.encode(), hashlib.sha256))}"


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder; needs openssl."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    def found(self) -> "Authority":
        """Make the authority's own key and certificate."""
        self.folder.mkdir()
        self._run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=an authority of tests",
                  "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip
        return self

    def certify(self, name: str) -> tuple[Path, Path]:
        """Give certificate and key of a server with that subjectAltName, such as IP:127.0.0.1."""
        (self.folder / "names").write_text(f"subjectAltName={name}", encoding="utf-8")
        self._run("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a broker of tests",
                  "-keyout", "server.key", "-out", "server.csr")  # fmt: skip
        self._run("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                  "-days", "2", "-extfile", "names", "-out", "server.pem")  # fmt: skip
        return self.folder / "server.pem", self.folder / "server.key"

    def _run(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
