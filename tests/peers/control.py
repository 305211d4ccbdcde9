"""Stories of AWS Lambda's control plane, told by unmodified boto3: `control.py URL STORY`; a story that is not true ends with 1."""
import base64
import hashlib
import io
import json
import os
import pathlib
import stat
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

URL = sys.argv[1]
ROLE = "arn:aws:iam::000000000000:role/anybody"
ARN = "arn:aws:lambda:us-east-1:000000000000"
c = boto3.client(
    "lambda",
    endpoint_url=URL,
    region_name="us-east-1",
    aws_access_key_id="anybody",
    aws_secret_access_key="anything",
    config=Config(retries={"max_attempts": 1}, max_pool_connections=4),
)


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


def says(text):
    return zipped({"index.js": f"exports.handler = async event => ({{said: {json.dumps(text)}, word: process.env.WORD, event}})"})


def make(name="cart", code=None, **more):
    asked = {"Runtime": "nodejs22.x", "Role": ROLE, "Handler": "index.handler", **more}
    return c.create_function(FunctionName=name, Code={"ZipFile": code or says("one")}, **asked)


def call(name="cart", event=None, alias=None):
    path = f"{URL}/v1/projects/default/functions/{name}/invoke" + (f"?alias={alias}" if alias else "")
    with urllib.request.urlopen(urllib.request.Request(path, json.dumps(event).encode())) as answer:
        return json.load(answer)


def result(*asked, **more):
    invoked = call(*asked, **more)
    assert invoked["outcome"] == "ok", invoked
    return invoked["result"]


def refused(kind, status, words, work, *asked, **more):
    try:
        answer = work(*asked, **more)
    except ClientError as error:
        found = error.response
        assert found["Error"]["Code"] == kind, found
        assert found["ResponseMetadata"]["HTTPStatusCode"] == status, found
        assert words in found["Error"]["Message"], found
        assert found["ResponseMetadata"]["RequestId"], found
        return
    raise AssertionError(f"{work.__name__} was done: {answer}")


def one_function_from_birth_to_death():
    code = says("one")
    made = make(code=code, Environment={"Variables": {"WORD": "first"}}, Tags={"team": "a"}, Description="a cart")
    assert made["FunctionArn"] == f"{ARN}:function:cart" and made["Version"] == "$LATEST", made
    assert (made["Timeout"], made["MemorySize"], made["CodeSize"]) == (3, 128, len(code)), made
    assert made["CodeSha256"] == base64.b64encode(hashlib.sha256(code).digest()).decode(), made
    c.get_waiter("function_active_v2").wait(FunctionName="cart")
    assert result(event={"n": 1}) == {"said": "one", "word": "first", "event": {"n": 1}}
    for name in ("cart", f"{ARN}:function:cart", "000000000000:function:cart", "cart:$LATEST"):
        found = c.get_function(FunctionName=name)
        assert found["Tags"] == {"team": "a"}, found
        assert urllib.request.urlopen(found["Code"]["Location"]).read() == code
    changed = c.update_function_code(FunctionName="cart", ZipFile=zipped({"lib/index.mjs": "export const run = async () => 'two'", "index.js": "exports.handler = () => 'x'"}))
    assert changed["LastUpdateStatus"] == "Successful" and changed["RevisionId"] != made["RevisionId"], changed
    c.get_waiter("function_updated_v2").wait(FunctionName="cart")
    changed = c.update_function_configuration(FunctionName="cart", Handler="lib/index.run", Timeout=7, MemorySize=256, Environment={"Variables": {}})
    assert (changed["Timeout"], changed["MemorySize"], changed["Handler"]) == (7, 256, "lib/index.run"), changed
    assert "Environment" not in changed and changed["Description"] == "a cart", changed
    assert result() == "two"
    for name in ("twin", "other"):
        make(name=name, code=code)
    c.delete_function(FunctionName="other")
    assert urllib.request.urlopen(c.get_function(FunctionName="twin")["Code"]["Location"]).read() == code
    assert [f["FunctionName"] for f in c.list_functions()["Functions"]] == ["cart", "twin"]
    for name in ("cart", "twin"):
        c.delete_function(FunctionName=name)
    refused("ResourceNotFoundException", 404, f"Function not found: {ARN}:function:cart", c.get_function, FunctionName="cart")
    assert c.list_functions()["Functions"] == []


def published_numbers():
    make(Environment={"Variables": {"WORD": "a"}})
    first = c.publish_version(FunctionName="cart", Description="the first")
    assert (first["Version"], first["FunctionArn"]) == ("1", f"{ARN}:function:cart:1"), first
    again = c.publish_version(FunctionName="cart", Description="other words")
    assert (again["Version"], again["Description"]) == ("1", "the first"), again
    second = c.update_function_code(FunctionName="cart", ZipFile=says("two"), Publish=True)
    assert second["Version"] == "2", second
    c.update_function_configuration(FunctionName="cart", Description="new words")
    refused("InvalidParameterValueException", 400, "is different from current CodeSHA256", c.publish_version, FunctionName="cart", CodeSha256="x")
    assert c.publish_version(FunctionName="cart")["Version"] == "3"
    listed = c.list_versions_by_function(FunctionName="cart")["Versions"]
    assert [v["Version"] for v in listed] == ["$LATEST", "1", "2", "3"], listed
    pages = c.get_paginator("list_versions_by_function").paginate(FunctionName="cart", PaginationConfig={"PageSize": 1})
    assert [v["Version"] for page in pages for v in page["Versions"]] == ["$LATEST", "1", "2", "3"]
    old = c.get_function_configuration(FunctionName="cart", Qualifier="1")
    assert old["Description"] == "the first" and old["CodeSha256"] != second["CodeSha256"], old
    c.create_alias(FunctionName="cart", Name="PROD", FunctionVersion="1")
    refused("ResourceConflictException", 409, "aliases reference it: [PROD]", c.delete_function, FunctionName="cart", Qualifier="1")
    refused("InvalidParameterValueException", 400, "$LATEST version cannot be deleted", c.delete_function, FunctionName="cart", Qualifier="$LATEST")
    c.delete_function(FunctionName="cart", Qualifier="3")
    c.update_function_configuration(FunctionName="cart", Timeout=9)
    assert c.publish_version(FunctionName="cart")["Version"] == "4", "a number is never given twice"
    refused("ResourceNotFoundException", 404, f"{ARN}:function:cart:3", c.get_function, FunctionName="cart:3")


def aliases():
    make()
    c.publish_version(FunctionName="cart")
    c.update_function_code(FunctionName="cart", ZipFile=says("two"), Publish=True)
    prod = c.create_alias(FunctionName="cart", Name="PROD", FunctionVersion="1", Description="what customers meet")
    assert prod["AliasArn"] == f"{ARN}:function:cart:PROD", prod
    assert result(alias="PROD")["said"] == "one" and result()["said"] == "two"
    shared = c.update_alias(FunctionName="cart", Name="PROD", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
    assert shared["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.5}}, shared
    assert shared["FunctionVersion"] == "1" and shared["Description"] == "what customers meet", shared
    assert {result(alias="PROD")["said"] for _ in range(40)} == {"one", "two"}
    refused("PreconditionFailedException", 412, "The Revision Id provided", c.update_alias, FunctionName="cart", Name="PROD", RevisionId=prod["RevisionId"])
    moved = c.update_alias(FunctionName="cart", Name="PROD", FunctionVersion="2", RoutingConfig={}, RevisionId=shared["RevisionId"])
    assert moved["FunctionVersion"] == "2" and "RoutingConfig" not in moved, moved
    c.create_alias(FunctionName="cart", Name="dev", FunctionVersion="$LATEST")
    c.update_function_code(FunctionName="cart", ZipFile=says("three"))
    assert result(alias="dev")["said"] == "three" and result(alias="PROD")["said"] == "two"
    found = c.list_aliases(FunctionName="cart")["Aliases"]
    assert [(a["Name"], a["FunctionVersion"]) for a in found] == [("PROD", "2"), ("dev", "$LATEST")], found
    assert [a["Name"] for a in c.list_aliases(FunctionName="cart", FunctionVersion="2")["Aliases"]] == ["PROD"]
    refused("ResourceConflictException", 409, "Alias already exists", c.create_alias, FunctionName="cart", Name="dev", FunctionVersion="1")
    refused("ResourceNotFoundException", 404, "function:cart:9", c.create_alias, FunctionName="cart", Name="x", FunctionVersion="9")
    refused("InvalidParameterValueException", 400, "no whole percent", c.update_alias, FunctionName="cart", Name="PROD", RoutingConfig={"AdditionalVersionWeights": {"1": 0.005}})
    refused("InvalidParameterValueException", 400, "$LATEST is not supported", c.update_alias, FunctionName="cart", Name="dev", RoutingConfig={"AdditionalVersionWeights": {"1": 0.1}})
    refused("ResourceNotFoundException", 404, "function:cart:nowhere", c.get_function, FunctionName="cart", Qualifier="nowhere")
    c.delete_alias(FunctionName="cart", Name="dev")
    refused("ResourceNotFoundException", 404, "Cannot find alias", c.get_alias, FunctionName="cart", Name="dev")


def layers():
    first = c.publish_layer_version(LayerName="tools", Content={"ZipFile": zipped({"nodejs/a.js": "1"})}, CompatibleRuntimes=["nodejs22.x"], Description="ours")
    assert first["LayerVersionArn"] == f"{ARN}:layer:tools:1" and first["Version"] == 1, first
    assert zipfile.ZipFile(io.BytesIO(urllib.request.urlopen(first["Content"]["Location"]).read())).namelist() == ["nodejs/a.js"]
    second = c.publish_layer_version(LayerName="tools", Content={"ZipFile": zipped({"nodejs/a.js": "2"})})
    made = make(Layers=[first["LayerVersionArn"]])
    assert made["Layers"] == [{"Arn": first["LayerVersionArn"], "CodeSize": first["Content"]["CodeSize"]}], made
    refused("InvalidParameterValueException", 400, "Two different versions of the same layer", c.update_function_configuration, FunctionName="cart", Layers=[first["LayerVersionArn"], second["LayerVersionArn"]])
    refused("InvalidParameterValueException", 400, "tools:9 does not exist", c.update_function_configuration, FunctionName="cart", Layers=[f"{ARN}:layer:tools:9"])
    assert c.get_layer_version_by_arn(Arn=second["LayerVersionArn"])["Version"] == 2
    assert [v["Version"] for v in c.list_layer_versions(LayerName="tools")["LayerVersions"]] == [2, 1]
    assert [v["Version"] for v in c.list_layer_versions(LayerName="tools", CompatibleRuntime="nodejs22.x")["LayerVersions"]] == [1]
    assert [x["LatestMatchingVersion"]["Version"] for x in c.list_layers()["Layers"]] == [2]
    c.delete_layer_version(LayerName="tools", VersionNumber=2)
    refused("ResourceNotFoundException", 404, "tools:2 does not exist", c.get_layer_version, LayerName="tools", VersionNumber=2)
    third = c.publish_layer_version(LayerName="tools", Content={"ZipFile": zipped({"b": "3"})})
    assert third["Version"] == 3, third
    c.delete_layer_version(LayerName="tools", VersionNumber=1)
    assert c.update_function_configuration(FunctionName="cart", Timeout=5)["Layers"][0]["Arn"] == first["LayerVersionArn"]
    assert "Layers" not in c.update_function_configuration(FunctionName="cart", Layers=[])


def executable(files):
    """The same as `zipped`, with every file executable."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(info, text)
    return out.getvalue()


BOOTSTRAP = r"""#!/bin/bash
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
while true; do
  head=$(mktemp)
  curl -sS -D "$head" -o /dev/null "$api/invocation/next"
  id=$(tr -d '\r' < "$head" | sed -n 's/^[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: //p')
  curl -sS -o /dev/null -d "\"$(cat /opt/data.txt), $_HANDLER\"" "$api/invocation/$id/response"
done
"""


def every_language_and_its_layers():
    parts = [
        {"data.txt": "below"},
        {"data.txt": "above", "python/words.py": "WORD = 'of the layer'", "nodejs/node_modules/words/index.js": "exports.word = 'of the layer'"},
        {"bin/tool": "#!/bin/sh\necho a tool"},
    ]
    arns = [
        c.publish_layer_version(LayerName=f"l{n}", Content={"ZipFile": executable(files)})["LayerVersionArn"]
        for n, files in enumerate(parts)
    ]
    source = "import words, subprocess\ndef go(event, context):\n return [words.WORD, open('/opt/data.txt').read(), subprocess.check_output('tool', text=True), context.memory_limit_in_mb]"
    make("py", zipped({"app.py": source}), Runtime="python3.12", Handler="app.go", Layers=arns)
    assert result("py") == ["of the layer", "above", "a tool\n", "128"], result("py")
    make("shell", executable({"bootstrap": BOOTSTRAP}), Runtime="provided.al2023", Handler="any.thing", Layers=arns)
    assert result("shell") == "above, any.thing", result("shell")
    lines = "const fs = require('fs'); exports.handler = async () => [require('words').word, fs.readFileSync('/opt/data.txt', 'utf8')]"
    make("js", zipped({"index.js": lines}), Layers=arns)
    assert result("js") == ["of the layer", "above"], result("js")
    # A runtime that comes in a layer.
    runtime = c.publish_layer_version(LayerName="runtime", Content={"ZipFile": executable({"bootstrap": BOOTSTRAP, "data.txt": "own"})})
    make("layered", zipped({"code.txt": "x"}), Runtime="provided.al2023", Handler="x", Layers=[runtime["LayerVersionArn"]])
    assert result("layered") == "own, x", result("layered")


def status(path):
    try:
        with urllib.request.urlopen(path) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def urls_and_concurrency():
    make()
    made = c.create_function_url_config(FunctionName="cart", AuthType="NONE")
    assert made["FunctionUrl"] == f"{URL}/functions/cart/" and made["AuthType"] == "NONE", made
    with urllib.request.urlopen(made["FunctionUrl"]) as answer:
        assert json.load(answer)["event"]["version"] == "2.0"
    refused("ResourceConflictException", 409, "FunctionUrlConfig exists", c.create_function_url_config, FunctionName="cart", AuthType="NONE")
    refused("InvalidParameterValueException", 400, "Cors is not served here", c.update_function_url_config, FunctionName="cart", Cors={"AllowOrigins": ["*"]})
    refused("InvalidParameterValueException", 400, "leads to $LATEST here", c.get_function_url_config, FunctionName="cart", Qualifier="PROD")
    changed = c.update_function_url_config(FunctionName="cart", AuthType="AWS_IAM", InvokeMode="RESPONSE_STREAM")
    assert (changed["AuthType"], changed["InvokeMode"]) == ("AWS_IAM", "RESPONSE_STREAM"), changed
    assert len(c.list_function_url_configs(FunctionName="cart")["FunctionUrlConfigs"]) == 1
    c.delete_function_url_config(FunctionName="cart")
    refused("ResourceNotFoundException", 404, "does not exist", c.get_function_url_config, FunctionName="cart")
    assert c.put_function_concurrency(FunctionName="cart", ReservedConcurrentExecutions=0)["ReservedConcurrentExecutions"] == 0
    assert c.get_function(FunctionName="cart")["Concurrency"] == {"ReservedConcurrentExecutions": 0}
    assert status(made["FunctionUrl"]) == 429
    c.put_function_concurrency(FunctionName="cart", ReservedConcurrentExecutions=2)
    assert c.get_function_concurrency(FunctionName="cart")["ReservedConcurrentExecutions"] == 2
    assert status(made["FunctionUrl"]) == 200
    c.delete_function_concurrency(FunctionName="cart")
    assert "ReservedConcurrentExecutions" not in c.get_function_concurrency(FunctionName="cart")


def tags():
    arn = make(Tags={"team": "a"})["FunctionArn"]
    c.tag_resource(Resource=arn, Tags={"a b": "c&d=é", "x": ""})
    c.untag_resource(Resource=arn, TagKeys=["team", "x"])
    assert c.list_tags(Resource=arn)["Tags"] == {"a b": "c&d=é"}
    refused("InvalidParameterValueException", 400, "'aws:x' cannot be", c.tag_resource, Resource=arn, Tags={"aws:x": "1"})
    refused("InvalidParameterValueException", 400, "at most 50 tags", c.tag_resource, Resource=arn, Tags={f"t{n}": "" for n in range(50)})


def a_change_at_a_time():
    make(Runtime="bun")
    before = c.get_function_configuration(FunctionName="cart")
    result()
    go = pathlib.Path(tempfile.mkdtemp()) / "go"
    waits = f"while (!existsSync({json.dumps(str(go))})) await Bun.sleep(10)"
    slow = zipped({"index.js": f"import {{ existsSync }} from 'node:fs'; {waits}; export const handler = () => 'slow'"})
    ended = []
    change = threading.Thread(target=lambda: ended.append(c.update_function_code(FunctionName="cart", ZipFile=slow)))
    change.start()
    seen = before
    while seen["LastUpdateStatus"] != "InProgress":
        assert not ended, "the change ended unseen"
        seen = c.get_function_configuration(FunctionName="cart")
    assert seen["CodeSha256"] == before["CodeSha256"] and seen["State"] == "Active", seen
    refused("ResourceConflictException", 409, f"An update is in progress for resource: {ARN}:function:cart", c.update_function_configuration, FunctionName="cart", Timeout=9)
    assert result()["said"] == "one", "calls meet what was there until then"
    go.touch()
    change.join()
    assert ended[0]["LastUpdateStatus"] == "Successful" and result() == "slow", ended
    refused("PreconditionFailedException", 412, "The Revision Id provided does not match", c.update_function_code, FunctionName="cart", ZipFile=slow, RevisionId=before["RevisionId"])
    now = c.get_function_configuration(FunctionName="cart")
    same = c.update_function_configuration(FunctionName="cart", Timeout=9, RevisionId=now["RevisionId"])
    assert same["Timeout"] == 9 and same["RevisionId"] != now["RevisionId"], same


def a_change_that_does_not_run():
    make(Runtime="bun")
    before = c.get_function_configuration(FunctionName="cart")
    result()
    failed = c.update_function_code(FunctionName="cart", ZipFile=zipped({"index.js": "throw new Error('no key')"}), Publish=True)
    assert (failed["LastUpdateStatus"], failed["LastUpdateStatusReasonCode"]) == ("Failed", "FunctionError.RuntimeInitError"), failed
    assert "no key" in failed["LastUpdateStatusReason"] and failed["Version"] == "$LATEST", failed
    assert failed["CodeSha256"] == before["CodeSha256"] and result()["said"] == "one", failed
    mended = c.update_function_code(FunctionName="cart", ZipFile=says("mended"))
    assert mended["LastUpdateStatus"] == "Successful" and result()["said"] == "mended", mended
    dry = c.update_function_code(FunctionName="cart", ZipFile=says("dry"), DryRun=True)
    assert dry["CodeSha256"] != mended["CodeSha256"] and dry["RevisionId"] == mended["RevisionId"], dry
    assert result()["said"] == "mended"


def bomb():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            with archive.open(f"{number}", "w") as entry:
                for _ in range(60):
                    entry.write(bytes(1 << 20))
    return out.getvalue()


def linked():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("index.js")
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


def what_is_refused():
    bad = lambda words, code=None, **more: refused("InvalidParameterValueException", 400, words, make, code=code, **more)
    bad("Unzipped size must be smaller than 262144000 bytes", bomb())
    bad("a symbolic link", linked())
    bad("leaves it", zipped({"../x": "1", "index.js": ""}))
    bad("Could not unzip uploaded file", b"PK, but not really")
    bad("holds no other.js, other.mjs, other.cjs", Handler="other.handler")
    bad("names no module and export", Handler="index")
    bad("Value java21 at 'runtime' failed to satisfy constraint", Runtime="java21")
    bad("PackageType Image is not served here", PackageType="Image")
    bad("cannot run here", Architectures=["arm64" if os.uname().machine == "x86_64" else "x86_64"])
    bad("VpcConfig is not served here", VpcConfig={"SubnetIds": ["subnet-1"]})
    bad("Reserved keys used in this request: AWS_REGION", Environment={"Variables": {"AWS_REGION": "x"}})
    bad("exceeded the 4KB limit. String measured: {", Environment={"Variables": {"LONG": "x" * 4090}})
    bad("is a name that the server sets itself", Environment={"Variables": {"HOME": "x"}})
    refused("InvalidParameterValueException", 400, "there is no S3", c.create_function, FunctionName="cart", Role=ROLE, Runtime="nodejs22.x", Handler="index.handler", Code={"S3Bucket": "abc", "S3Key": "k"})
    refused("ValidationException", 400, "'timeout' failed to satisfy constraint", make, Timeout=901)
    refused("ValidationException", 400, "'memorySize' failed to satisfy constraint", make, MemorySize=10241)
    refused("ResourceConflictException", 409, "reserved name", make, name="register")
    assert c.list_functions()["Functions"] == []
    make()
    refused("ResourceConflictException", 409, "Function already exist: cart", make)
    refused("RequestEntityTooLargeException", 413, "smaller than 5120 bytes for the UpdateFunctionConfiguration", c.update_function_configuration, FunctionName="cart", Environment={"Variables": {"LONG": "x" * 6000}})
    refused("ResourceNotFoundException", 404, "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')", c.get_function, FunctionName="arn:aws:lambda:eu-west-1:000000000000:function:cart")
    refused("NotImplementedException", 501, "CreateEventSourceMapping is not served here", c.create_event_source_mapping, FunctionName="cart", EventSourceArn="arn:aws:sqs:us-east-1:000000000000:q")
    refused("NotImplementedException", 501, "AddPermission is not served here", c.add_permission, FunctionName="cart", StatementId="s", Action="lambda:InvokeFunction", Principal="*")
    for path in ("/2015-03-31/event-source-mappings/", "/2014-11-13/functions/cart/invoke-async/", "/2015-03-31/functions/cart/policy/s/"):
        method = "DELETE" if "policy" in path else "POST"
        assert status(urllib.request.Request(URL + path, b"{}", method=method)) == 501, path
    assert status(f"{URL}/2016-08-19/account-settings/") == status(f"{URL}/2015-03-31/functions/cart/") == 200
    refused("UnknownOperationException", 404, "GET /2025-11-30/capacity-providers is no operation", c.list_capacity_providers)
    link = c.get_function(FunctionName="cart")["Code"]["Location"]
    assert status(link) == 200 and status(link[:-1] + ("0" if link[-1] != "0" else "1")) == 403
    assert status(link.replace("Expires=1", "Expires=2")) == 403


def what_bungee_deployed():
    found = c.get_function(FunctionName="hello")
    conf = found["Configuration"]
    assert (conf["Runtime"], conf["Handler"], conf["Timeout"]) == ("bun", "index.handler", 30), conf
    names = zipfile.ZipFile(io.BytesIO(urllib.request.urlopen(found["Code"]["Location"]).read())).namelist()
    assert "index.js" in names, names
    assert c.get_function_configuration(FunctionName="hello")["RevisionId"] == conf["RevisionId"]
    assert c.publish_version(FunctionName="hello")["Version"] == "1"
    assert c.publish_version(FunctionName="hello")["Version"] == "1"
    c.create_alias(FunctionName="hello", Name="PROD", FunctionVersion="1")
    changed = c.update_function_configuration(FunctionName="hello", Timeout=11, RevisionId=conf["RevisionId"])
    assert changed["Timeout"] == 11 and changed["Version"] == "$LATEST", changed
    assert result("hello") == "hello"
    assert c.publish_version(FunctionName="hello")["Version"] == "2"


def what_bungee_deployed_since():
    conf = c.get_function_configuration(FunctionName="hello")
    assert conf["Timeout"] == 30 and result("hello") == "hello again", conf
    assert c.get_alias(FunctionName="hello", Name="PROD")["FunctionVersion"] == "1"
    assert c.get_alias(FunctionName="hello", Name="staging")["FunctionVersion"] == "v3"
    assert c.publish_version(FunctionName="hello")["Version"] == "3"
    assert c.get_alias(FunctionName="hello", Name="staging")["FunctionVersion"] == "3"


def whole(name, qualifier=None):
    """A state as it is shown, with the zip that its link gives: sha, size and zip are of one another."""
    found = c.get_function(FunctionName=name, **({"Qualifier": qualifier} if qualifier else {}))
    conf, code = found["Configuration"], urllib.request.urlopen(found["Code"]["Location"]).read()
    shown = (conf["CodeSha256"], conf["CodeSize"])
    assert shown == (base64.b64encode(hashlib.sha256(code).digest()).decode(), len(code)), (shown, len(code))
    return code, {key: conf.get(key) for key in ("Description", "Timeout", "CodeSha256", "Handler", "Role", "Environment")}


PYTHON = {"Runtime": "python3.12", "Handler": "app.go"}


def says_python(text):
    """The same text gives the same zip, at any time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, source in (("app.py", f"import words\ndef go(event, context):\n return {text!r}"), ("words.py", "")):
            archive.writestr(zipfile.ZipInfo(name), source)
    return out.getvalue()


def three_states():
    """Version 1 is published, what follows is not: v2 with other code, v3 with other settings."""
    first = says_python("one")
    make("back", first, Description="the first", Timeout=7, **PYTHON)
    assert c.publish_version(FunctionName="back")["Version"] == "1"
    c.update_function_code(FunctionName="back", ZipFile=says_python("two"))
    c.update_function_configuration(FunctionName="back", Description="the second", Timeout=9)
    assert whole("back")[0] == says_python("two") and whole("back", "1")[0] == first


def back_at_the_first():
    assert result("back") == "one"
    code, shown = whole("back")
    assert code == says_python("one") and (shown["Description"], shown["Timeout"]) == ("the first", 7), shown
    assert (code, shown) == whole("back", "1")
    assert c.publish_version(FunctionName="back")["Version"] == "1"


def back_at_the_second():
    """A state that never got a number."""
    assert result("back") == "two"
    code, shown = whole("back")
    assert code == says_python("two") and (shown["Description"], shown["Timeout"]) == ("the first", 7), shown
    published = c.publish_version(FunctionName="back")
    assert published["Version"] == "2" and whole("back", "2") == (code, shown), published


def back_at_the_first_again():
    assert c.publish_version(FunctionName="back")["Version"] == "1", "the number of a state that was there"
    again = c.update_function_configuration(FunctionName="back", Description="anew")
    assert again["Description"] == "anew" and whole("back")[0] == says_python("one"), again
    assert c.publish_version(FunctionName="back")["Version"] == "3"


def what_a_deployment_left():
    assert result("hello") == "hello"
    code, shown = whole("hello")
    names = zipfile.ZipFile(io.BytesIO(code)).namelist()
    assert not [name for name in names if name.endswith(".pyc")], names
    assert c.publish_version(FunctionName="hello")["Version"] == "1"
    assert whole("hello", "1")[0] == code
    changed = c.update_function_configuration(FunctionName="hello", Timeout=11, Description="mine")
    assert (changed["CodeSha256"], changed["CodeSize"]) == (shown["CodeSha256"], len(code)), changed
    assert whole("hello")[0] == code


def after_a_restart():
    assert [v["Version"] for v in c.list_versions_by_function(FunctionName="cart")["Versions"]] == ["$LATEST", "1", "2", "4"]
    assert c.get_alias(FunctionName="cart", Name="PROD")["FunctionVersion"] == "1"
    assert result(alias="PROD")["said"] == "one"


globals()[sys.argv[2]]()
