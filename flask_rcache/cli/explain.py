"""The command ``explain``: would a request be cached, under which key, for how long, and if not, why.

Owns the sending of the request with ``--run``, the reading of the response's ``Cache-Status``, and the printing, in
which no value of a credential appears.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import click
from flask import Flask, current_app
from flask.testing import EnvironBuilder
from werkzeug.http import parse_cookie
from werkzeug.test import run_wsgi_app
from werkzeug.urls import iri_to_uri

from ..context import manager_of
from ..http import Reason, field_of
from ..views.bound import remedy_for
from .explanation import explained, in_new_context
from .output import Column, Command, Failure, answer, answers, bytes_text, line, note, note_memory, seconds_text

__all__ = ["explain"]

_PARAMETER: Final = re.compile(r';\s*([a-z*][a-z0-9_.*-]*)(?:=("(?:[^"\\]|\\.)*"|[^;,\s]+))?')
_MEMBER: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+')
_SENTENCES: Final[Mapping[str | None, str]] = {reason.value: reason.sentence for reason in Reason}
_SHOWN: Final = (
    "X-Cache",
    "X-Cache-Key",
    "Cache-Status",
    "Cache-Control",
    "Vary",
    "Age",
    "ETag",
    "Expires",
    "Content-Type",
    "Content-Length",
)
#: Request fields whose values are no secrets; those of all others are not printed.
_PLAIN: Final = frozenset(
    {
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "content-length",
        "content-type",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-unmodified-since",
        "pragma",
        "range",
        "user-agent",
        "x-forwarded-host",
        "x-forwarded-proto",
    }
)
_SHORTEST_SECRET: Final = 8
#: What a run knows better than a lookup.
_OUTCOME: Final = ("verdict", "reason", "because", "notes")


@click.command(cls=Command)
@click.argument("url")
@click.option("--method", default="GET", show_default=True, help="The method of the request.")
@click.option("--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="A field of the request.")
@click.option("--run", "runs", is_flag=True, help="Send the request through the app, and explain the answer.")
@answers
def explain(*, url: str, method: str, headers: tuple[str, ...], runs: bool, as_json: bool) -> None:
    """Show whether a request is a hit, and if not, why.

    URL is a path, or a whole URL: scheme and host are part of the key. Without --run no view is called; the decorator's
    key_func and unless are. Values of credentials are not printed.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's, which its type hides
    fields = _fields(headers)
    method = method.upper()
    if runs and method not in ("GET", "HEAD"):
        raise Failure("usage", f"--run sends GET and HEAD only: a {method} might change something.", exit_code=2)
    note_memory(manager_of(app))
    found = explained(app, url, method=method, headers=fields)
    document = found.document()
    if runs and found.endpoint is not None:
        sent = _sent(app, url, method, fields)
        found = explained(app, url, method=method, headers=fields)
        document = {**found.document(), **{name: sent.get(name, document[name]) for name in _OUTCOME}, "run": sent}
    hidden = _Hidden(fields)
    document = hidden.document(document)
    answer(document, _text(document), as_json=as_json)
    if hidden.found:
        note("Note: the key contains a credential in plain text; hash it in the key_func.")
    if found.verdict == "NO-VIEW" or found.store_away is not None:
        raise click.exceptions.Exit(1)


def _fields(headers: Iterable[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise Failure("usage", "--header takes 'NAME: VALUE'.", exit_code=2)  # without the value: see _Hidden
        try:
            header.encode("latin-1")
        except UnicodeEncodeError:
            raise Failure("usage", f"The field {name.strip()!a} cannot be sent: latin-1 only.", exit_code=2) from None
        fields[name.strip()] = value.strip()
    return fields


# The request


def _sent(app: Flask, url: str, method: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """Send the request through the whole app, middleware included, and read what the answer says about the cache."""

    def send() -> dict[str, Any]:
        # Not the test client, which reads the host as IDNA.
        environ = EnvironBuilder(app, iri_to_uri(url), method=method, headers=dict(fields)).get_environ()
        try:
            body, status, headers = run_wsgi_app(app, environ, buffered=True)
        except Exception as error:  # noqa: BLE001  # an app in testing or debug mode lets it through
            return {"raised": type(error).__name__}
        for _ in body:
            pass
        shown = {name: headers[name] for name in _SHOWN if name in headers}
        cookies = len(headers.getlist("Set-Cookie"))
        return {"status": status, "headers": shown, "sets_cookies": cookies, **_reported(shown)}

    return in_new_context(send)


def _reported(headers: Mapping[str, str]) -> dict[str, Any]:
    """What the answer says about the cache.

    >>> _reported({"X-Cache": "MISS", "Cache-Status": "rcache; fwd=uri-miss; detail=SET-COOKIE"})["reason"]
    'SET-COOKIE'
    """
    members = [member.strip() for member in _MEMBER.findall(headers.get("Cache-Status", ""))]
    ours = [member for member in members if member.partition(";")[0].strip() == "rcache"]
    parameters = dict(_PARAMETER.findall(ours[-1])) if ours else {}
    reason: str | None = parameters.get("detail", "").strip('"') or None
    report: dict[str, Any] = {
        "verdict": headers.get("X-Cache", "NOT-DECORATED"),
        "was_stored": "stored" in parameters,
        "reason": reason,
        "because": "",
        "notes": [],
    }
    field = parameters.get("field", "").strip('"')
    if reason in _SENTENCES:
        report["because"] = _SENTENCES[reason]
    if reason == Reason.FIELD.value and field:
        report["because"] = f"The request has {field}, which the answer depends on and which may identify its caller."
        report["notes"] = [f"{remedy_for(field_of(field))}."]
    elif reason:
        pass
    elif "stored" in parameters:
        report["because"] = "The view was called, and its answer is stored."
    elif "collapsed" in parameters:
        report["because"] = "Another request was loading it, and this one got its answer."
    elif "hit" in parameters:
        report["because"] = "It was answered from the cache."
    elif not ours:
        report["because"] = "No decorated view answered."
    return report


# Printing


class _Hidden:
    """Takes the values of a request's credentials out of what the app made of them: keys and header lines."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        secrets: set[str] = set()
        for name, value in fields.items():
            if name.lower() == "cookie":
                secrets.update(part.partition("=")[2].strip() for part in value.split(";"))
                with suppress(UnicodeDecodeError):  # what is in it is not known
                    secrets.update(parse_cookie(value).values())
            elif name.lower() not in _PLAIN:
                secrets.update((value, value.partition(" ")[2].strip()))  # the second: after "Bearer"
        long_enough = [each for each in secrets if len(each) >= _SHORTEST_SECRET]
        self._secrets: Final = sorted(long_enough, key=len, reverse=True)
        self.found = False

    def document(self, document: dict[str, Any]) -> dict[str, Any]:
        """The same without them."""
        stored, run = document["stored"], document.get("run")
        document = {**document, "key": self._text(document["key"])}
        if stored is not None:
            document["stored"] = {**stored, "key": self._text(stored["key"])}
        if run is not None and "headers" in run:
            lines = {name: self._text(value) for name, value in run["headers"].items()}
            document["run"] = {**run, "headers": lines}
        return document

    def _text(self, text: str | None) -> str | None:
        for secret in self._secrets:
            if text is not None and secret in text:
                self.found, text = True, text.replace(secret, "***")
        return text


def _text(document: Mapping[str, Any]) -> str:
    run = document.get("run")
    rows = [("request", f"{document['method']} {document['url']}")]
    if document["endpoint"]:
        view = f" ({document['view']})" if document["view"] else ""
        rows.append(("view", document["endpoint"] + view))
    if document["type"]:
        rows += [("type", document["type"]), ("ttl", _ttl(document))]
    if document["key"]:
        rows.append(("key", document["key"]))
    rows.append(("verdict", _verdict(document)))
    if run is not None:
        rows += _run_rows(run)
    if document["view"]:
        rows.append(("stored now", _stored(document)))
    rows += [("note" if not at else "", each) for at, each in enumerate(document["notes"])]
    columns = (Column("", width=10), Column(""))
    return "\n".join(line(columns, row) for row in rows)


def _ttl(document: Mapping[str, Any]) -> str:
    ttl = document["ttl"]
    text = "from the response's headers" if isinstance(ttl, str) else seconds_text(ttl)
    return f"{text}, from {document['ttl_from']}"


def _verdict(report: Mapping[str, Any]) -> str:
    reason = f" {report['reason']}" if report["reason"] else ""
    return f"{report['verdict']}{reason}: {report['because']}".rstrip(": ")


def _run_rows(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "raised" in run:
        return [("answer", f"The app raised {run['raised']}; its log has more.")]
    rows = [("answer", run["status"])]
    rows += [("", f"{name}: {value}") for name, value in run["headers"].items()]
    if run["sets_cookies"]:
        rows.append(("", f"Set-Cookie: ({run['sets_cookies']}, not shown)"))
    return rows


def _stored(document: Mapping[str, Any]) -> str:
    if document["store_away"]:
        return f"not known, the store is unavailable: {document['store_away']}"
    stored = document["stored"]
    if stored is None:
        return "nothing"
    ttl = stored["ttl"]
    left = f"fresh for {seconds_text(ttl)}" if ttl > 0 else f"expired {seconds_text(-ttl)} ago"
    return f"{stored['status']}, {bytes_text(stored['size'])}, {seconds_text(stored['age'])} old, {left}"
