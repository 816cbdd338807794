"""HTTP caching as pure functions: headers in, verdicts out.

No flask, no redis, no I/O and no clock of its own. ``views`` carries the verdicts out.
"""

from __future__ import annotations

from .cache_status import Forward, cache_status
from .conditional import HIDDEN_FIELDS, SEND, Action, Outcome, evaluate, is_entity_tag, is_made_etag, make_etag
from .directives import MAX_DELTA_SECONDS, CacheControl, parse_cache_control, parse_delta_seconds
from .freshness import current_age, freshness_lifetime, parse_http_date
from .headers import Fields, HeaderLines, age_value, by_name, field_names, split_age, store_headers
from .nonce import repeats_nonce
from .reasons import Reason
from .requests import RequestFacts, credential_names, names_to_judge, request_facts, request_verdict
from .revalidation import freshened, validators
from .selection import (
    ADDRESS,
    BODY,
    QUIET_SESSION,
    TARGET,
    FieldRules,
    Selection,
    environ_field,
    field_of,
    is_field,
    is_neutral,
    is_own_field,
    may_have_body,
    session_identifies,
    session_value,
    shown_field,
    united,
)
from .storable import StorePolicy, Verdict, is_for_everyone, response_verdict
from .targeted import control_of
from .unsafe import Target, unsafe_targets
from .vary import STAR, environ_key, normalise_vary, variant_id

__all__ = [
    "ADDRESS",
    "BODY",
    "HIDDEN_FIELDS",
    "MAX_DELTA_SECONDS",
    "QUIET_SESSION",
    "SEND",
    "STAR",
    "TARGET",
    "Action",
    "CacheControl",
    "FieldRules",
    "Fields",
    "Forward",
    "HeaderLines",
    "Outcome",
    "Reason",
    "RequestFacts",
    "Selection",
    "StorePolicy",
    "Target",
    "Verdict",
    "age_value",
    "by_name",
    "cache_status",
    "control_of",
    "credential_names",
    "current_age",
    "environ_field",
    "environ_key",
    "evaluate",
    "field_names",
    "field_of",
    "freshened",
    "freshness_lifetime",
    "is_entity_tag",
    "is_field",
    "is_for_everyone",
    "is_made_etag",
    "is_neutral",
    "is_own_field",
    "make_etag",
    "may_have_body",
    "names_to_judge",
    "normalise_vary",
    "parse_cache_control",
    "parse_delta_seconds",
    "parse_http_date",
    "repeats_nonce",
    "request_facts",
    "request_verdict",
    "response_verdict",
    "session_identifies",
    "session_value",
    "shown_field",
    "split_age",
    "store_headers",
    "united",
    "unsafe_targets",
    "validators",
    "variant_id",
]
