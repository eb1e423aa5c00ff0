"""`mapping.toml`: where, in a department's own tables, each of its facts lies.

The file is private and stands beside the database. Everything that others may know (types, predicates, cells, ages,
titles) stands in the department's signed document; `check` here holds the two against each other, and `inspect`
in `adapters/check.py` holds both against the live database. Every mistake is named by key and line, all at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from adapters.dialects import COMPILED_ONLY, DIALECTS
from adapters.extract_model import OWN, SCHEME, ExtractFile, check_files, with_loads
from adapters.limits import Limits, Watch
from policy.document import Mistake
from policy.model import Document
from zhiwang.wire.claims import Claim, Predicate
from zhiwang.wire.errors import RefusedError
from zhiwang.wire.tomlfile import FileError, StrictModel, as_findings, load

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
"""Name of a data set or an attribute."""

Expression = Annotated[str, Field(min_length=1, max_length=4000)]
"""An SQL expression over the columns of a data set; `:as_of` is the reference date."""

Column = Annotated[str, Field(min_length=1, max_length=128)]
"""A column's name, as the database spells it."""

Key = tuple[str | int, ...]
"""Path of a key in the file."""

_BIND = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`")
_TWO_ATS = re.compile(r"[^:/]+://[^:/]*:[^@]*@.*@", re.DOTALL)
_PLACEHOLDER = "__[POSTCOMPILE_"
"""What SQLAlchemy looks for in a compiled statement and replaces, wherever it stands."""

TABLE_NAME = re.compile(r"\A[^\s;'()]+\Z")
"""What stands under `table`; a table of another name is reached by a SELECT."""


BARE_AT = "has an @ too many: write @ : / in a password as %40 %3A %2F, or the password into a file (password_file)"
"""What is said of a URL that `has_bare_at`; no part of it is shown."""


class Database(StrictModel):
    """The department's database, read with an account that can do nothing else.

    Attributes:
        url: Any SQLAlchemy URL of SQLite, PostgreSQL, MySQL or MariaDB, or "files:DIRECTORY". A relative SQLite file or
            directory is relative to the mapping file.
        password_file: File with the account's password, so that it stands in no URL; relative to the mapping file,
            and closed to others (0600). The first line counts.
        connections: How many connections the adapter holds at most.
        timeout: Seconds after which a statement is given up.
    """

    url: str
    password_file: str | None = None
    connections: Annotated[int, Field(ge=1, le=64)] = 4
    timeout: Annotated[int, Field(ge=1, le=60)] = 10


class Region(StrictModel):
    """Where the subject of a record belongs.

    Attributes:
        column: Column with an administrative code.
        codes: Its code system, e.g. "nbs".
    """

    column: Column
    codes: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$")]


class DataSet(StrictModel):
    """A table, or a SELECT that the department's DBA wrote.

    Attributes:
        table: Name of a table or view, with its schema if it needs one.
        select: In place of `table`: a SELECT; `:as_of` is the reference date.
        subject: Column with the subject's identifier. It should be indexed.
        name: Column with the subject's name; a name that is asked for must be this one.
        region: Place of the record; records outside the caller's jurisdiction are not seen.
        loaded: SELECT of one time: when the data set was last loaded. Null means that it is not whole.
    """

    table: str | None = None
    select: Expression | None = None
    subject: Column
    name: Column | None = None
    region: Region | None = None
    loaded: Expression | None = None


class Interval(StrictModel):
    """From when until when a record holds, both days included. Null at either end gives UNKNOWN.

    Attributes:
        from_: Expression of the first day (key `from`).
        to: Expression of the last day.
    """

    from_: Expression = Field(alias="from")
    to: Expression


class MappedAttribute(StrictModel):
    """Where one attribute lies.

    Attributes:
        data: Name of its data set.
        value: Expression of the value. Not needed for `exists`, `absent` and `valid`.
        valid: Interval, for `valid`.
        where: Row filter. A row for which it is null counts, and makes the answer UNKNOWN.
        rows: "one": rows that disagree give UNKNOWN. "any": YES if one row is true, NO if all are false.
        watch: Which shares of its answers are right.
    """

    data: Name
    value: Expression | None = None
    valid: Interval | None = None
    where: Expression | None = None
    rows: Literal["one", "any"] = "one"
    watch: Watch = Watch()

    @property
    def reads_nothing(self) -> bool:
        """Whether it has neither a value nor an interval: it can only be there or not."""
        return self.value is None and self.valid is None

    def serves(self, predicate: Predicate) -> bool:
        """Whether there is an expression for a predicate."""
        if predicate is Predicate.VALID:
            return self.valid is not None
        return predicate in {Predicate.EXISTS, Predicate.ABSENT} or self.value is not None


class Probe(StrictModel):
    """A question with a known answer, asked at start and every hour.

    Attributes:
        claim: As in docs/claims.md, without a slot.
        subject: Identifier of a test subject in the department's own data.
        name: Its name, if the name gate is to be probed too.
        other: Identifier of the compared subject of `related @other`.
        as_of: Reference date; today if left out.
        answer: What must come.
    """

    claim: str
    subject: str
    name: str = ""
    other: str | None = None
    as_of: date | None = None
    answer: Literal["YES", "NO", "UNKNOWN"]


class Roster(StrictModel):
    """A list of the department's own people for a matter, as `zhiwang adapter roster` draws it; see docs/active.md.

    Attributes:
        select: A SELECT that the DBA wrote, one row for each person; `:as_of` is the reference date.
        key: Column with what names a row in results: the department's own number, never an identifier.
        subject: Column with the subject's identifier.
        name: Column with the subject's name.
        kind: Kind of subject.
        matter: For which it is drawn, and for no other.
    """

    select: Expression
    key: Column
    subject: Column
    name: Column | None = None
    kind: Name = "person"
    matter: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=64)]

    @property
    def as_data(self) -> DataSet:
        """The same as a data set, which it is for statements, grants and write attempts."""
        return DataSet(select=self.select, subject=self.subject, name=self.name)


class Mapping(StrictModel):
    """The whole file.

    Attributes:
        department: Whose facts these are; must be the document's.
        database: Where the tables are.
        data: Data sets by name.
        attribute: Attributes by their published name.
        probe: Questions with known answers.
        roster: Lists of its own people, by name.
        limits: Caps of the guess ledger, and of the database's use.
        file: Tables that come as files, by name.
    """

    department: Name
    database: Database
    file: dict[Name, ExtractFile] = Field(default_factory=dict)
    data: dict[Name, DataSet] = Field(default_factory=dict)
    attribute: dict[Name, MappedAttribute] = Field(default_factory=dict)
    probe: tuple[Probe, ...] = ()
    roster: dict[Name, Roster] = Field(default_factory=dict)
    limits: Limits = Limits()


def load_mapping(path: Path, document: Document | None = None) -> Mapping:
    """Read a mapping and hold it against the department's document, if there is one.

    Raises:
        FileError: With every finding.
    """
    mapping = with_loads(load(path, Mapping))
    mistakes = [*check_alone(mapping), *(check_against(mapping, document) if document is not None else ())]
    if mistakes:
        raise FileError(as_findings(path, mistakes))
    return mapping


def _check_suspending(mapping: Mapping) -> Iterator[Mistake]:
    """That what suspends an attribute can also open it again."""
    for name, attribute in mapping.attribute.items():
        data = mapping.data.get(attribute.data)
        if attribute.watch.suspend and data is not None and data.loaded is None:
            message = f"suspends until a new load, which `loaded` under [data.{attribute.data}] has to tell"
            yield Mistake(("attribute", name, "watch"), message)


def check_alone(mapping: Mapping) -> Iterator[Mistake]:
    """What is wrong with a mapping by itself."""
    yield from check_files(mapping)
    yield from _check_url(mapping.database)
    yield from _check_placeholders(mapping)
    for name, data in mapping.data.items():
        key = ("data", name)
        if (data.table is None) == (data.select is None):
            yield Mistake(key, "needs either table or select")
        if data.table is not None:
            yield from _check_table((*key, "table"), data.table)
        for word, expression in (("select", data.select), ("loaded", data.loaded)):
            if expression is not None:
                yield from _check_sql((*key, word), expression, statement=True)
        if data.loaded is not None and "as_of" in _BIND.findall(data.loaded):
            yield Mistake((*key, "loaded"), "is a time by itself and knows no :as_of")
    for name, attribute in mapping.attribute.items():
        key = ("attribute", name)
        if attribute.data not in mapping.data:
            yield Mistake((*key, "data"), f"there is no data set {attribute.data}")
        if attribute.value is not None and attribute.valid is not None:
            yield Mistake((*key, "valid"), "an attribute has a value or an interval, not both")
        expressions = [("value", attribute.value), ("where", attribute.where)]
        if attribute.valid is not None:
            expressions += [("valid", attribute.valid.from_), ("valid", attribute.valid.to)]
        for word, expression in expressions:
            if expression is not None:
                yield from _check_sql((*key, word), expression)
    yield from _check_rosters(mapping)
    yield from _check_suspending(mapping)
    for index, probe in enumerate(mapping.probe):
        yield from _check_probe(("probe", index), probe, mapping)


def _check_rosters(mapping: Mapping) -> Iterator[Mistake]:
    for name, roster in mapping.roster.items():
        yield from _check_sql(("roster", name, "select"), roster.select, statement=True)


def _check_table(key: Key, table: str) -> Iterator[Mistake]:
    if not TABLE_NAME.match(table):
        yield Mistake(key, "must be the name of a table or view; a SELECT belongs under select")
    elif table.rpartition(".")[2].lower().startswith(OWN):
        yield Mistake(key, f"begins with {OWN}, as our own relations do; give it another name by a view")


def _check_placeholders(mapping: Mapping) -> Iterator[Mistake]:
    """That no name or expression looks like a place that is filled in later."""
    parts = [(("data", name), data) for name, data in mapping.data.items()]
    rosters = [(("roster", name), one) for name, one in mapping.roster.items()]
    for key, part in [*parts, *rosters, *((("attribute", name), one) for name, one in mapping.attribute.items())]:
        if _PLACEHOLDER in part.model_dump_json():
            yield Mistake(key, f"holds {_PLACEHOLDER}…, which no statement can; give it another name by a view")


def _check_url(database: Database) -> Iterator[Mistake]:
    key = ("database", "url")
    if database.url.startswith(SCHEME):
        return
    if has_bare_at(database.url):
        yield Mistake(key, BARE_AT)
        return
    try:
        url = make_url(database.url)
        family = url.get_backend_name()
    except (ArgumentError, ValueError):
        yield Mistake(key, "is no database URL")
        return
    if family in COMPILED_ONLY:
        yield Mistake(
            key,
            f"{family} has never been tried with this adapter: its statements are only compiled (docs/databases.md)",
        )
    elif family not in DIALECTS:
        yield Mistake(
            key, f"{family} is not among the databases that this adapter knows: {', '.join(sorted(DIALECTS))}"
        )
    elif family == "sqlite" and not sqlite_location(database.url)[1]:
        yield Mistake(key, "permits writing; open the file for reading only: sqlite:///file:NAME.db?mode=ro&uri=true")


def has_bare_at(url: str) -> bool:
    """Whether a password of a URL seems to hold an `@` that is not escaped.

    What follows that `@` is taken for the host, which is printed and resolved, so no part of such a URL may be used.
    """
    return _TWO_ATS.match(url) is not None


def sqlite_location(url: str) -> tuple[str, bool]:
    """File of an SQLite URL, and whether the URL says `mode=ro`."""
    parsed = make_url(url)
    name, _, query = (parsed.database or "").removeprefix("file:").partition("?")
    return name, "mode=ro" in query.split("&") or parsed.query.get("mode") == "ro"


def _check_sql(key: Key, sql: str, *, statement: bool = False) -> Iterator[Mistake]:
    """That a piece of SQL stays where it is put: one expression, or one SELECT, and `:as_of` its only parameter."""
    plain = _QUOTED.sub("''", sql)
    if ";" in plain or "--" in plain or "/*" in plain:
        yield Mistake(key, "must be one expression or SELECT, without comments and semicolons")
    depth = 0
    for character in plain:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
    if depth or plain.count("'") % 2:
        yield Mistake(key, "has brackets or quotes that do not match")
    for name in sorted({match[1] for match in _BIND.finditer(sql)} - {"as_of"}):
        yield Mistake(key, f":{name} is no parameter; only :as_of is. A colon inside a text is written \\:")
    if statement and not re.match(r"(?is)\s*(select|with|values)\b", plain):
        yield Mistake(key, "must begin with SELECT")


def _check_probe(key: Key, probe: Probe, mapping: Mapping) -> Iterator[Mistake]:
    try:
        claim = Claim.parse(probe.claim)
    except RefusedError as error:
        yield Mistake((*key, "claim"), error.detail or error.reason.value.en)
        return
    if claim.owner != mapping.department:
        yield Mistake((*key, "claim"), f"is about {claim.owner}, not about {mapping.department}")
    elif claim.attribute not in mapping.attribute:
        yield Mistake((*key, "claim"), f"there is no attribute {claim.attribute}")
    elif not mapping.attribute[claim.attribute].serves(claim.predicate):
        yield Mistake((*key, "claim"), f"{claim.attribute} cannot be asked {claim.predicate}")
    if (claim.compared_slot is not None) != (probe.other is not None):
        yield Mistake((*key, "other"), "is the identifier of the compared subject of a claim with @, and of no other")


def check_against(mapping: Mapping, document: Document) -> Iterator[Mistake]:
    """What is wrong with a mapping beside the department's published document."""
    if mapping.department != document.department:
        yield Mistake(("department",), f"the document is that of {document.department}")
    for name in mapping.attribute:
        if name not in document.attributes:
            yield Mistake(("attribute", name), "is mapped but not published in the document")
    kinds: dict[str, tuple[str, str]] = {}
    for name, published in document.attributes.items():
        key = ("attribute", name)
        mapped = mapping.attribute.get(name)
        if published.reports:
            if mapped is not None:
                yield Mistake(key, f"{name} is published for report, which is of no record: it is not mapped")
            continue
        if mapped is None:
            yield Mistake(key, f"{name} is published in the document but not mapped")
            continue
        for predicate in sorted(published.predicates):
            if not mapped.serves(predicate):
                needed = "an interval: valid = { from = …, to = … }" if predicate is Predicate.VALID else "a value"
                yield Mistake(key, f"is published for {predicate} and needs {needed}")
        data = mapping.data.get(mapped.data)
        if (
            data is not None
            and Predicate.ABSENT in published.predicates
            and (data.loaded is None or published.max_age is None)
        ):
            yield Mistake(
                key,
                f"is published for absent, which only a data set that is known to be fresh can say: write `loaded` "
                f"under [data.{mapped.data}], and max_age in the document",
            )
        if data is None:
            continue
        if published.max_age is not None and data.loaded is None:
            yield Mistake(("data", mapped.data), f"needs loaded: {name} is published with a max_age")
        first = kinds.setdefault(mapped.data, (published.subject, name))
        if first[0] != published.subject:
            yield Mistake(
                (*key, "data"), f"is about a {published.subject}, but {first[1]} of this data set about a {first[0]}"
            )
    yield from _check_probed_cells(mapping, document)


def unfit(mapping: Mapping, document: Document) -> tuple[frozenset[str], list[Mistake]]:
    """Attributes that a document does not let us answer as they are mapped, and why.

    A mistake about a data set, or about of whom it is, concerns every attribute over it; one that names neither
    attribute nor data set concerns all.
    """
    mistakes = list(check_against(mapping, document))
    names: set[str] = set()
    for key, _ in mistakes:
        attribute, data = None, None
        if key[0] == "attribute":
            attribute = str(key[1])
            if key[2:] == ("data",):
                data = mapping.attribute[attribute].data
        elif key[0] == "probe":
            attribute = Claim.parse(mapping.probe[int(key[1])].claim).attribute
        elif key[0] == "data":
            data = str(key[1])
        else:
            names |= mapping.attribute.keys()
        names |= {attribute} if attribute is not None else set()
        names |= {name for name, mapped in mapping.attribute.items() if mapped.data == data}
    return frozenset(names), mistakes


def _check_probed_cells(mapping: Mapping, document: Document) -> Iterator[Mistake]:
    for index, probe in enumerate(mapping.probe):
        try:
            claim = Claim.parse(probe.claim)
        except RefusedError:
            continue
        published = document.attributes.get(claim.attribute)
        if published is not None and claim.predicate not in published.predicates:
            yield Mistake(("probe", index, "claim"), f"{claim.attribute} is not published for {claim.predicate}")
