"""Answers /functions/hello and /hello/ANN, and events: `bungee invoke hello --data '{}'`."""

import os


def handler(event, context):
    name = (event.get("pathParameters") or {}).get("name", "World")
    print("greeting", name)
    return {"message": f"{os.environ['GREETING']}, {name}!"}
