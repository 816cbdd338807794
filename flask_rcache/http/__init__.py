"""HTTP caching as pure functions: headers in, verdicts out.

No flask, no redis, no I/O and no clock of its own. ``views`` carries the verdicts out.
"""

from __future__ import annotations

from .cache_status import Forward, cache_status
from .conditional import HIDDEN_FIELDS, SEND, Action, Outcome, evaluate, is_made_etag, make_etag
from .directives import MAX_DELTA_SECONDS, CacheControl, parse_cache_control, parse_delta_seconds
from .freshness import current_age, freshness_lifetime, parse_http_date
from .headers import Fields, HeaderLines, age_value, by_name, split_age, store_headers
from .reasons import Reason, reasons_table
from .requests import RequestFacts, credential_names, names_to_judge, request_facts, request_verdict
from .storable import StorePolicy, Verdict, response_verdict
from .unsafe import Target, unsafe_targets
from .vary import STAR, normalise_vary, variant_id

__all__ = [
    "HIDDEN_FIELDS",
    "MAX_DELTA_SECONDS",
    "SEND",
    "STAR",
    "Action",
    "CacheControl",
    "Fields",
    "Forward",
    "HeaderLines",
    "Outcome",
    "Reason",
    "RequestFacts",
    "StorePolicy",
    "Target",
    "Verdict",
    "age_value",
    "by_name",
    "cache_status",
    "credential_names",
    "current_age",
    "evaluate",
    "freshness_lifetime",
    "is_made_etag",
    "make_etag",
    "names_to_judge",
    "normalise_vary",
    "parse_cache_control",
    "parse_delta_seconds",
    "parse_http_date",
    "reasons_table",
    "request_facts",
    "request_verdict",
    "response_verdict",
    "split_age",
    "store_headers",
    "unsafe_targets",
    "variant_id",
]
