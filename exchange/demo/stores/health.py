"""Health: Chinese names for tables and columns; one certificate names both parents."""

from __future__ import annotations

from exchange.demo import codes
from exchange.demo.model import City
from exchange.demo.stores.book import Book

SCHEMA = """
CREATE TABLE 出生医学证明 (证书编号 TEXT PRIMARY KEY, 新生儿身份证号 TEXT NOT NULL, 新生儿姓名 TEXT, 母亲身份证号 TEXT,
    父亲身份证号 TEXT, 签发日期 TEXT, 状态 TEXT);
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
    book.fill(
        "出生医学证明",
        (
            (
                f"U44{number:07d}",
                r.child.identifier,
                book.dotted(r.child.name),
                book.old(r.mother.identifier) if r.mother else None,
                book.old(r.father.identifier) if r.father else None,
                r.issued.isoformat(),
                "作废" if r.void else "有效",
            )
            for number, r in enumerate(records.births)
        ),
    )
    parents = (codes.PROBE_ADULT, codes.PROBE_SPOUSE)
    book.fill("出生医学证明", [("U449999999", codes.PROBE_CHILD, codes.PROBE_NAME, *parents, "2015-01-05", "有效")])
    book.fill("计划生育登记", ((p.identifier, p.name) for p in records.planning))
    book.fill("独生子女", ((p.identifier, p.name) for p in records.only_children))
    book.fill(
        "预防接种",
        ((r.child.identifier, r.completed.isoformat() if r.completed else None) for r in records.vaccinations),
    )
    book.fill("死亡登记", ((p.identifier, p.name) for p in records.deaths))
    tables = ("出生医学证明", "计划生育登记", "独生子女", "预防接种", "死亡登记")
    book.fill("数据加载", ((table, book.loaded(2)) for table in tables))
