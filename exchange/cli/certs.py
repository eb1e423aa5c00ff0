"""`zhiwang certs`: a city's authority, and the keys and certificates of everybody in it."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509

from certs.ca import CA_KEY, CRL, CRL_DAYS, DEFAULT_DAYS, Authority
from certs.identity import CA_CERTIFICATE, Identity, Kind, write_public
from certs.renewal import Installed, Renewal, holder_of, install, request_renewal, settle
from certs.request import make_requests
from certs.show import describe
from certs.signing import MALFORMED, subject_of
from exchange.doctor.directory import kept
from exchange.doctor.local import host_of
from zhiwang.wire import output
from zhiwang.wire.errors import Reason, RefusedError, ZhiwangError
from zhiwang.wire.profile import Profile, load_profile

app = typer.Typer(
    help="证书：颁发机构、申请、签发、吊销。 Authority, requests, certificates and revocation.", no_args_is_help=True
)
authority_app = typer.Typer(help="颁发机构  The city's certificate authority.", no_args_is_help=True)
app.add_typer(authority_app, name="authority")

AuthorityDir = Annotated[
    Path, typer.Option("--authority", help="Directory of the authority.", exists=True, file_okay=False)
]
Files = Annotated[list[Path], typer.Argument(exists=True, dir_okay=False)]


@authority_app.command("init")
def authority_init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where it will lie; made if need be.")],
    city: Annotated[str, typer.Option(help="Name of the city in every identity, e.g. shenzhen.")],
    pin: output.Pin = None,
) -> None:
    """Make a certificate authority and its first, empty revocation list; do it once, on a machine that is offline.

    Example: zhiwang certs authority init /secure/ca --city shenzhen
    """
    authority = Authority.create(directory, city)
    write_public(directory / CRL, authority.crl())
    if pin is not None:
        output.pin(pin, CA_CERTIFICATE, authority.certificate_pem)
    output.say(
        f"The authority of {city} lies in {directory}. Its key, {CA_KEY}, must never leave it; keep a copy offline."
    )
    if pin is None:
        output.next_step(f"give {directory / CA_CERTIFICATE} to every installation, into its root directory")
    output.next_step("each department makes its keys: zhiwang certs request hrss/adapter/main --city … --out DIR")


@app.command()
def request(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME…", help="department/kind/name, e.g. edu/system/enrolment.")
    ],
    out: Annotated[Path, typer.Option(help="Where the identity directories will lie: DIR/department/kind/name.")],
    city: Annotated[str, typer.Option(envvar="ZHIWANG_CITY", help="City of the identities.")] = "",
    authority: Annotated[
        Path | None,
        typer.Option(help="An authority on this very machine: issue the certificates at once.", file_okay=False),
    ] = None,
) -> None:
    """Make keys and certificate requests, several at once. A private key never leaves its directory.

    Keys that are there are kept; to renew certificates, see zhiwang certs renew. A NAME may also be a whole identity,
    spiffe://….

    Example: zhiwang certs request edu/system/enrolment edu/agent/main edu/admin/li --city shenzhen --out identities
    """
    identities = [_identity(name, city) for name in names]
    # Opened first, so that nothing is made if it cannot issue.
    opened = None if authority is None else Authority.load(authority)
    for identity in identities:
        settle(out / identity.short)
    rows = [
        (identity.short, path.stem, path)
        for identity in identities
        for path in make_requests(out / identity.short, identity)
    ]
    if opened is not None:
        _issue(opened, [path for _, _, path in rows], days=DEFAULT_DAYS)
        return
    output.print_table(("identity", "for", "request"), rows)
    output.next_step(
        "carry the requests (.csr, nothing else) to the authority: zhiwang certs issue …/*.csr --authority DIR"
    )


@app.command()
def issue(
    requests: Annotated[list[Path], typer.Argument(metavar="CSR…", exists=True, dir_okay=False)],
    authority: AuthorityDir,
    days: Annotated[float, typer.Option(min=0.001, help="Validity in days.")] = DEFAULT_DAYS,
    out: Annotated[
        Path | None, typer.Option(help="Write to OUT/department/kind/name/ instead of beside each request.")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="Further DNS name or IP address of a server, for clients that cannot override what they dial."
        ),
    ] = None,
) -> None:
    """Issue the certificates that requests ask for: all of them, or none if one cannot be granted.

    Look at the identities first (zhiwang certs show): whoever holds such a certificate is that department's.

    Example: zhiwang certs issue identities/edu/system/enrolment/*.csr --authority /secure/ca
    """
    _issue(Authority.load(authority), requests, days=days, out=out, hosts=host or ())


def _issue(
    authority: Authority,
    requests: Sequence[Path],
    *,
    days: float,
    out: Path | None = None,
    hosts: Sequence[str] = (),
) -> None:
    """All of them, or none if one cannot be granted; beside each request, or below `out`."""
    targets = []
    for path in requests:
        data = path.read_bytes()
        _, identity, _ = authority.examine(data, hosts=hosts)
        folder = out / identity.short if out else path.parent
        targets.append((identity, folder / f"{path.stem}.pem", data))
    issued = [(identity, target, authority.issue(data, days=days, hosts=hosts)) for identity, target, data in targets]
    rows = []
    for identity, target, pem in issued:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_public(target, pem)
        settle(target.parent)
        certificate = x509.load_pem_x509_certificate(pem)
        rows.append((identity.short, target.stem, f"{certificate.not_valid_after_utc:%Y-%m-%d}", target))
    output.print_table(("identity", "for", "valid until", "certificate"), rows)
    output.next_step("put each certificate beside its key; a running process takes it by itself within seconds")


@app.command()
def renew(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DIR…", help="Identity directories.", exists=True, file_okay=False, show_default=False),
    ] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="Renew what this profile uses, in place of DIR….", dir_okay=False)
    ] = None,
    new_keys: Annotated[  # noqa: FBT002 # typer's way
        bool, typer.Option("--new-keys", help="For fresh keys (never an admin's signing key, which others pin).")
    ] = False,
    authority: Annotated[
        Path | None,
        typer.Option(
            help="An authority on this very machine: issue and install at once.", exists=True, file_okay=False
        ),
    ] = None,
    days: Annotated[float, typer.Option(min=0.0001, help="Validity in days, with --authority.")] = DEFAULT_DAYS,
    certificate: Annotated[
        list[Path] | None,
        typer.Option("--install", help="A certificate that was issued; checked before it replaces.", dir_okay=False),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Pinned root directory, with --install.", exists=True, file_okay=False)
    ] = None,
    as_json: output.AsJson = False,  # noqa: FBT002 # typer's way
) -> None:
    """Renew certificates while their process runs: it takes them up within seconds, without a lost request.

    With the authority elsewhere in two steps: this writes the requests, and once they are issued, --install puts the
    certificates in place. A certificate and a fresh key take their places together. With --profile, one that the
    directory in the profile's state says is revoked is refused.

    Example: zhiwang certs renew identities/data/hub/main --new-keys --authority /secure/ca

    Example: zhiwang certs renew --profile hrss.toml --install auth.pem --install signing.pem
    """
    loaded = None if profile is None else load_profile(profile)
    if loaded is not None:
        root = root or loaded.root
        directories = [*(directories or ()), *loaded.identities]
    if not directories:
        output.usage_error("say which identity directories, or --profile")
    if certificate:
        if root is None:
            output.usage_error(
                "--install needs the pinned root that the certificates are checked by: --root or --profile"
            )
        if new_keys or authority is not None:
            output.usage_error(
                "--install puts in place what was issued; --new-keys and --authority belong to the request"
            )
        ca_pem = (root / CA_CERTIFICATE).read_bytes()
        revoked = frozenset[int]() if loaded is None else _revoked(loaded, ca_pem)
        _print_installed(_install(directories, ca_pem, certificate, revoked), as_json=as_json)
        return
    # Opened first, so that nothing is made if it cannot issue.
    opened = None if authority is None else Authority.load(authority)
    renewals = [(one, request_renewal(one, new_keys=new_keys)) for one in directories]
    if opened is None:
        _print_requests([renewal for _, found in renewals for renewal in found], root, as_json=as_json)
        return
    for _, found in renewals:
        for renewal in found:
            opened.examine(renewal.request.read_bytes(), purpose=renewal.purpose, hosts=renewal.hosts)
    ca_pem = opened.certificate_pem if root is None else (root / CA_CERTIFICATE).read_bytes()
    installed: list[Installed] = []
    for directory, found in renewals:
        issued = [
            opened.issue(renewal.request.read_bytes(), days=days, purpose=renewal.purpose, hosts=renewal.hosts)
            for renewal in found
        ]
        installed += install(directory, ca_pem, issued)
    _print_installed(installed, as_json=as_json)


def _revoked(profile: Profile, ca_pem: bytes) -> frozenset[int]:
    """What is revoked, by the directory that the profile's process verified last; nothing if it has none yet."""
    try:
        directory = kept(host_of(profile), ca_pem)
    except (ZhiwangError, OSError):
        output.say(
            f"The directory in {profile.state} has expired or cannot be read, so it is not known what is revoked; "
            f"afterwards: zhiwang doctor --profile {profile.path}"
        )
        return frozenset()
    return frozenset() if directory is None else directory.revoked


def _print_requests(renewals: Sequence[Renewal], root: Path | None, *, as_json: bool) -> None:
    if as_json:
        output.print_json(
            [
                {
                    "identity": one.identity.short,
                    "for": one.purpose,
                    "key": "fresh" if one.fresh else "kept",
                    "request": str(one.request),
                    "hosts": list(one.hosts),
                }
                for one in renewals
            ]
        )
        return
    rows = [(one.identity.short, one.purpose, "fresh" if one.fresh else "kept", one.request) for one in renewals]
    output.print_table(("identity", "for", "key", "request"), rows)
    for hosts in dict.fromkeys(one.hosts for one in renewals):
        requests = " ".join(str(one.request) for one in renewals if one.hosts == hosts)
        named = "".join(f" --host {host}" for host in hosts)
        output.next_step(f"at the authority: zhiwang certs issue {requests} --out ISSUED --authority DIR{named}")
    directories = " ".join(dict.fromkeys(str(one.request.parent) for one in renewals))
    installed = " ".join(f"--install ISSUED/{one.identity.short}/{one.request.stem}.pem" for one in renewals)
    output.next_step(f"then here: zhiwang certs renew {directories} {installed} --root {root or 'ROOT'}")


def _install(
    directories: Sequence[Path], ca_pem: bytes, certificates: Sequence[Path], revoked: Container[int]
) -> list[Installed]:
    """Each certificate into the directory of its identity."""
    holders = {holder_of(directory): directory for directory in directories}
    sorted_out: dict[Path, list[bytes]] = {}
    for path in certificates:
        pem = path.read_bytes()
        try:
            holder = subject_of(x509.load_pem_x509_certificate(pem))
        except MALFORMED:
            raise RefusedError(Reason.CERTIFICATE_INVALID, f"{path} is not a certificate in PEM") from None
        if holder not in holders:
            raise RefusedError(
                Reason.CERTIFICATE_INVALID, f"{path} is a certificate of {holder.short}, whose directory is not given"
            )
        sorted_out.setdefault(holders[holder], []).append(pem)
    return [one for directory, pems in sorted_out.items() for one in install(directory, ca_pem, pems, revoked=revoked)]


def _print_installed(installed: Sequence[Installed], *, as_json: bool) -> None:
    if as_json:
        output.print_json(
            [
                {
                    "identity": one.identity.short,
                    "for": one.purpose,
                    "valid until": one.expires.isoformat(),
                    "certificate": str(one.path),
                    "changed": one.changed,
                }
                for one in installed
            ]
        )
        return
    rows = [
        (
            one.identity.short,
            one.purpose,
            f"{one.expires:%Y-%m-%d %H:%M}Z",
            one.path,
            "" if one.changed else "was there",
        )
        for one in installed
    ]
    output.print_table(("identity", "for", "valid until", "certificate", ""), rows)


@app.command()
def revoke(
    authority: AuthorityDir,
    certificates: Annotated[
        list[Path] | None, typer.Argument(metavar="PEM…", exists=True, dir_okay=False, show_default=False)
    ] = None,
    serial: Annotated[
        list[str] | None, typer.Option(help="A serial as the authority's ledger.jsonl has it, if the file is lost.")
    ] = None,
) -> None:
    """Revoke certificates; takes effect when a new list is published.

    Example: zhiwang certs revoke identities/edu/system/enrolment/*.pem --authority /secure/ca
    """
    named = [(str(path), _serial_of(path)) for path in certificates or ()]
    try:
        named += [("", int(one, 16)) for one in serial or ()]
    except ValueError:
        output.usage_error("a serial is written in hexadecimal digits, as in ledger.jsonl")
    if not named:
        output.usage_error("say which certificates, by their files or by --serial")
    opened = Authority.load(authority)
    rows = []
    for name, number in named:
        fresh = opened.revoke(number)
        rows.append((name, f"{number:x}", "revoked" if fresh else "was revoked before"))
    output.print_table(("certificate", "serial", ""), rows)
    output.next_step(
        f"zhiwang certs crl --authority {authority} --out crl.pem, and publish it with the centre's documents"
    )


def _serial_of(path: Path) -> int:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).serial_number
    except MALFORMED:
        raise RefusedError(Reason.CERTIFICATE_INVALID, f"{path} is not a certificate in PEM") from None


@app.command()
def crl(
    authority: AuthorityDir,
    out: Annotated[Path, typer.Option(help="File to write.", dir_okay=False)],
    days: Annotated[float, typer.Option(min=0.001, help="For how long the list says that it is good.")] = CRL_DAYS,
) -> None:
    """Make the list of all revoked certificates, for the directory.

    Example: zhiwang certs crl --authority /secure/ca --out centre/crl.pem
    """
    write_public(out, Authority.load(authority).crl(days=days))
    output.next_step(f"publish {out} with the centre's documents: zhiwang policy publish …")


@app.command()
def show(files: Files, *, as_json: output.AsJson = False) -> None:
    """Say what certificates, requests and revocation lists say.

    Example: zhiwang certs show identities/edu/system/enrolment/auth.pem root/ca.pem
    """
    described: list[dict[str, Any]] = [{"file": str(path), **describe(path.read_bytes())} for path in files]
    if as_json:
        output.print_json(described)
        return
    for item in described:
        output.print_table((item.pop("file"), ""), item.items())


def _identity(name: str, city: str) -> Identity:
    whole = name.startswith("spiffe://")
    if not whole and not city:
        output.usage_error("say which city with --city (or ZHIWANG_CITY), or give whole identities: spiffe://city/…")
    try:
        return Identity.parse(name) if whole else Identity.parse_short(city, name)
    except RefusedError:
        output.usage_error(f"{name}: an identity is written department/kind/name; the kinds are {', '.join(Kind)}")
