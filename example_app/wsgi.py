"""The entry point for a WSGI server: `gunicorn -w 4 example_app.wsgi:app`."""

from example_app.app import create_app

app = create_app()
