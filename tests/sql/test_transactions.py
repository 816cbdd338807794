"""What a transaction has written: when it is stamped, and what its own context is given meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, g
from sqlalchemy import Engine, String, create_engine, event, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from flask_rcache import AUTO, CacheType, RCache, cached
from flask_rcache.sql import SQLCache

from .servers import MariaDB, Postgres

_WAIT = """CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep(7); RETURN NEW; END'"""
_SLOW = """CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON item DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait()"""
PAGE = CacheType("page", ttl=600)


class Base(DeclarativeBase):
    """The tables."""


class Item(Base):
    """Something with a name."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Site:
    """An app with one cached function of the session in `g`, and how often it ran."""

    def __init__(self, engine: Engine, redis: str = "memory://") -> None:
        self.engine = engine
        self.runs = 0
        self.app = Flask("site")
        self.app.config.update(RCACHE_URL=redis)
        RCache(self.app, types=[PAGE])
        self.sql = SQLCache(engine)
        self.sql.init_app(self.app)

        @cached(PAGE, tags=AUTO)
        def name(id: int) -> str | None:
            self.runs += 1
            item: Item | None = g.session.get(Item, id)
            return None if item is None else item.name

        self.name = name

    def visit(self) -> str | None:
        """A request that shows the item, and nothing else."""
        with self.app.test_request_context("/"), Session(self.engine) as session:
            g.session = session
            return self.name(1)

    def is_hit(self) -> bool:
        """Whether a visit is answered from the cache."""
        runs = self.runs
        self.visit()
        return self.runs == runs


@pytest.fixture
def sites(engine: Engine) -> Iterator[Callable[..., Site]]:
    """Makes the site of a database with one item."""
    made: list[Site] = []

    def make(redis: str = "memory://") -> Site:
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Item(id=1, name="one"))
            session.commit()
        made.append(Site(engine, redis))
        return made[-1]

    yield make
    for site in made:
        site.app.extensions["rcache"].close()


def test_unflushed_change__neither_served_nor_stored(sites: Callable[..., Site]) -> None:
    """A page that shows a change which was not even sent is nobody else's, and the cached one is not its own."""
    site = sites()
    assert site.visit() == "one"
    with site.app.test_request_context("/"), Session(site.engine, autoflush=False) as session:
        g.session = session
        session.get_one(Item, 1).name = "unsent"
        assert site.name(1) == "unsent"
        session.rollback()
    assert site.visit() == "one"
    assert site.is_hit()


def test_rollback__inside_a_load(sites: Callable[..., Site]) -> None:
    """What a load has read of a session that is rolled back before it ends is not stored."""
    site = sites()

    @cached(PAGE, tags=AUTO)
    def shown() -> str:
        item = g.session.get(Item, 1)
        item.name = "never"
        name = str(item.name)
        g.session.rollback()
        return name

    for expected in ("never", "never"):
        with site.app.test_request_context("/"), Session(site.engine, autoflush=False) as session:
            g.session = session
            assert shown() == expected
            runs = site.runs
    assert site.visit() == "one"
    assert site.runs > runs - 1


def test_uncommitted_write__is_seen_by_its_own_context_only(sites: Callable[..., Site]) -> None:
    """Inside the transaction a page shows what was written; after its rollback everybody has what they had."""
    site = sites()
    assert site.visit() == "one"
    with site.app.test_request_context("/"), Session(site.engine) as session:
        g.session = session
        session.execute(text("UPDATE item SET name = 'mine' WHERE id = 1"))
        assert site.name(1) == "mine"
        session.rollback()
    assert site.is_hit()
    assert site.visit() == "one"


def test_commit__a_load_afterwards_in_the_same_request_is_stored(sites: Callable[..., Site]) -> None:
    """What was not read before is as new as the commit: the next visitor has it from the cache."""
    site = sites()
    site.visit()
    with site.app.test_request_context("/"), Session(site.engine) as session:
        g.session = session
        session.execute(text("UPDATE item SET name = 'two' WHERE id = 1"))
        session.commit()
        assert site.name(1) == "two"
    assert site.is_hit()
    assert site.visit() == "two"


def test_other_row__keeps_the_hit(sites: Callable[..., Site]) -> None:
    """A write of another row, by its key, is none of a page that has read one row."""
    site = sites()
    site.visit()
    with Session(site.engine) as session:
        session.add(Item(id=2, name="other"))
        session.commit()
        session.get_one(Item, 2).name = "another"
        session.commit()
    assert site.is_hit()


def test_outside_of_contexts__commits_are_stamped(sites: Callable[..., Site]) -> None:
    """A job without an app context writes: every app that watches the engine hears of it."""
    site = sites()
    site.visit()
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE item SET name = 'job' WHERE id = 1"))
    assert site.visit() == "job"


def test_plain_engine__without_init_app(engine: Engine) -> None:
    """Nobody has said which app an engine belongs to: the caches of the process hear of its commits."""
    Base.metadata.create_all(engine)
    app = Flask("plain")
    app.config.update(RCACHE_URL="memory://")
    RCache(app, types=[PAGE])
    sql = SQLCache(engine)

    @cached(PAGE, tags=AUTO)
    def count() -> int:
        with Session(engine) as session:
            return int(session.execute(text("SELECT count(*) FROM item")).scalar_one())

    def visit() -> int:
        with app.test_request_context("/"):
            return count()

    assert visit() == 0
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO item (id, name) VALUES (1, 'one')"))
    assert visit() == 1
    assert sql.databases


def _site_of(url: str, redis: str = "memory://") -> Site:
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Item(id=1, name="one"))
        session.commit()
    return Site(engine, redis)


def test_snapshot__older_than_a_commit_is_not_stored(postgres: Postgres) -> None:
    """A REPEATABLE READ transaction that began before another's commit shows the old item, and does not keep it."""
    site = _site_of(postgres.url)
    with site.app.test_request_context("/"), Session(site.engine) as session:
        g.session = session
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        session.execute(text("SELECT 1 FROM item")).all()
        with site.engine.begin() as other:
            other.execute(text("UPDATE item SET name = 'new' WHERE id = 1"))
        assert site.name(1) == "one"
    assert site.visit() == "new"
    site.engine.dispose()


def test_commit__that_fails_for_certain_stamps_nothing(postgres: Postgres) -> None:
    """A deferred constraint refuses the COMMIT: the server says that nothing was committed, and every hit stays."""
    site = _site_of(postgres.url)
    with site.engine.begin() as connection:
        connection.execute(text("CREATE TABLE part (item_id int REFERENCES item DEFERRABLE INITIALLY DEFERRED)"))
    site.visit()
    assert site.is_hit()
    with site.engine.connect() as connection:
        connection.execute(text("UPDATE item SET name = 'refused' WHERE id = 1"))
        connection.execute(text("INSERT INTO part VALUES (99)"))
        with pytest.raises(IntegrityError):
            connection.commit()
    assert site.is_hit()
    assert site.visit() == "one"
    site.engine.dispose()


def test_commit__as_text_on_mariadb_while_another_connection_is_in_a_two_phase_call(mariadb: MariaDB) -> None:
    """What a two-phase call sends is a part of it; a COMMIT that another thread sends meanwhile is a commit."""
    site = _site_of(mariadb.url)
    with site.engine.begin() as connection:
        connection.execute(text("CREATE TABLE other (id int PRIMARY KEY)"))
    assert site.visit() == "one"
    is_preparing, may_go_on = threading.Event(), threading.Event()

    def hold(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("XA PREPARE"):
            is_preparing.set()
            assert may_go_on.wait(20)

    event.listen(site.engine, "before_cursor_execute", hold)

    def prepare() -> None:
        with site.engine.connect() as connection:
            transaction = connection.begin_twophase()
            connection.execute(text("INSERT INTO other VALUES (1)"))
            transaction.prepare()
            transaction.commit()

    thread = threading.Thread(target=prepare)
    thread.start()
    try:
        assert is_preparing.wait(20)
        with site.engine.connect() as connection:
            connection.execute(text("UPDATE item SET name = 'two' WHERE id = 1"))
            connection.exec_driver_sql("COMMIT")
            connection.rollback()
        assert site.visit() == "two"
    finally:
        may_go_on.set()
        thread.join()
    assert site.visit() == "two"
    site.engine.dispose()


@pytest.mark.race
def test_commit__that_takes_longer_than_its_stamp_lies_ahead(postgres: Postgres, redis_server: Any) -> None:
    """A COMMIT of seven seconds: its stamp is renewed, so that nothing that was read meanwhile is kept."""
    site = _site_of(postgres.url, redis_server.url)
    with site.engine.begin() as connection:
        connection.execute(text(_WAIT))
        connection.execute(text(_SLOW))

    def commit() -> None:
        with site.engine.begin() as connection:
            connection.execute(text("UPDATE item SET name = 'slow' WHERE id = 1"))

    writer = threading.Thread(target=commit)
    writer.start()
    time.sleep(0.5)
    hits = 0
    while writer.is_alive():
        hits += site.is_hit()
        time.sleep(0.05)
    writer.join()
    assert not hits
    assert site.visit() == "slow"
    assert site.is_hit()
    site.engine.dispose()
    site.app.extensions["rcache"].close()
