"""Parts of pages: the tag `{% cache %}`, and `fragment()` for code."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, render_template, render_template_string, request, session
from flask.templating import Environment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import DictLoader, StrictUndefined, TemplateSyntaxError

from flask_rcache import (
    CacheType,
    ConfigError,
    InvalidKeyError,
    RCache,
    cached,
    current_cache,
    fragment,
    invalidate_tags,
)
from tests.servers import Server


def an_app(**config: Any) -> Flask:
    app = Flask("pages")
    app.secret_key = "k" * 32
    app.config.update(config)
    RCache(app)
    return app


@pytest.fixture(params=["memory", "redis"])
def pages(request: pytest.FixtureRequest) -> Iterator[Flask]:
    """An app on each store, its request context pushed."""
    url = "memory://"
    if request.param == "redis":
        server: Server = request.getfixturevalue("redis_server")
        url = server.url
    app = an_app(RCACHE_URL=url, RCACHE_PREFIX="fragments")
    with app.test_request_context("/"):
        current_cache.clear_all()
        current_cache.fresh()
        yield app
        current_cache.close()


class Counter:
    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> int:
        self.number += 1
        return self.number


# The tag


def test_tag__renders_its_block_once_for_each_form(pages: Flask) -> None:
    """`vary` tells the forms apart, the rest of the template is rendered each time."""
    count = Counter()
    source = '{{ outside() }}{% cache "side", ttl=60, tags=["menu"], vary=[who] %}{{ who }}{{ count() }}{% endcache %}'
    outside = Counter()
    shown = [render_template_string(source, who=who, count=count, outside=outside) for who in ("a", "a", "b")]
    assert shown == ["1a1", "2a1", "3b2"]


@pytest.mark.parametrize("tag", ["menu", "fragment:side"])
def test_tag__is_invalidated_by_its_tags_and_its_name(pages: Flask, tag: str) -> None:
    """Each fragment has the tag `fragment:<name>`."""
    count = Counter()
    source = '{% cache "side", tags=["menu"] %}{{ count() }}{% endcache %}'
    render_template_string(source, count=count)
    invalidate_tags(tag)
    current_cache.fresh()
    assert render_template_string(source, count=count) == "2"


def test_tag__inner_fragments_live_on_and_pass_their_tags_up(pages: Flask) -> None:
    """An invalidated outer one is made of the inner one's entry; an invalidated inner one takes the outer along."""
    outer, inner = Counter(), Counter()
    source = (
        '{% cache "outer", tags=["o"] %}{{ outer() }}'
        '{% cache "inner", tags=["i"] %}{{ inner() }}{% endcache %}{% endcache %}'
    )

    def shown() -> str:
        current_cache.fresh()
        return render_template_string(source, outer=outer, inner=inner)

    assert [shown(), shown()] == ["11", "11"]
    invalidate_tags("o")
    assert shown() == "21"
    invalidate_tags("i")
    assert shown() == "32"


def test_tag__a_page_around_it_depends_on_it(pages: Flask) -> None:
    """A cached function that renders a template has the tags of its fragments."""
    count = Counter()

    @cached(CacheType.QUERY)
    def page() -> str:
        return render_template_string('{% cache "side", tags=["menu"] %}{{ count() }}{% endcache %}', count=count)

    assert [page(), page()] == ["1", "1"]
    invalidate_tags("menu")
    current_cache.fresh()
    assert page() == "2"


def test_tag__the_same_name_in_another_template_is_another_fragment() -> None:
    """Two templates, and two blocks of one: each has its own content."""
    app = an_app()
    app.jinja_env.loader = DictLoader(
        {
            "a.html": '{% cache "side" %}A{% endcache %}',
            "b.html": '{% cache "side" %}B{% endcache %}{% cache "side" %}C{% endcache %}',
        }
    )
    with app.test_request_context("/"):
        for _ in range(2):
            assert app.jinja_env.get_template("a.html").render() == "A"
            assert app.jinja_env.get_template("b.html").render() == "BC"


def test_tag__in_a_shared_template_is_one_fragment() -> None:
    """Included, imported or inherited, it is rendered once."""
    app = an_app()
    app.jinja_env.loader = DictLoader(
        {
            "side.html": '{% cache "side" %}{{ count() }}{% endcache %}',
            "base.html": "{% include 'side.html' %}|{% block page %}{% endblock %}",
            "a.html": "{% extends 'base.html' %}{% block page %}a{% endblock %}",
            "b.html": "{% extends 'base.html' %}{% block page %}b{% include 'side.html' %}{% endblock %}",
        }
    )
    count = Counter()
    with app.test_request_context("/"):
        assert app.jinja_env.get_template("a.html").render(count=count) == "1|a"
        assert app.jinja_env.get_template("b.html").render(count=count) == "1|b1"


def test_tag__escapes_as_the_template_does() -> None:
    """What was escaped is not escaped again, `Markup` stays, and a block that does not escape is another fragment."""
    app = an_app()
    source = (
        '{% cache "a", vary=[x] %}{{ x }}{{ "<i>"|safe }}{% endcache %}'
        '{% autoescape false %}{% cache "a", vary=[x] %}{{ x }}{{ "<i>"|safe }}{% endcache %}{% endautoescape %}'
    )
    with app.test_request_context("/"):
        shown = {render_template_string(source, x="<b>") for _ in range(3)}
    assert shown == {"&lt;b&gt;<i><b><i>"}


def test_tag__in_a_macro_varies_with_its_arguments() -> None:
    """A macro's arguments and a loop's variable are at hand in `vary` and in the block."""
    app = an_app()
    source = (
        '{% macro card(item, big=false) %}{% cache "card", vary=[item, big] %}'
        "<{{ item }}{{ '!' if big }}{{ count() }}>{% endcache %}{% endmacro %}"
        "{% for item in items %}{{ card(item) }}{{ card(item, big=true) }}{{ loop.index }}{% endfor %}"
    )
    count = Counter()
    with app.test_request_context("/"):
        first = render_template_string(source, items="ab", count=count)
        assert first == render_template_string(source, items="ab", count=count) == "<a1><a!2>1<b3><b!4>2"


_BASE = "{% cache 'box', vary=[word] %}<{% block inner %}base{% endblock %}>{% endcache %}"
_BOX = "{% macro box(n) %}{% cache 'box', vary=[n] %}[{{ caller() }}{{ varargs }}]{% endcache %}{% endmacro %}"


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        (
            {"a": "{% extends 'base' %}", "b": "{% extends 'base' %}{% block inner %}{{ word }}{% endblock %}"},
            ["<base>", "<hi>"],
        ),
        (
            {
                "a": "{% extends 'base' %}{% block inner %}{% cache 'up' %}{{ super() }}!{% endcache %}{% endblock %}",
                "b": "{% extends 'other' %}{% block inner %}{% cache 'up' %}{{ super() }}!{% endcache %}{% endblock %}",
            },
            ["<base!>", "other!"],
        ),
        (
            {"a": "{% extends 'twice' %}{% block head %}A{% endblock %}", "b": "{% extends 'twice' %}"},
            ["A(A)", "T(T)"],
        ),
        (
            {"a": _BOX + "{% call box(1, 2) %}a{% endcall %}{% call box(1, 2) %}b{% endcall %}"},
            ["[a(2,)][b(2,)]"],
        ),
    ],
)
def test_tag__code_of_other_templates_tells_fragments_apart(
    templates: dict[str, str], expected: list[str], is_async: bool
) -> None:
    """A template that extends another one decides what a block inside a fragment is; so does the block of a call."""
    app = Flask(__name__)
    app.config["TESTING"] = True
    if is_async:
        app.jinja_options = {"enable_async": True}
    others = {
        "base": _BASE,
        "other": "{% block inner %}other{% endblock %}",
        "twice": "{% block head %}T{% endblock %}({% cache 'twice' %}{{ self.head() }}{% endcache %})",
    }
    app.jinja_env.loader = DictLoader({**others, **templates})
    RCache(app)
    with app.app_context():
        for _ in range(2):
            assert [render_template(name, word="hi") for name in templates] == expected


def test_tag__what_context_processors_read_for_another_template_s_block_counts() -> None:
    """The fragment stands in the base, what reads the request in the template that extends it."""
    app = Flask(__name__)
    app.config["TESTING"] = True
    app.jinja_env.loader = DictLoader(
        {"base": _BASE, "page": "{% extends 'base' %}{% block inner %}{{ me }}{% endblock %}"}
    )
    app.context_processor(lambda: {"me": request.headers.get("X-Name", "")})
    RCache(app)
    for name in ("Ann", "Bob"):
        with app.test_request_context(headers={"X-Name": name}):
            assert render_template("page", word="hi") == f"<{name}>"


def test_tag__what_it_sets_stays_inside() -> None:
    """On a miss as on a hit."""
    app = an_app()
    source = '{% set x = 1 %}{% cache "a" %}{% set x = 2 %}{{ x }}{% endcache %}{{ x }}'
    with app.test_request_context("/"):
        assert [render_template_string(source) for _ in range(2)] == ["21", "21"]


def test_tag__in_async_templates() -> None:
    """The block may await, and is rendered once for many renderings at a time."""
    app = an_app()
    app.jinja_options = {**app.jinja_options, "enable_async": True}
    count = Counter()

    async def slow() -> int:
        await asyncio.sleep(0.01)
        return count()

    async def main() -> list[str]:
        template = app.jinja_env.from_string('{% cache "a", vary=[1] %}{{ slow() }}{{ "<" }}{% endcache %}')
        first = await asyncio.gather(*(template.render_async(slow=slow) for _ in range(3)))
        return [*first, await template.render_async(slow=slow)]

    with app.test_request_context("/"):
        assert asyncio.run(main()) == ["1&lt;"] * 4


def test_tag__one_rendering_for_many_threads(pages: Flask) -> None:
    """Those that come meanwhile wait for it."""
    count = Counter()

    def slow() -> int:
        time.sleep(0.1)
        return count()

    template = pages.jinja_env.from_string('{% cache "a" %}{{ slow() }}{% endcache %}')
    shown: list[str] = []

    def render() -> None:
        with pages.test_request_context("/"):
            shown.append(template.render(slow=slow))

    threads = [threading.Thread(target=render) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert shown == ["1"] * 8


def test_tag__block_that_reads_the_request_is_not_stored(pages: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is shown another's name, and it is said once."""
    source = '{% cache "hello-' + str(id(pages)) + '" %}{{ session.name }}{% endcache %}'
    for name in ("Ann", "Bob", "Cid"):
        with pages.test_request_context("/"):
            session["name"] = name
            assert render_template_string(source) == name
    warnings = [each.getMessage() for each in caplog.records if "is not cached" in each.getMessage()]
    assert len(warnings) == 1
    assert "it reads session, which is not in its key: name it in vary" in warnings[0]


LOGGED_IN = "{{ current_user }}"


@pytest.mark.parametrize(
    ("source", "is_shared"),
    [
        ('{% cache "side" %}' + LOGGED_IN + "{% endcache %}", False),
        ('{% cache "side" %}{% include "greeting.html" %}{% endcache %}', False),
        ('{% cache "side" %}{% include name %}{% endcache %}', False),
        ('{% cache "side" %}{% from "macros.html" import greet with context %}{{ greet() }}{% endcache %}', False),
        ('{% cache "side" %}the same{{ count() }}{% endcache %}' + LOGGED_IN, True),
        ('{% cache "side" %}{% include "plain.html" %}{% endcache %}', True),
        ('{% cache "side", vary=[current_user] %}' + LOGGED_IN + "{{ count() }}{% endcache %}", True),
    ],
)
def test_tag__what_context_processors_read_for_it_counts(source: str, is_shared: bool) -> None:
    """A login library's `current_user` is read before the block: Bob is not shown Ann's part all the same."""
    app = an_app()
    app.jinja_env.loader = DictLoader(
        {
            "greeting.html": LOGGED_IN,
            "plain.html": "plain{{ count() }}",
            "macros.html": "{% macro greet() %}" + LOGGED_IN + "{% endmacro %}",
        }
    )

    @app.context_processor
    def user() -> dict[str, Any]:
        return {"current_user": session.get("name")}

    count = Counter()
    template = app.jinja_env.from_string(source)
    for name in ("Ann", "Bob", "Ann", "Bob"):
        with app.test_request_context("/"):
            session["name"] = name
            context: dict[str, Any] = {"count": count, "name": "greeting.html"}
            app.update_template_context(context)
            shown = template.render(context)
            if LOGGED_IN in source or not is_shared:
                assert name in shown
    if is_shared:
        assert count.number == (2 if "vary" in source else 1)


def test_tag__what_vary_reads_is_in_the_key(pages: Flask) -> None:
    """A block may read of the request what its `vary` reads."""
    count = Counter()
    source = '{% cache "hi", vary=[session.name] %}{{ session.name }}{{ count() }}{% endcache %}'
    shown = []
    for name in ("Ann", "Bob", "Ann"):
        with pages.test_request_context("/"):
            session["name"] = name
            shown.append(render_template_string(source, count=count))
    assert shown == ["Ann1", "Bob2", "Ann1"]


def test_tag__undefined_vary_is_not_cached_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """In production the page is rendered all the same; tests get an error."""
    source = '{% cache "undefined", vary=[nobody] %}x{% endcache %}'
    with an_app().test_request_context("/"):
        assert render_template_string(source) == "x"
        assert not list(current_cache.entries())
    assert "vary of fragment 'undefined' has an undefined value: 'nobody'" in caplog.text
    with an_app(TESTING=True).test_request_context("/"), pytest.raises(InvalidKeyError, match="nobody"):
        render_template_string(source)


def test_tag__is_never_refreshed_in_the_background() -> None:
    """Its variables are the request's: an expired one is rendered by the request that asks for it."""
    app = Flask("pages")
    side = CacheType("side", ttl=0.05, stale_while_revalidate=60, early_refresh=1)
    RCache(app, types=[side])
    threads: list[int] = []
    source = '{% cache "a", type="side" %}{{ note() }}{% endcache %}'

    def note() -> None:
        threads.append(threading.get_ident())

    with app.test_request_context("/"):
        for _ in range(2):
            render_template_string(source, note=note)
            time.sleep(0.06)
    assert threads == [threading.get_ident()] * 2


def test_tag__error_in_the_block_stores_nothing(pages: Flask) -> None:
    """The error is the page's; the next rendering tries again."""
    source = '{% cache "a" %}{{ 1 // by }}{% endcache %}'
    with pytest.raises(ZeroDivisionError):
        render_template_string(source, by=0)
    assert render_template_string(source, by=1) == "1"


def test_tag__without_a_cache_renders_its_block() -> None:
    """Outside of an app context, and where the cache is switched off."""
    app = an_app(RCACHE_ENABLED=False)
    template = app.jinja_env.from_string('{% cache "a" %}{{ count() }}{% endcache %}')
    count = Counter()
    assert [template.render(count=count) for _ in range(2)] == ["1", "2"]
    with app.test_request_context("/"):
        assert [template.render(count=count) for _ in range(2)] == ["3", "4"]


def test_tag__is_there_when_the_environment_was_made_before() -> None:
    """An app that has used its templates before `init_app` has the tag too."""
    app = Flask("pages")
    app.jinja_env.undefined = StrictUndefined
    RCache(app)
    with app.test_request_context("/"):
        assert render_template_string('{% cache "a" %}x{% endcache %}') == "x"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% cache %}x{% endcache %}", "a cached fragment needs a name: write {% cache"),
        ("{% cache 'a' %}{% include 'b' without context %}{% endcache %}", "leave out `without context`"),
        ('{% cache "" %}x{% endcache %}', "name is a non-empty string, not ''"),
        ("{% cache 3 %}x{% endcache %}", "name is a non-empty string, not 3"),
        ('{% cache "a", timeout=3 %}x{% endcache %}', "'timeout' is no option of a fragment"),
        ('{% cache "a", ttl=3, ttl=4 %}x{% endcache %}', "given twice"),
        ('{% cache "a" %}x', "endcache"),
    ],
)
def test_tag__mistakes_are_named_when_the_template_is_read(source: str, message: str) -> None:
    """Before anything is rendered, with the remedy."""
    with pytest.raises(TemplateSyntaxError) as caught:
        an_app().jinja_env.from_string(source)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("{% cache name %}x{% endcache %}", "name is a non-empty string, not None"),
        ('{% cache "a", ttl=-1 %}x{% endcache %}', "ttl"),
        ('{% cache "a", type="nobody" %}x{% endcache %}', "unknown cache type 'nobody'"),
        ('{% cache "a", tags=[3] %}x{% endcache %}', "tag"),
    ],
)
def test_tag__mistakes_in_values_are_named(source: str, error: str) -> None:
    """What is known only when it is rendered."""
    with an_app().test_request_context("/"), pytest.raises(ConfigError, match=error):
        render_template_string(source, name=None)


# The same with and without

_texts = st.text(alphabet="ab<>&'\" ", max_size=6)
_names = st.sampled_from(["x", "y", "item"])
_leaves = st.one_of(
    _texts.map(lambda text: text.replace("{", "")),
    _names.map(lambda name: "{{ " + name + " }}"),
    _names.map(lambda name: "{{ " + name + "|safe }}"),
    st.just("{% set x = 'set' %}{{ x }}"),
)


def _wrapped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, max_size=3).map("".join),
        inner.map(lambda body: "{% for item in (1, '<') %}" + body + "{% endfor %}"),
        inner.map(lambda body: "{% if y %}" + body + "{% else %}-{% endif %}"),
        inner.map(lambda body: "{% autoescape false %}" + body + "{% endautoescape %}"),
        inner.map(lambda body: "{% with x = y %}" + body + "{% endwith %}"),
        inner.map(lambda body: "{% filter upper %}" + body + "{% endfilter %}"),
        st.tuples(inner, st.sampled_from("ab")).map(
            lambda pair: '{% cache "' + pair[1] + '", vary=[x, y, item] %}' + pair[0] + "{% endcache %}"
        ),
    )


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    source=st.recursive(_leaves, _wrapped, max_leaves=8),
    contexts=st.lists(st.fixed_dictionaries({"x": _texts, "y": _texts, "item": _texts}), min_size=1, max_size=3),
)
def test_tag__output_is_the_same_with_and_without(source: str, contexts: list[dict[str, str]]) -> None:
    """Templates of every shape give what they give where nothing is cached, however often and in whatever order."""
    app = _hypothesis_app()
    cached_template = app.jinja_env.from_string(source)
    plain = _without_cache(source)
    with app.test_request_context("/"):
        for values in contexts * 2:
            assert cached_template.render(values) == plain(values)


_apps: list[Flask] = []


def _hypothesis_app() -> Flask:
    if not _apps:
        _apps.append(an_app())
        _apps.append(an_app(RCACHE_ENABLED=False))
    return _apps[0]


def _without_cache(source: str) -> Callable[[dict[str, str]], str]:
    app = _apps[1]
    template = app.jinja_env.from_string(source)

    def render(values: dict[str, str]) -> str:
        with app.test_request_context("/"):
            return template.render(values)

    return render


# In code


def test_fragment__block_runs_when_it_is_missing(pages: Flask) -> None:
    """What the block sets is there the next time."""
    made = []
    for who in ("a", "a", "b"):
        with fragment("side", ttl=60, vary=[who], tags=["menu"]) as part:
            if part.is_missing:
                made.append(who)
                part.value = f"<b>{who}</b>"
        assert part.value == f"<b>{who}</b>"
    assert made == ["a", "b"]
    invalidate_tags("fragment:side")
    current_cache.fresh()
    with fragment("side", vary=["a"]) as part:
        assert part.is_missing
        part.value = "new"


def test_fragment__block_that_raises_or_sets_nothing_stores_nothing(pages: Flask) -> None:
    """Its lease is free at once: the next one is not held up."""
    with pytest.raises(ZeroDivisionError), fragment("side") as part:
        part.value = str(1 // 0)
    with fragment("side") as part:
        assert part.is_missing
    began = time.monotonic()
    with fragment("side") as part:
        assert part.is_missing
        part.value = "x"
    assert time.monotonic() - began < 1
    with fragment("side") as part:
        assert part.value == "x"


def test_fragment__takes_tags_of_what_it_reads(pages: Flask) -> None:
    """A cached function read inside invalidates it."""

    @cached(CacheType.QUERY, tags=["menu"])
    def menu() -> str:
        return "menu"

    with fragment("side") as part:
        part.value = menu()
    invalidate_tags("menu")
    current_cache.fresh()
    with fragment("side") as part:
        assert part.is_missing
        part.value = "again"


def test_fragment__that_reads_the_request_is_not_stored(pages: Flask) -> None:
    """Unless a function `vary` reads it."""

    def shown(vary: Any) -> tuple[str, bool]:
        with fragment("lang", vary=vary) as part:
            if was_missing := part.is_missing:
                part.value = request.headers["X-Lang"]
        return part.value, was_missing

    for vary, expected in (((), [True, True, True]), (lambda: request.headers["X-Lang"], [True, True, False])):
        found = []
        for language in ("de", "en", "de"):
            with pages.test_request_context("/", headers={"X-Lang": language}):
                value, was_missing = shown(vary)
                assert value == language
                found.append(was_missing)
        assert found == expected


def test_fragment__one_block_for_many_threads(pages: Flask) -> None:
    """The others wait, and take its value."""
    made = []

    def run() -> None:
        with pages.test_request_context("/"), fragment("slow") as part:
            if part.is_missing:
                time.sleep(0.1)
                made.append(1)
                part.value = "x"
            assert part.value == "x"

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert made == [1]


def test_fragment__switched_off_is_always_missing(caplog: pytest.LogCaptureFixture) -> None:
    """`RCACHE_ENABLED=false`: nothing is read, nothing stored."""
    caplog.set_level(logging.WARNING)
    with an_app(RCACHE_ENABLED=False).test_request_context("/"):
        for _ in range(2):
            with fragment("side") as part:
                assert part.is_missing
                part.value = "x"


@pytest.mark.parametrize("name", ["", None, 3])
def test_fragment__needs_a_name(name: Any) -> None:
    """Said at once, with an example."""
    with an_app().test_request_context("/"), pytest.raises(ConfigError, match="non-empty string"), fragment(name):
        pass


class Templates(Environment):
    """An app's own environment."""


class Making(Flask):
    """An app that makes its environment without the options."""

    def create_jinja_environment(self) -> Environment:
        return Templates(self)


def _with_options(app: Flask) -> None:
    app.jinja_options = {"trim_blocks": True}


def _with_a_class(app: Flask) -> None:
    app.jinja_environment = Templates


def _with_another(app: Flask) -> None:
    vars(app)["jinja_env"] = Templates(app)


def _made_by_another(app: Flask) -> None:
    app.create_jinja_environment = lambda: Templates(app)  # type: ignore[method-assign]


@pytest.mark.parametrize("replace", [_with_options, _with_a_class, _with_another, _made_by_another, None])
def test_tag__stays_when_the_environment_is_replaced(replace: Any) -> None:
    """After `RCache(app)`: its options, its class, itself, or what makes it."""
    app = (Flask if replace else Making)("shop")
    app.config.update(RCACHE_URL="memory://", TESTING=True)
    RCache(app)
    if replace:
        replace(app)
    app.add_url_rule("/", "page", lambda: render_template_string("{% cache 'a', ttl=60 %}x{{ 1 }}{% endcache %}"))
    assert [app.test_client().get("/").text for _ in range(2)] == ["x1", "x1"]
