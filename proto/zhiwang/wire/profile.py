"""profile.toml: who I am and whom I talk to. Every process and every command begins with one.

Paths are relative to the file. What concerns one kind of process only stands in a table of its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, PlainValidator, StringConstraints

from zhiwang.wire.tomlfile import Duration, Form, StrictModel, load
from zhiwang.wire.vkey import VerifierKey, VerifierKeyError

Address = Annotated[
    str,
    StringConstraints(pattern=r"^(unix:.+|(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})$"),
    Form("an address: host:port, [IPv6]:port or unix:path"),
]
"""host:port, [IPv6]:port or unix:path. Port 0 takes a free one; `address.json` in the state directory tells which."""

WitnessAddress = Annotated[
    str,
    StringConstraints(pattern=r"^(https?://[!-~]+|(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})$"),
    Form("host:port of a witness of this city, or the URL of another"),
]


def _log_key(value: object) -> VerifierKey:
    if not isinstance(value, str):
        raise ValueError("must be a text")  # noqa: TRY004 # pydantic turns only ValueError into a finding
    try:
        return VerifierKey.parse(value)
    except VerifierKeyError as error:
        raise ValueError(f"is a log's verifier key, as in log.vkey of an export: {error}") from None


LogKey = Annotated[VerifierKey, PlainValidator(_log_key), Form("a verifier key, NAME+ID+KEY")]


class Defaults(StrictModel):
    """What a requester's commands and callers leave out.

    Attributes:
        role: Role in which to ask.
        jurisdiction: Where the requester acts.
        official: Who asks; for programs that ask without a person.
        matter: For which matter.
    """

    role: str = ""
    jurisdiction: str = ""
    official: str = ""
    matter: str = ""


class AdapterFiles(StrictModel):
    """[adapter]: what an owner's adapter reads.

    Attributes:
        mapping: mapping.toml.
        document: document.toml, the department's own copy.
        store: Directory of the store that this replica shares with others of its adapter on this host: the state
            directory of the first. Without it, the adapter's own state directory. Where [log] names a database, only
            the keys are shared so.
        credit: How many requests the hub may have unanswered here at a time.
    """

    mapping: str
    document: str
    store: str | None = None
    credit: Annotated[int, Field(ge=1, le=65536)] = 1024


DatabaseUrl = Annotated[
    str,
    StringConstraints(pattern=r"^postgresql(\+psycopg)?://[^:/@\s]+@[^@\s]*/[^/@\s?]+(\?[^@\s]*)?$"),
    Form("a URL of PostgreSQL without a password: postgresql+psycopg://ACCOUNT@HOST/DATABASE"),
]
"""SQLAlchemy's URL of a database, with what libpq takes behind a `?`, e.g. `sslmode=verify-full`."""


class Retention(StrictModel):
    """[retention]: how long a hub or an adapter keeps the entries of a year that is over.

    Five years by default: the longest time after an administrative act in which a citizen may sue over it
    (Administrative Litigation Law, article 46, second paragraph), so what was asked for it can be shown as long as it
    can be in dispute. The same paragraph gives twenty years where real estate is in dispute. The city's own rules go
    first.

    Attributes:
        years: How many years after a year's log has ended its entries may be removed. Nothing removes them by itself:
            see `zhiwang audit retention`.
    """

    years: Annotated[int, Field(ge=1, le=100)] = 5


class LogFiles(StrictModel):
    """[log]: where a hub's log, or an adapter's store with its log, stands, if not in its state directory.

    Attributes:
        url: Database of PostgreSQL, which several hubs, or replicas of one adapter, may share. What libpq takes stands
            behind a `?`.
        password_file: File whose first line is the account's password; only its owner may read it. Without it the
            server knows this process by something else, as its certificate.
    """

    url: DatabaseUrl
    password_file: str | None = None


class AgentCaller(StrictModel):
    """[[agent.caller]]: a program that may call the agent.

    Attributes:
        certificate: SPIFFE identity of its client certificate, or "local" for callers on the agent's own machine.
        roles: Roles in which it may ask.
        matters: Matters for which it may ask; empty for all.
    """

    certificate: str
    roles: tuple[str, ...]
    matters: tuple[str, ...] = ()


class AgentReceipts(StrictModel):
    """[agent.receipts]: receipts that the agent keeps.

    Attributes:
        keep: For how long, e.g. "3650d".
        required: Whether an answer whose receipt could not be kept is withheld.
        keys: Directory of the keys under which they are encrypted, one for each year. Its backups are not those of the
            state directory.
    """

    keep: Duration
    required: bool = True
    keys: str = "receipt-keys"


class Agent(StrictModel):
    """[agent]: whom an agent serves besides `listen`.

    Attributes:
        listen_tls: Address for callers on other machines, over mTLS; empty for none.
        identity: Directory with the agent's own certificates (kind agent), with which it serves `listen_tls`.
        caller: Who may call.
        receipts: What the agent keeps of receipts; without the table nothing.
    """

    listen_tls: Address | None = None
    identity: str = "agent-identity"
    caller: tuple[AgentCaller, ...] = ()
    receipts: AgentReceipts | None = None


class Cosigning(StrictModel):
    """[cosigning]: how a hub, an adapter or a registrar has its log cosigned.

    Whose cosignatures count, and how many, the centre says.

    Attributes:
        witness: Where each of the centre's witnesses serves, by the centre's name of it: `host:port` with a certificate
            of this city, or the URL of a witness elsewhere.
        every: Seconds between two rounds, in which each witness is asked, also when the log has not grown.
        alarm_after: Age of the newest quorum, in seconds, beyond which the process alarms.
        stop_releasing_after: Age, in seconds, beyond which a hub or an adapter answers nothing until there is a newer
            quorum. If left out, it always goes on. A registrar, which answers nobody, takes none.
    """

    witness: dict[str, WitnessAddress] = Field(default_factory=dict)
    every: Annotated[int, Field(ge=1, le=3600)] = 5
    alarm_after: Annotated[int, Field(ge=5)] = 60
    stop_releasing_after: Annotated[int, Field(ge=30)] | None = None

    @property
    def used(self) -> bool:
        """Whether the table says anything that has to be done."""
        return bool(self.witness) or self.stop_releasing_after is not None


class WitnessedLog(StrictModel):
    """[[witness.log]]: a log whose checkpoints a witness cosigns.

    Attributes:
        origin: First line of its checkpoints. A log of this city goes on in a new one each year, ORIGIN/YEAR, which is
            followed too.
        key: Its verifier key. Without it: a log of this city, whose certificate comes with each checkpoint.
    """

    origin: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,256}$")]
    key: LogKey | None = None


class Witness(StrictModel):
    """[witness]: what a witness follows.

    Attributes:
        log: Whose checkpoints it cosigns.
    """

    log: tuple[WitnessedLog, ...]


class ProfileFile(StrictModel):
    """The file as it is written.

    Attributes:
        hub: Addresses of the hub's replicas.
        registrar: Address of the registrar; admins, hubs and the registrar itself need it.
        root: Directory with the pinned `root.json` and `ca.pem`.
        identity: Directory with my certificates and keys.
        state: Directory of everything that this process writes.
        listen: Where this process serves; each kind has its default.
        metrics: Where it serves Prometheus metrics; empty for nowhere.
        defaults: What commands leave out.
        log: For a hub whose log, or an adapter whose store, stands in PostgreSQL.
        retention: How long a hub or an adapter keeps the entries of a year that is over.
        adapter: For an adapter.
        agent: For an agent.
        cosigning: For a hub, an adapter or a registrar.
        witness: For a witness.
    """

    hub: tuple[Address, ...] = ()
    registrar: Address | None = None
    root: str = "root"
    identity: str = "identity"
    state: str = "state"
    listen: Address | None = None
    metrics: Address | None = None
    defaults: Defaults = Defaults()
    log: LogFiles | None = None
    retention: Retention = Retention()
    adapter: AdapterFiles | None = None
    agent: Agent = Agent()
    cosigning: Cosigning = Cosigning()
    witness: Witness | None = None


@dataclass(frozen=True, slots=True)
class LogDatabase:
    """The database of a log, its password file found."""

    url: str
    password_file: Path | None


@dataclass(frozen=True, slots=True)
class AdapterPaths:
    """An adapter's files, found."""

    mapping: Path
    document: Path
    store: Path
    credit: int


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile with its paths resolved; fields as in `ProfileFile`.

    Attributes:
        path: The file itself.
    """

    path: Path
    hub: tuple[str, ...]
    registrar: str | None
    root: Path
    identity: Path
    state: Path
    listen: str | None
    metrics: str | None
    defaults: Defaults
    adapter: AdapterPaths | None
    agent: Agent
    log: LogDatabase | None = None
    retention: Retention = field(default_factory=Retention)
    cosigning: Cosigning = field(default_factory=Cosigning)
    witness: Witness | None = None

    @property
    def agent_identity(self) -> Path | None:
        """Certificates with which an agent serves other machines; None if it serves its own only."""
        return None if self.agent.listen_tls is None else self.path.parent / self.agent.identity

    @property
    def identities(self) -> tuple[Path, ...]:
        """Every identity directory that the profile's process or command uses."""
        own = self.agent_identity
        return (self.identity,) if own is None else (self.identity, own)


def load_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        FileError: With every finding.
        OSError: The file cannot be read.
    """
    file = load(path, ProfileFile)
    base = path.resolve().parent
    adapter = file.adapter
    return Profile(
        path=path.resolve(),
        hub=file.hub,
        registrar=file.registrar,
        root=base / file.root,
        identity=base / file.identity,
        state=base / file.state,
        listen=file.listen,
        metrics=file.metrics,
        defaults=file.defaults,
        adapter=None if adapter is None else _adapter_paths(base, adapter, file.state),
        agent=file.agent,
        log=None if file.log is None else _log_database(base, file.log),
        retention=file.retention,
        cosigning=file.cosigning,
        witness=file.witness,
    )


def _log_database(base: Path, files: LogFiles) -> LogDatabase:
    return LogDatabase(files.url, None if files.password_file is None else base / files.password_file)


def _adapter_paths(base: Path, files: AdapterFiles, state: str) -> AdapterPaths:
    return AdapterPaths(base / files.mapping, base / files.document, base / (files.store or state), files.credit)
