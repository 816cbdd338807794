"""Other libraries' interfaces, on this engine: for apps that move over.

Owns what Flask-Caching and cachelib promise: ``compat.flask_caching`` and ``compat.cachelib`` look like those modules.
No other part of the package knows of them.
"""
