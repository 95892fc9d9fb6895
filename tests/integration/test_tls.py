"""Two servers that let in nobody without TLS and a password."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg.conninfo import make_conninfo

from foreshard.errors import ConfigurationError, ShardUnavailable
from foreshard.fleet.grants import OPERATOR
from foreshard.fleet.server import PostgresServer
from foreshard.fleet.throwaway import ShardDatabase, ShardPair, ThrowawayServers
from foreshard.migration.lifecycle import Stage
from foreshard.postgres.connect import connect, with_password
from tests.integration.moving_fleet import MovingFleet, ignore, wait_until

pytestmark = pytest.mark.slow

ONLY_TLS = "hostssl all all 127.0.0.1/32 scram-sha-256\n"


@dataclass(frozen=True)
class TlsShard(ShardDatabase):
    """A shard whose DSNs demand its certificate."""

    root: Path

    def dsn(self, role: str) -> str:
        return make_conninfo(super().dsn(role), sslmode="verify-full", sslrootcert=str(self.root))


def certificate(directory: Path, name: str) -> tuple[Path, bytes]:
    """A certificate for 127.0.0.1 that vouches for itself, in a file that everybody can read, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    file = directory / f"{name}.crt"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    file.chmod(0o644)
    return file, key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def turn_on(server: PostgresServer, root: Path, key: bytes, rules: str = ONLY_TLS) -> None:
    """Let the server speak TLS, and let in nobody who does not."""
    owner = server.data_dir.stat()
    for name, content in (("server.crt", root.read_bytes()), ("server.key", key)):
        file = server.data_dir / name
        file.write_bytes(content)
        file.chmod(0o600)
        os.chown(file, owner.st_uid, owner.st_gid)
    with server.connect() as admin:
        admin.execute("ALTER SYSTEM SET ssl = on")
        (server.data_dir / "pg_hba.conf").write_text(rules, encoding="utf-8")
        admin.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def tls_servers() -> Iterator[ThrowawayServers]:
    with ThrowawayServers() as servers:
        for name in ("source", "target"):
            root, key = certificate(servers.directory, name)
            turn_on(servers.server(name), root, key)
        yield servers


@pytest.fixture
def pair(tls_servers: ThrowawayServers) -> ShardPair:
    fresh = [tls_servers.new_shard(name) for name in ("source", "target")]
    return ShardPair(
        *(TlsShard(s.name, s.server, s.database, tls_servers.directory / f"{s.name}.crt") for s in fresh)
    )


def test_a_certificate_is_verified(pair: ShardPair, tls_servers: ThrowawayServers) -> None:
    dsn = pair.source.operator_dsn
    with connect(dsn) as conn:
        assert conn.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)
    assert "sslmode=verify-full" in with_password(dsn)
    with pytest.raises(ShardUnavailable, match="certificate verify failed"):
        connect(make_conninfo(dsn, sslrootcert=str(tls_servers.directory / "target.crt")))
    with pytest.raises(ShardUnavailable, match="no encryption"):
        connect(make_conninfo(dsn, sslmode="disable"))


def test_a_server_that_asks_for_no_password_is_no_publisher(pair: ShardPair) -> None:
    hba = pair.source.server.data_dir / "pg_hba.conf"
    with pair.source.connect() as admin:
        try:
            hba.write_text(f"hostssl all {OPERATOR} 127.0.0.1/32 trust\n{ONLY_TLS}", encoding="utf-8")
            admin.execute("SELECT pg_reload_conf()")
            wait_until(lambda: lets_in_without(pair.source), "the new rules")
            with pytest.raises(ConfigurationError, match="asks us for no password"):
                with_password(pair.source.operator_dsn)
        finally:
            hba.write_text(ONLY_TLS, encoding="utf-8")
            admin.execute("SELECT pg_reload_conf()")
    wait_until(lambda: not lets_in_without(pair.source), "the old rules")


def lets_in_without(shard: ShardDatabase) -> bool:
    with connect(shard.operator_dsn) as conn:
        return not conn.pgconn.used_password


@pytest.mark.parametrize("ends", [Stage.DONE, Stage.REVERSED])
def test_a_migration_between_them_runs(
    pair: ShardPair, control_dsn: str, tmp_path: Path, ends: Stage
) -> None:
    fleet = MovingFleet(pair, control_dsn, tmp_path)
    fleet.run_until(Stage.SOAK)
    with pair.target.connect() as admin:
        assert admin.execute(
            "SELECT bool_and(subconninfo ~ 'verify-full') FROM pg_subscription"
        ).fetchone() == (True,)
    with pair.source.connect() as admin:
        assert admin.execute(
            "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE backend_type = 'walsender'"
        ).fetchone() == (True,)
    if ends is Stage.DONE:
        fleet.run_until(None)
    else:
        with fleet.runner() as runner:
            runner.reverse(ignore)
    assert fleet.store.get(fleet.migration).stage is ends
    assert fleet.leftovers() == []
    fleet.close()


def test_a_subscription_says_that_its_server_needs_the_file(
    pair: ShardPair, control_dsn: str, tmp_path: Path
) -> None:
    """Our own connections find the certificate; the target's account cannot enter the directory."""
    if os.geteuid() != 0:
        pytest.skip("the servers run under our own account here")
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    assert isinstance(pair.source, TlsShard)
    copy = hidden / "source.crt"
    copy.write_bytes(pair.source.root.read_bytes())
    source = TlsShard(pair.source.name, pair.source.server, pair.source.database, copy)
    fleet = MovingFleet(ShardPair(source, pair.target), control_dsn, tmp_path / "state")
    with pytest.raises(psycopg.OperationalError, match="The subscribing server logs in here") as refused:
        fleet.run_until(Stage.CATCH_UP)
    password = source.server.passwords.password(source.server.port, OPERATOR)
    assert str(password) not in str(refused.value)
    with fleet.runner() as runner:
        runner.abort(ignore)
    assert fleet.leftovers() == []
    fleet.close()
