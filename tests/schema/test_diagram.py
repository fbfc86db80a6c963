"""The entity-relationship diagram: its model, its layout, SVG and Mermaid."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from servers import Cluster

from pgtasks.errors import Refused
from pgtasks.schema.inspect.diagram import layers, layout, mermaid, svg
from pgtasks.schema.inspect.diagram.layout import Layout
from pgtasks.schema.inspect.diagram.model import Column, Link, Model, Table, read
from pgtasks.schema.inspect.diagram.picture import columns_of, depth_of
from pgtasks.server import connection

SHOP = """
CREATE SCHEMA "Old <&> ""s"" shop";
CREATE TABLE country (code char(2) PRIMARY KEY, name text NOT NULL);
CREATE TABLE customer (id int PRIMARY KEY, country char(2) NOT NULL REFERENCES country,
  friend int REFERENCES customer);
CREATE TABLE passport (customer int PRIMARY KEY REFERENCES customer, number text);
CREATE TABLE "order; --" (id int PRIMARY KEY, customer int REFERENCES customer, "<b>🙂" text);
CREATE TABLE log (at date, customer int REFERENCES customer) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE alone (id int);
CREATE TABLE "Old <&> ""s"" shop".item (id int, part int, "order" int REFERENCES "order; --",
  PRIMARY KEY (id, part));
"""


@pytest.fixture
def shop(cluster: Cluster, fresh_database: Callable[..., str]) -> str:
    name = fresh_database(cluster)
    cluster.psql(name, SHOP)
    return name


def test_the_tables_and_their_keys(cluster: Cluster, shop: str) -> None:
    with connection.session(cluster.target(shop), read_only=True, purpose="test") as conn:
        model = read(conn)
        near = {
            depth: {each.name for each in read(conn, table="passport", depth=depth).tables}
            for depth in (0, 1, 2)
        }
        keys = read(conn, table="customer", depth=0, columns="keys")
        one = read(conn, schema='Old <&> "s" shop')
        for wanted, message in (
            ({"schema": "pubic"}, "unknown schema 'pubic'"),
            ({"table": "custome"}, "no table is named 'custome', did you mean .*customer"),
        ):
            with pytest.raises(Refused, match=message):
                read(conn, **wanted)
    assert [each.name for each in model.tables] == [
        *("item", "alone", "country", "customer", "log", "order; --", "passport"),
    ]
    links = {
        (model.tables[link.child].name, model.tables[link.parent].name): link
        for link in model.links
    }
    assert set(links) == {
        ("customer", "country"),
        ("customer", "customer"),
        ("passport", "customer"),
        ("order; --", "customer"),
        ("log", "customer"),
        ("item", "order; --"),
    }
    required, passport = links["customer", "country"], links["passport", "customer"]
    assert (required.optional, required.unique) == (False, False)
    assert (passport.optional, passport.unique) == (False, True)
    assert links["item", "order; --"].optional
    assert model.tables[0].label == '"Old <&> ""s"" shop".item'
    assert one.tables[0].label == "item"
    customer = model.tables[3]
    assert [(each.name, each.marks) for each in customer.columns] == [
        ("id", ["PK"]),
        ("country", ["FK"]),
        ("friend", ["FK"]),
    ]
    assert near == {
        0: {"passport"},
        1: {"passport", "customer"},
        2: {"passport", "customer", "country", "log", "order; --"},
    }
    assert keys.tables[0].hidden == 0
    assert keys.links[0].name == "customer_friend_fkey"


def made(number: int, seed: int) -> Model:
    """Return a model of many tables, some in cycles, some alone."""
    chance = random.Random(seed)
    tables = tuple(
        Table(
            "public",
            f"table_{n}",
            tuple(
                Column(f"column_{c}", "integer", True, c == 0, c == 1)
                for c in range(chance.randint(2, 14))
            ),
            label=f"table_{n}" * chance.randint(1, 3),
        )
        for n in range(number)
    )
    links = tuple(
        Link(
            f"key_{n}",
            chance.randrange(number),
            min(chance.randrange(number), chance.randrange(number)),
            ("column_1",),
            ("column_0",),
            bool(n % 2),
            n % 7 == 0,
        )
        for n in range(int(number * 1.2))
    )
    return Model(tables, links)


MODELS = [made(number, number) for number in (1, 2, 7, 25, 60, 120)]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"{len(model.tables)} tables")
def test_no_box_is_on_another_and_no_line_crosses_one(model: Model) -> None:
    laid = layout.lay_out(model)
    assert laid == layout.lay_out(model)  # it leaves nothing to chance
    for one, other in itertools.combinations(laid.boxes, 2):
        apart = (
            one.x + one.width < other.x
            or other.x + other.width < one.x
            or one.y + one.height < other.y
            or other.y + other.height < one.y
        )
        assert apart, (one, other)
    assert all(box.x > 0 and box.x + box.width < laid.width for box in laid.boxes)
    assert all(box.y > 0 and box.y + box.height < laid.height for box in laid.boxes)
    for line in laid.lines:
        assert all(0 < x < laid.width and 0 < y < laid.height for x, y in line.points)
        _check_ends(laid, line)
        _check_straight_parts(laid, line)


def _check_ends(laid: Layout, line: layout.Line) -> None:
    for (x, y), number in (
        (line.points[0], line.link.parent),
        (line.points[-1], line.link.child),
    ):
        box = laid.boxes[number]
        assert x in (box.x, box.x + box.width)
        assert box.y <= y <= box.y + box.height


def _check_straight_parts(laid: Layout, line: layout.Line) -> None:
    """Where it passes a layer it is beside the boxes of that layer."""
    for (x1, y1), (x2, y2) in itertools.pairwise(line.points):
        if y1 != y2:
            continue
        left, right = min(x1, x2), max(x1, x2)
        for box in laid.boxes:
            inside = box.y < y1 < box.y + box.height
            assert not (inside and left < box.x + box.width - 0.1 and right > box.x + 0.1)


def test_parents_are_left_of_their_children_and_few_lines_cross() -> None:
    pairs = [(0, 1), (1, 2), (0, 3), (3, 2), (4, 5), (5, 4)]
    assert layers.components(7, pairs) == [[0, 1, 2, 3], [4, 5], [6]]
    arranged = layers.arrange([0, 1, 2, 3], pairs[:4], [100.0] * 7)
    assert [set(layer) for layer in arranged.layers] == [{0}, {1, 3}, {2}]
    # in the order of their names all would cross
    reversed_pairs = [(0, 5), (1, 4), (2, 3), (9, 0), (9, 1), (9, 2)]
    left = layers.arrange([0, 1, 2, 3, 4, 5, 9], reversed_pairs, [10.0] * 10).layers
    assert [list(left[1]).index(n) for n in (0, 1, 2)] == [
        list(left[2]).index(n) for n in (5, 4, 3)
    ]


def test_svg_escapes_names_and_stands_alone(cluster: Cluster, shop: str) -> None:
    with connection.session(cluster.target(shop), read_only=True, purpose="test") as conn:
        model = read(conn)
    text = "\n".join(svg.lines(model, layout.lay_out(model), 'a <b> & "c"\x1b'))
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    words = [each.text for each in root.iter(f"{space}text")]
    assert '"Old <&> ""s"" shop".item' in words
    assert "<b>🙂" in words
    assert root.findtext(f"{space}title") == 'a <b> & "c"\\x1b'
    assert len(root.findall(f"{space}g[@class='link']")) == len(model.links)
    tags = {each.tag.removeprefix(space) for each in root.iter()}
    assert tags <= {"svg", "title", "style", "rect", "g", "text", "path", "circle"}
    assert "href" not in text
    assert "url(" not in text


def test_mermaid_has_no_name_that_is_more_than_a_name(cluster: Cluster, shop: str) -> None:
    with connection.session(cluster.target(shop), read_only=True, purpose="test") as conn:
        lines = list(mermaid.lines(read(conn)))
    assert lines[0] == "erDiagram"
    assert '    t0["#quot;Old #lt;#amp;#gt; #quot;#quot;s#quot;#quot; shop#quot;.item"] {' in lines
    assert '        text b "#lt;b#gt;🙂"' in lines
    assert "        character_2 country FK" in lines
    assert '    t3 ||--o| t6 : "passport_customer_fkey"' in lines
    assert '    t5 |o--o{ t0 : "item_order_fkey"' in lines


def test_values_of_flags() -> None:
    assert depth_of("3") == 3
    assert columns_of("keys") == "keys"
    with pytest.raises(Refused, match="--depth 'x' is no number of foreign keys"):
        depth_of("x")
    with pytest.raises(Refused, match="--columns 'some', known: all, keys"):
        columns_of("some")


def test_the_task(project: Path, inv: Callable[..., Any], cluster: Cluster, database: str) -> None:
    cluster.psql(database, SHOP)
    done = inv("inspect.diagram", "--svg", "--table", "public.passport", "--depth", "2")
    assert done.returncode == 0, done.stderr
    assert len(ElementTree.fromstring(done.stdout)) > 5
    assert inv("inspect.diagram").stdout.startswith("erDiagram\n")
    document = json.loads(inv("inspect.diagram", "--svg", "--json").stdout)
    assert document["svg"].startswith("<svg ")
    assert {each["label"] for each in document["tables"]} >= {"public.customer", "public.alone"}
    assert document["links"][0]["parent"] in {each["label"] for each in document["tables"]}
    refused = inv("inspect.diagram", "--depth", "-1")
    assert refused.returncode == 2


def test_a_percent_sign_begins_no_comment_of_mermaid() -> None:
    assert mermaid._label("%%{init}") == "#37;#37;{init}"
