"""The example: a flight operations board over a year of flights from New York, cached with flask_rcache."""

from example_app.app import create_app

__all__ = ["create_app"]
