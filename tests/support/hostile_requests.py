"""Bad requests as data: a description, the bytes, and the expected status. None of them may move money."""

from typing import NamedTuple

DEPOSIT = b"/accounts/0/deposit"
DECIMAL_BOMB = "1" + "0" * 400
LONG = b"x" * 70_000


class Hostile(NamedTuple):
    """One bad request."""

    what: str
    request: bytes
    status: int


def _post(
    body: bytes, *fields: bytes, path: bytes = DEPOSIT, content_type: bytes | None = b"application/json"
) -> bytes:
    named = [*fields, b"Content-Type: " + content_type] if content_type is not None else fields
    head = [b"POST " + path + b" HTTP/1.1", b"Host: localhost", b"Content-Length: %d" % len(body), *named]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def _raw(start: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([start, b"Host: localhost", *fields]) + b"\r\n\r\n" + body


_AMOUNTS = [
    # Valid JSON, but not amounts of money.
    "0", "-0", "0.0", "0e5", "-1", "-0.01", "0.001", "0.005", "10.255", "1e-3", "1e-400", "1e400", "-1e400",
    "1E+1000000", "1e999999999999", "1e-999999999999", DECIMAL_BOMB, "-" + DECIMAL_BOMB, f"0.{DECIMAL_BOMB}1",
    "10000000000000", "9999999999999.991", "1e13", "true", "false", "null", "[]", "[1]", "{}", '{"value": 1}',
    # Strings that resemble amounts.
    '""', '" "', '"NaN"', '"nan"', '"sNaN"', '"Infinity"', '"-Infinity"', '"inf"', '" 5"', '"5 "', '"+5"', '"-5"',
    '"0"', '"0.00"', '"1_000"', '"1,000"', '"1.000,00"', '"1e5"', '"1e400"', '"0x10"', '"0b1"', '"1.2.3"', '".5"',
    '"5."', '"--5"', '"5-"', '"$5"', '"5 EUR"', '"five"', '"true"', '"null"', '"5;DROP TABLE account"',
    '"\u0663"', '"\uff15"', '"\u00bd"', '"\u00b2"', '"5\u200b"', '"\\u0000"', '"5\\u0000"', '"\\n5"', '"5\\n"',
    '"\\ud800"', '"10.255"', '"10000000000000"', f'"{DECIMAL_BOMB}"', '"' + "9" * 8_000 + '"', "9" * 8_000,
    # Numbers in other languages, but not in JSON.
    "NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "--1", "1e", "1e+", "0x10", "1_000", "1,000", "'1'",
    "undefined", "1 2", "\u0661", "1;", "",
]  # fmt: skip

_BODIES = [
    b"", b" ", b"\n", b"null", b"1", b'"5"', b"true", b"[]", b'[{"amount": 1}]', b"{}",
    b'{"Amount": 1}', b'{"amount ": 1}', b'{"": 1}', b'{"amount": 1', b'"amount": 1}', b'{"amount": 1}}',
    b'{"amount": 1},', b'{"amount": 1}{"amount": 1}',
    b"{amount: 1}", b"{'amount': 1}", b'{"amount" 1}', b'{"amount"; 1}', b'{"amount": 1,}', b'{,"amount": 1}',
    b'{"amount": 1 "x": 2}', b'{"amount": 1} // money', b'/* money */ {"amount": 1}', b'{"amount": 1, "amount": 2}',
    b'{"amount": 1, "amount": 1}', b'{"amount": 1, "\\u0061mount": 2}', b"amount=1", b"<amount>1</amount>",
    b"amount: 1",
    b'{"amount": 1}\0', b"\0", b'\xef\xbb\xbf{"amount": 1}', '{"amount": 1}'.encode("utf-16"),
    '{"amount": 1}'.encode("utf-32"), b"\xff", b'{"amount": "\xff"}', b'{"\xc0\xaf": 1, "amount": 1}',
    b'{"x": "\xed\xa0\x80", "amount": 1}', b'{"x": "\n", "amount": 1}', b'{"x": "\\x41", "amount": 1}', b"[" * 8_000,
    b'{"a":' * 1_600, b'{"amount": ' + b"[" * 8_000, b'{"x": ' + b"[" * 4_000 + b"]" * 4_000 + b"}",
    b"\x1f\x8b\x08\x00",
]  # fmt: skip

_ACCOUNT_NUMBERS = [
    (b"%20", 422), (b"a%20b", 422), (b"0%0a", 422), (b"0%0d%0aX:%20y", 422), (b"%00", 422), (b"0%00", 422),
    (b"%D9%A0", 422), (b"%EF%BC%90", 422), (b"%ff", 422), (b"%C3%A9", 422), (b"0.", 422), (b"0;x=1", 422),
    (b"0,1", 422), (b"+0", 422), (b"0%2B1", 422), (b"'%20OR%201=1--", 422), (b"$0", 422), (b"0:1", 422), (b"~", 422),
    (b"x" * 65, 422), (b"x" * 900, 422), (b"x" * 5_000, 404),
    (b"2", 404), (b"01", 404), (b"00", 404), (b"-0", 404), (b"O", 404),
    (b"zero", 404), (b"x" * 64, 404), (b"0x0", 404), (b"0_", 404),
]  # fmt: skip

_OPENINGS = [
    (b'{"account_number": "0"}', 409), (b'{"account_number": "0", "balance": 1000}', 409),
    (b"", 422), (b"{}", 422), (b"null", 422), (b'["2"]', 422), (b'{"balance": 1}', 422),
    (b'{"account_number": 2}', 422),
    (b'{"account_number": null}', 422), (b'{"account_number": ""}', 422), (b'{"account_number": "a b"}', 422),
    (b'{"account_number": "2\\u0000"}', 422), (b'{"account_number": "\\ud800"}', 422),
    (b'{"account_number": "%s"}' % (b"x" * 65), 422), (b'{"account_number": "2", "account_number": "3"}', 422),
    (b'{"account_number": "2", "\\u0061ccount_number": "3"}', 422),
    (b'{"account_number": "2", "balance": 1, "balance": 2}', 422), (b'{"account_number": "2", "balance": null}', 422),
    (b'{"account_number": "2", "balance": ""}', 422), (b'{"account_number": "2", "balance": "NaN"}', 422),
    (b'{"account_number": "2", "balance": NaN}', 422), (b'{"account_number": "2", "balance": 1e400}', 422),
    (b'{"account_number": "2", "balance": -1e999999999999}', 422), (b'{"account_number": "2", "balance": 0.001}', 422),
    (b'{"account_number": "2", "balance": true}', 422), (b'{"account_number": "2", "balance": [1]}', 422),
    (b'{"account_number": "2", "balance": -10000000000000}', 422), (b'{"account_number": "2\xff"}', 422),
]  # fmt: skip

_LIMITS = [
    b"", b"{}", b"null", b'["0", "0"]', b'{"overdraft_limit": 0}', b'{"withdrawal_limit": 0}',
    *[
        b'{"overdraft_limit": %s, "withdrawal_limit": 0}' % limit
        for limit in (b"-1", b"-0.01", b"0.001", b"true", b"[]", b"{}", b"1e400", b"NaN", b"Infinity", b'"none"', b'""',
                      b'"-5"', b'"null"', b"10000000000000")
    ],
    b'{"overdraft_limit": 0, "overdraft_limit": 1, "withdrawal_limit": 0}',
    b'{"overdraft_limit": 0, "withdrawal_limit": 0, "\\u0077ithdrawal_limit": 1}',
    b'{"overdraft_limit": 0, "withdrawal_limit": 0, "note": ""}',
]  # fmt: skip

_NOTES = [
    b'""', b"5", b"true", b"[]", b'{"a": 1}', b'"a\\nb"', b'"a\\u0000"', b'"\\ud800"', b'"\\u202e"', b'"\\u2028"',
    b'"a\\u007f"', b'"a\nb"', b'"\xff"', b'"%s"' % (b"x" * 141), b'"a", "note": "b"',
]  # fmt: skip

_PAGES = [
    b"limit=0", b"limit=1001", b"limit=-1", b"limit=", b"limit", b"limit=x", b"limit=1.5", b"limit=1e2", b"limit=%00",
    b"limit=%ff", b"limit=1&limit=1", b"limit=" + b"9" * 5_000, b"before=0", b"before=-1", b"before=x",
    b"before=9007199254740992", b"after=-1", b"after=x", b"after=1&after=2", b"before=2&after=1",
]  # fmt: skip

_PATHS = [
    b"/account", b"/accounts/0/transfer", b"/accounts/0/deposits", b"/accounts/0/deposit/0",
    b"/ACCOUNTS/0/deposit", b"/accounts/0/Deposit", b"/account/0/deposit", b"/v1/accounts/0/deposit",
    b"/accounts/0/%64eposi",
    b"/accounts/0/deposit%00", b"/accounts/0/deposit%20", b"/accounts/0/deposit;x",
    b"/accounts/../accounts/0/deposit",
    b"/accounts/0/deposit/", b"//accounts/0/deposit", b"/accounts//0/deposit", b"/accounts/0%2Fdeposit",
    b"/accounts/0/deposit%2f",
    b"/.env", b"/../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"/admin", b"/deposit",
]  # fmt: skip

_METHODS = [
    (b"GET", DEPOSIT, 405), (b"PUT", DEPOSIT, 405), (b"PATCH", DEPOSIT, 405), (b"DELETE", DEPOSIT, 405),
    (b"HEAD", DEPOSIT, 405), (b"TRACE", DEPOSIT, 405), (b"DELETE", b"/accounts/0/balance", 405),
    (b"POST", b"/accounts/0/balance", 405), (b"POST", b"/", 405),
    (b"FOO", DEPOSIT, 400), (b"post", DEPOSIT, 400), (b"P\0ST", DEPOSIT, 400),
]  # fmt: skip

_CONTENT_TYPES = [
    b"text/plain", b"text/json", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"json",
    b"application/xml", b"application/jsonp", b"application/json/x", b"*/*", b"", b"\xff",
]  # fmt: skip

_KEYS = [
    b"Idempotency-Key:", b"Idempotency-Key: " + b"x" * 256, b"Idempotency-Key: " + b"x" * 5_000,
    b'Idempotency-Key: "',
    b'Idempotency-Key: "a', b'Idempotency-Key: "a"b', b'Idempotency-Key: ""', b'Idempotency-Key: "a\\b"',
    b"Idempotency-Key: \xe9", b"Idempotency-Key: \xff", b"Idempotency-Key: a\tb",
    b"Idempotency-Key: a\r\nIdempotency-Key: a",
    b"Idempotency-Key: a\r\nIdempotency-Key: b", b"Idempotency-Key: a\0b", b"Idempotency-Key: a\x7fb",
]  # fmt: skip

_BODY = b'{"amount": 1}'
_START = b"POST " + DEPOSIT + b" HTTP/1.1"
_FRAMING = [
    ("not HTTP", b"hello\r\n\r\n", 400),
    ("no version", b"POST " + DEPOSIT + b"\r\n\r\n", 400),
    ("an unknown version", _raw(b"POST " + DEPOSIT + b" HTTP/9.9", b"Content-Length: 13", body=_BODY), 400),
    ("no path", _raw(b"POST  HTTP/1.1", b"Content-Length: 13", body=_BODY), 400),
    ("a space in the path", _raw(b"POST /accounts/ 0/deposit HTTP/1.1", b"Content-Length: 13", body=_BODY), 400),
    ("a header without a colon", _raw(_START, b"X", b"Content-Length: 13", body=_BODY), 400),
    ("a header without a name", _raw(_START, b": x", b"Content-Length: 13", body=_BODY), 400),
    ("a space before the colon", _raw(_START, b"Content-Length : 13", body=_BODY), 400),
    ("NUL in a header", _raw(_START, b"X: a\0b", b"Content-Length: 13", body=_BODY), 400),
    ("a negative length", _raw(_START, b"Content-Length: -13", body=_BODY), 400),
    ("a length that is not a number", _raw(_START, b"Content-Length: thirteen", body=_BODY), 400),
    ("a hexadecimal length", _raw(_START, b"Content-Length: 0xd", body=_BODY), 400),
    ("a length with a sign", _raw(_START, b"Content-Length: +13", body=_BODY), 400),
    ("a length beyond 64 bits", _raw(_START, b"Content-Length: 99999999999999999999999", body=_BODY), 400),
    ("two lengths", _raw(_START, b"Content-Length: 13", b"Content-Length: 14", body=_BODY), 400),
    ("a length and chunks", _raw(_START, b"Content-Length: 13", b"Transfer-Encoding: chunked", body=_BODY), 400),
    ("an unknown coding", _raw(_START, b"Transfer-Encoding: gzip", body=_BODY), 400),
    ("a chunk without a length", _raw(_START, b"Transfer-Encoding: chunked", body=b"ZZ\r\n{}\r\n0\r\n\r\n"), 400),
    ("a chunk with too long a length", _raw(_START, b"Transfer-Encoding: chunked", body=b"f" * 17 + b"\r\n"), 400),
    ("no Host", _START + b"\r\nContent-Length: 13\r\n\r\n" + _BODY, 400),
    ("two Hosts", _raw(_START, b"Host: localhost", b"Content-Length: 13", body=_BODY), 400),
    ("a foreign Host", _START + b"\r\nHost: evil.example\r\nContent-Length: 13\r\n\r\n" + _BODY, 400),
    ("a malformed Host", _START + b"\r\nHost: a b\r\nContent-Length: 13\r\n\r\n" + _BODY, 400),
    ("a field of 70 KB", _raw(_START, b"X: " + LONG, b"Content-Length: 13", body=_BODY), 431),
    ("a name of 70 KB", _raw(_START, LONG + b": x", b"Content-Length: 13", body=_BODY), 431),
    ("a path of 70 KB", _raw(b"POST /" + LONG + b" HTTP/1.1", b"Content-Length: 13", body=_BODY), 431),
    ("a thousand fields", _raw(_START, *[b"X: x"] * 1_000, b"Content-Length: 13", body=_BODY), 431),
    ("a body of 8 KiB and a byte", _post(_BODY.ljust(8 * 1024 + 1)), 413),
    ("a length without its body", _raw(_START, b"Content-Length: 8193"), 413),
    ("a body of 1 MB", _post(_BODY.ljust(1_000_000)), 413),
    ("chunks of 70 KB", _raw(_START, b"Transfer-Encoding: chunked", body=b"11170\r\n" + LONG + b"\r\n0\r\n\r\n"), 413),
    ("a page of another site", _post(_BODY, b"Sec-Fetch-Site: cross-site"), 403),
    ("a page of a sibling site", _post(_BODY, b"Sec-Fetch-Site: same-site"), 403),
    ("a page of another origin", _post(_BODY, b"Origin: https://evil.example", content_type=None), 403),
    ("a page without an origin", _post(_BODY, b"Origin: null", content_type=b"text/plain"), 403),
]

HOSTILE = [
    *[Hostile(f"amount {token[:40]!a}", _post(b'{"amount": %s}' % token.encode()), 422) for token in _AMOUNTS],
    *[Hostile(f"body {body[:40]!r} of {len(body)}", _post(body), 422) for body in _BODIES],
    *[
        Hostile(
            f"account {number[:40]!r} of {len(number)}", _post(_BODY, path=b"/accounts/" + number + b"/deposit"), status
        )
        for number, status in _ACCOUNT_NUMBERS
    ],
    *[
        Hostile(f"opening {body[:50]!r} of {len(body)}", _post(body, path=b"/accounts"), status)
        for body, status in _OPENINGS
    ],
    *[
        Hostile(f"limits {body[:60]!r}", _post(body, path=b"/accounts/0/limits").replace(b"POST", b"PUT", 1), 422)
        for body in _LIMITS
    ],
    *[
        Hostile(
            f"note {note[:40]!r} of {call.decode()}",
            _post(b'{"amount": 1, "note": %s}' % note, path=b"/accounts/0/" + call),
            422,
        )
        for note in _NOTES
        for call in (b"deposit", b"close")
    ],
    *[
        Hostile(f"page {query[:40]!r}", _raw(b"GET /accounts/0/history?" + query + b" HTTP/1.1"), 422)
        for query in _PAGES
    ],
    Hostile("closing an account with a balance", _raw(b"POST /accounts/0/close HTTP/1.1"), 409),
    Hostile("reopening an open account", _raw(b"POST /accounts/0/reopen HTTP/1.1"), 409),
    Hostile(
        "an opening by a page of another site",
        _post(b'{"account_number": "2"}', b"Origin: null", path=b"/accounts"),
        403,
    ),
    *[Hostile(f"path {path!r}", _post(_BODY, path=path), 404) for path in _PATHS],
    *[
        Hostile(f"method {method!r} {path!r}", _raw(method + b" " + path + b" HTTP/1.1"), status)
        for method, path, status in _METHODS
    ],
    *[Hostile(f"type {name!r}", _post(_BODY, content_type=name), 415) for name in _CONTENT_TYPES],
    *[Hostile(f"key {key[:40]!r} of {len(key)}", _post(_BODY, key), 400) for key in _KEYS],
    *[Hostile(what, request, status) for what, request, status in _FRAMING],
]
