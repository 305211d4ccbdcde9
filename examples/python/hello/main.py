"""An event handler, as Lambda has it: /functions/hello, /hello/ANN, or `bungee invoke hello`."""

import os


def handler(event, context):
    name = (event.get("pathParameters") or {}).get("name", "World")
    print("greeting", name)
    return {"message": f"{os.environ['GREETING']}, {name}!"}
