"""Health: Chinese names for tables and columns; one row for each parent that a certificate has room for."""

from __future__ import annotations

from exchange.demo import codes
from exchange.demo.model import City
from exchange.demo.stores.book import Book

SCHEMA = """
CREATE TABLE 出生医学证明 (证书编号 TEXT PRIMARY KEY, 新生儿身份证号 TEXT NOT NULL, 新生儿姓名 TEXT, 签发日期 TEXT,
    状态 TEXT);
CREATE TABLE 父母信息 (证书编号 TEXT NOT NULL, 关系 TEXT NOT NULL, 身份证号 TEXT,
    PRIMARY KEY (证书编号, 关系)) WITHOUT ROWID;
CREATE TABLE 计划生育登记 (身份证号 TEXT NOT NULL, 姓名 TEXT);
CREATE TABLE 独生子女 (身份证号 TEXT NOT NULL, 姓名 TEXT);
CREATE TABLE 预防接种 (儿童身份证号 TEXT NOT NULL, 全程完成日期 TEXT);
CREATE TABLE 死亡登记 (身份证号 TEXT NOT NULL, 姓名 TEXT);
CREATE TABLE 数据加载 (表名 TEXT PRIMARY KEY, 加载时间 TEXT);
CREATE INDEX 出生索引 ON 出生医学证明 (新生儿身份证号);
CREATE INDEX 计生索引 ON 计划生育登记 (身份证号);
CREATE INDEX 独生索引 ON 独生子女 (身份证号);
CREATE INDEX 接种索引 ON 预防接种 (儿童身份证号);
CREATE INDEX 死亡索引 ON 死亡登记 (身份证号);
"""


def write(book: Book, city: City) -> None:
    """Write the health commission's books."""
    records = city.records
    book.create(SCHEMA)
    births = [(f"U44{number:07d}", birth) for number, birth in enumerate(records.births)]
    book.fill(
        "出生医学证明",
        (
            (
                number,
                r.child.identifier,
                book.dotted(r.child.name),
                r.issued.isoformat(),
                "作废" if r.void else "有效",
            )
            for number, r in births
        ),
    )
    book.fill(
        "父母信息",
        (
            (number, relation, book.old(parent.identifier) if parent else None)
            for number, r in births
            for relation, parent in (("母亲", r.mother), ("父亲", r.father))
        ),
    )
    probe = "U449999999"
    book.fill("出生医学证明", [(probe, codes.PROBE_CHILD, codes.PROBE_NAME, "2015-01-05", "有效")])
    book.fill("父母信息", [(probe, "母亲", codes.PROBE_ADULT), (probe, "父亲", codes.PROBE_SPOUSE)])
    book.fill("计划生育登记", ((p.identifier, p.name) for p in records.planning))
    book.fill("独生子女", ((p.identifier, p.name) for p in records.only_children))
    book.fill(
        "预防接种",
        ((r.child.identifier, r.completed.isoformat() if r.completed else None) for r in records.vaccinations),
    )
    book.fill("死亡登记", ((p.identifier, p.name) for p in records.deaths))
    tables = ("出生医学证明", "计划生育登记", "独生子女", "预防接种", "死亡登记")
    book.fill("数据加载", ((table, book.loaded(2)) for table in tables))
