"""The public HTTP cache test suite (https://cache-tests.fyi), run against a gateway that is a decorated view."""
