"""Calls one function in four ways, in turn, and prints the median of each in milliseconds: `boto.py PORT COUNT`.

invoke: boto3's `invoke`. signed: a request to `/functions/…` that botocore makes, signs, sends and whose JSON it reads.
bare: the same sent by botocore's HTTP session and nothing else. plain: so sent to Lambda's path.
"""

import json
import socket
import statistics
import sys
import time

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.httpsession

port, count = int(sys.argv[1]), int(sys.argv[2])
base = f"http://127.0.0.1:{port}"
client = boto3.client(
    "lambda", endpoint_url=base, region_name="us-east-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret"
)
# Without it head and body of a request wait for each other; boto3 itself sets it.
session = botocore.httpsession.URLLib3Session(socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
credentials = botocore.credentials.Credentials("AKIDEXAMPLE", "secret")
event = json.dumps({"n": 1}).encode()


def request(signed, path="/functions/isolate"):
    asked = botocore.awsrequest.AWSRequest("POST", f"{base}{path}", {"content-type": "application/json"}, event)
    if signed:
        botocore.auth.SigV4Auth(credentials, "lambda", "us-east-1").add_auth(asked)
    return session.send(asked.prepare())


def invoke():
    assert json.load(client.invoke(FunctionName="isolate", Payload=event)["Payload"]) == {"n": 1}


def signed():
    json.loads(request(True).content)


def bare():
    assert request(False).status_code == 200


def plain():
    assert request(False, "/2015-03-31/functions/isolate/invocations").status_code == 200


ways = {"invoke": invoke, "signed": signed, "bare": bare, "plain": plain}
took = {name: [] for name in ways}
for turn in range(count):
    for name, way in ways.items():
        begun = time.perf_counter()
        way()
        if turn >= count // 10:
            took[name].append((time.perf_counter() - begun) * 1000)
for name, values in took.items():
    print(name, f"{statistics.median(values):.4f}")
