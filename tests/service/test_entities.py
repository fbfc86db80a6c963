"""Copies that outlive their session, and entities as plain data."""

from __future__ import annotations

import datetime
import decimal
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import shelf
from servers import Cluster
from shelf import Author, Book, Genre
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, mapped_column, selectinload

from pgtasks.errors import Refused
from pgtasks.service import DatabaseService, NotLoaded, get_detached_copy, get_entity_dict

SOLD = datetime.datetime(2026, 2, 28, 23, 59, tzinfo=datetime.timezone.utc)


@pytest.fixture
def service(
    project: Path, cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatabaseService]:
    """Return a service with an author of two books."""
    monkeypatch.chdir(project)
    cluster.execute(shelf.TABLES, database)
    service = DatabaseService("dev")
    with service.session() as session:
        books = [
            Book(title="A", genre=Genre.atlas, price=decimal.Decimal("12.50"), sold=SOLD),
            Book(title="B", cover=b"\x00\xff"),
        ]
        session.add(
            Author(
                name="Ada",
                password_hash="hash",
                pin="4711",
                note="long",
                born=datetime.date(1815, 12, 10),
                books=books,
            )
        )
    yield service
    service.dispose()


def test_a_copy_has_what_was_loaded_in_circles_too(service: DatabaseService) -> None:
    with service.session() as session:
        author = session.query(Author).options(selectinload(Author.books)).one()
        copy = get_detached_copy(author)
        author.name = "changed"
        session.flush()
    assert (copy.name, [book.title for book in copy.books]) == ("Ada", ["A", "B"])
    assert copy.books[0].author is copy
    assert copy is not author


def test_a_copy_outlives_a_rollback_and_an_expiry(service: DatabaseService) -> None:
    with service.session() as session:
        author = session.query(Author).one()
        session.expire(author)
        copy = get_detached_copy(author)
        session.rollback()
    assert (copy.name, copy.pin) == ("Ada", "4711")


def test_what_is_not_loaded_is_named(service: DatabaseService) -> None:
    with service.session() as session:
        copy = get_detached_copy(session.query(Author).one())
    with pytest.raises(NotLoaded, match=r"Author\.books was not .*selectinload\(Author\.books\)"):
        _ = copy.books
    with pytest.raises(NotLoaded, match=r"Author\.note was not .*undefer\(Author\.note\)"):
        _ = copy.note
    with pytest.raises(NotLoaded, match=r"Author\.books"):
        _ = pickle.loads(pickle.dumps(copy)).books


def test_a_copy_of_what_is_gone_is_refused(service: DatabaseService) -> None:
    with service.session() as session:
        author = session.query(Author).one()
        session.expire(author)
    with pytest.raises(NotLoaded, match=r"Author\.\w+ is expired and its session is closed"):
        get_detached_copy(author)


def test_a_copy_can_be_merged_and_loads_then(service: DatabaseService) -> None:
    with service.session() as session:
        copy = get_detached_copy(session.query(Author).one())
    copy.name = "Augusta"
    with service.session() as session:
        merged = session.merge(copy)
        assert [book.title for book in merged.books] == ["A", "B"]
    with service.session() as session:
        assert session.query(Author).one().name == "Augusta"
        session.expunge_all()
        session.add(copy)
        assert (copy.note, [book.title for book in copy.books]) == ("long", ["A", "B"])


def test_a_collection_of_a_copy_can_be_changed(service: DatabaseService) -> None:
    with service.session() as session:
        copy = get_detached_copy(session.query(Author).options(selectinload(Author.books)).one())
    copy.books.append(Book(title="C"))
    assert copy.books[2].author is copy


def test_an_entity_is_data_for_json(service: DatabaseService) -> None:
    with service.session() as session:
        author = session.query(Author).options(selectinload(Author.books)).one()
        token = str(author.token)
        data = json.loads(json.dumps(get_entity_dict(author, relations=True)))
    assert data == {
        "id": 1,
        "name": "Ada",
        "born": "1815-12-10",
        "token": token,
        "books": [
            {
                "id": 1,
                "title": "A",
                "author_id": 1,
                "genre": "atlas",
                "price": "12.50",
                "sold": "2026-02-28T23:59:00+00:00",
                "cover": None,
            },
            {
                "id": 2,
                "title": "B",
                "author_id": 1,
                "genre": None,
                "price": None,
                "sold": None,
                "cover": "AP8=",
            },
        ],
    }


def test_secrets_are_left_out_unless_they_are_named(service: DatabaseService) -> None:
    with service.session() as session:
        author = session.query(Author).one()
        assert get_entity_dict(author, exclude=["born", "token"]) == {"id": 1, "name": "Ada"}
        data = get_entity_dict(author, include=["pin"])
    assert (data["pin"], "password_hash" in data, "books" in data) == ("4711", False, False)


class Setting(shelf.Base):
    __tablename__ = "settings"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[dict[str, int]] = mapped_column(MutableDict.as_mutable(JSONB))
    pin: Mapped[str] = mapped_column("password")


@pytest.fixture
def settings(cluster: Cluster, database: str, service: DatabaseService) -> None:
    cluster.execute("CREATE TABLE settings (id int, data jsonb, password text)", database)
    with service.session() as session:
        session.add(Setting(id=1, data={"a": 1}, pin="4711"))


@pytest.mark.usefixtures("settings")
def test_a_change_of_a_copy_is_not_written(
    service: DatabaseService, cluster: Cluster, database: str
) -> None:
    with service.session() as session:
        copy = get_detached_copy(session.get_one(Setting, 1))
        copy.data["a"] = 2
    assert cluster.execute("SELECT data ->> 'a' FROM settings", database) == [("1",)]


@pytest.mark.usefixtures("settings")
def test_the_name_of_the_column_counts_too(service: DatabaseService) -> None:
    with service.session() as session:
        assert "4711" not in str(get_entity_dict(session.get_one(Setting, 1)))


def test_a_name_that_no_column_has_is_refused(service: DatabaseService) -> None:
    """A name with a mistake in it would let the column out."""
    with service.session() as session:
        author = session.query(Author).options(selectinload(Author.books)).one()
        for given in ({"exclude": ["nmae"]}, {"include": ["pn"]}):
            with pytest.raises(Refused, match=r"^Author has no column '(nmae|pn)', known: .*name"):
                get_entity_dict(author, **given)
        with pytest.raises(Refused, match="'nothing'"):
            get_entity_dict(author, exclude=["nothing"], relations=True)
        found = get_entity_dict(author, exclude=["title"], relations=True)  # of the books
        assert "title" not in found["books"][0]


@pytest.mark.parametrize("value", [None, [], "Ada", 3])
def test_what_is_no_entity_is_refused(value: object) -> None:
    for call in (get_detached_copy, get_entity_dict):
        with pytest.raises(Refused, match=f"a model, got {type(value).__name__}$"):
            call(value)
