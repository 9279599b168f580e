"""The part of curl that the documentation's examples use, for machines without it."""

import sys
from argparse import ArgumentParser
from http.client import HTTPConnection
from urllib.parse import urlsplit


def main() -> None:
    """Send the request of the command line, and print the response's body."""
    parser = ArgumentParser(allow_abbrev=False)
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d")
    parser.add_argument("-w", default="")
    parser.add_argument("-X")
    parser.add_argument("url")
    options = parser.parse_args()
    address = urlsplit(options.url)
    fields = {"host": address.netloc, "accept": "*/*"}
    if options.d is not None:
        fields |= {"content-type": "application/x-www-form-urlencoded", "content-length": str(len(options.d))}
    for field in options.H:
        name, _, value = field.partition(":")
        fields.pop(name.lower(), None)
        if value:  # an empty value removes the field, as in curl
            fields[name.lower()] = value.strip()

    connection = HTTPConnection(address.netloc)
    target = address.path + (f"?{address.query}" if address.query else "")
    method = options.X or ("GET" if options.d is None else "POST")
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in fields.items():
        connection.putheader(name, value)
    connection.endheaders(None if options.d is None else options.d.encode())
    response = connection.getresponse()
    sys.stdout.write(response.read().decode())
    sys.stdout.write(options.w.replace("%{http_code}", str(response.status)).replace(r"\n", "\n"))


if __name__ == "__main__":
    main()
