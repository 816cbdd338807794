"""An application whose workers count together: `tests.metrics.apps:create_app()`, in Prometheus' multiprocess mode."""

from __future__ import annotations

import os

from flask import Flask, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from flask_rcache import CacheType, RCache, cache_response
from flask_rcache.metrics.prometheus import instrument


def create_app() -> Flask:
    """Make the application; the store and the directory of the metrics come from the environment."""
    app = Flask(__name__)
    app.config.update(RCACHE_TIMEOUT=5, TRUSTED_HOSTS=["127.0.0.1"])
    RCache(app)
    instrument(app.extensions["rcache"])

    @app.get("/page/<int:number>")
    @cache_response(CacheType.DASHBOARD)
    def page(number: int) -> str:
        return f"page {number}"

    @app.after_request
    def sign(response: Response) -> Response:
        response.headers["X-Worker"] = str(os.getpid())
        return response

    @app.get("/metrics")
    def metrics() -> Response:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return Response(generate_latest(registry), mimetype="text/plain")

    return app
