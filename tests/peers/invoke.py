"""Calls operations of AWS Lambda with unmodified boto3: a list of calls as JSON on stdin, what came of each on stdout.

A call is the operation's own arguments, and besides them:
  call      the operation's name, `invoke` unless said
  at        seconds by which the clock of the signature is wrong
  touch     a file that is made when the first piece of a stream has come
"""
import base64
import datetime
import json
import pathlib
import sys

import boto3
import botocore.auth
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError


def said(value):
    return value.decode() if isinstance(value, bytes) else value


def tail(encoded):
    return base64.b64decode(encoded).decode(errors="replace")


def whole(answer):
    out = {key: answer[key] for key in ("StatusCode", "FunctionError", "ExecutedVersion") if key in answer}
    out["RequestId"] = answer["ResponseMetadata"].get("RequestId")
    if "Payload" in answer:
        out["Payload"] = said(answer["Payload"].read())
    if "LogResult" in answer:
        out["LogResult"] = tail(answer["LogResult"])
    return out


def streamed(answer, touch):
    out = {"pieces": [], "RequestId": answer["ResponseMetadata"].get("RequestId")}
    for event in answer["EventStream"]:
        if "PayloadChunk" in event:
            out["pieces"].append(said(event["PayloadChunk"]["Payload"]))
            if touch:
                pathlib.Path(touch).touch()
        else:
            out.update(event["InvokeComplete"])
    if "LogResult" in out:
        out["LogResult"] = tail(out["LogResult"])
    return out


def call(client, asked):
    operation = asked.pop("call", "invoke")
    skew = datetime.timedelta(seconds=asked.pop("at", 0))
    touch = asked.pop("touch", None)
    if "ClientContext" in asked:
        asked["ClientContext"] = base64.b64encode(asked["ClientContext"].encode()).decode()
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    botocore.auth.get_current_datetime = lambda remove_tzinfo=True: now + skew
    try:
        answer = getattr(client, operation)(**asked)
        if operation == "invoke":
            return whole(answer)
        if "EventStream" in answer:
            return streamed(answer, touch)
        return json.loads(json.dumps(answer, default=str))
    except (ClientError, EventStreamError) as error:
        found = error.response["Error"]
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return {"error": found["Code"], "message": found["Message"], "status": status}


def main():
    endpoint, key, secret, region = sys.argv[1:5]
    client = boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
    )
    print(json.dumps([call(client, asked) for asked in json.load(sys.stdin)]))


main()
