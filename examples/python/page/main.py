"""A WSGI application, without any package."""

from html import escape
from urllib.parse import parse_qs


def app(environ, start_response):
    name = parse_qs(environ["QUERY_STRING"]).get("name", ["World"])[0]
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    yield b"<!doctype html>\n"
    yield f"<p>Hello, {escape(name)}!</p>\n".encode()
