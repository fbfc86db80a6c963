"""Models for tests of the service: they refer to each other in a circle."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid

from sqlalchemy import ForeignKey, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

TABLES = """
CREATE TYPE genre AS ENUM ('novel', 'atlas');
CREATE TABLE authors (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text NOT NULL UNIQUE,
    password_hash text, pin text, note text, born date, token uuid DEFAULT gen_random_uuid());
CREATE TABLE books (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, title text NOT NULL,
    author_id int REFERENCES authors, genre genre, price numeric(8, 2), sold timestamptz,
    cover bytea, tags text[], data jsonb);
"""


class Base(DeclarativeBase):
    pass


class Genre(enum.Enum):
    novel = "novel"
    atlas = "atlas"


class Author(Base):
    __tablename__ = "authors"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    password_hash: Mapped[str | None]
    pin: Mapped[str | None] = mapped_column(info={"secret": True})
    note: Mapped[str | None] = mapped_column(deferred=True)
    born: Mapped[datetime.date | None]
    token: Mapped[uuid.UUID | None] = mapped_column(server_default=text("gen_random_uuid()"))
    books: Mapped[list[Book]] = relationship(back_populates="author", order_by="Book.id")


class Book(Base):
    __tablename__ = "books"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id"))
    genre: Mapped[Genre | None]
    price: Mapped[decimal.Decimal | None]
    sold: Mapped[datetime.datetime | None]
    cover: Mapped[bytes | None]
    author: Mapped[Author | None] = relationship(back_populates="books")
