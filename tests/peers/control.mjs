// A story of AWS Lambda's control plane, told by the unmodified AWS SDK for JavaScript: `control.mjs URL ZIP`.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.env.PEERS_NODE + "/");
const sdk = require("@aws-sdk/client-lambda");
const client = new sdk.LambdaClient({
  endpoint: process.argv[2],
  region: "eu-central-1",
  credentials: { accessKeyId: "anybody", secretAccessKey: "anything" },
});
const send = (name, input) => client.send(new sdk[name + "Command"](input));
const FunctionName = "cart";
const ZipFile = readFileSync(process.argv[3]);

const made = await send("CreateFunction", {
  FunctionName, Role: "arn:aws:iam::000000000000:role/anybody", Runtime: "nodejs22.x", Handler: "index.handler", Code: { ZipFile }, Publish: true,
});
assert.equal(made.FunctionArn, "arn:aws:lambda:eu-central-1:000000000000:function:cart:1");
await sdk.waitUntilFunctionActiveV2({ client, maxWaitTime: 20 }, { FunctionName });
await sdk.waitUntilFunctionUpdatedV2({ client, maxWaitTime: 20 }, { FunctionName });
const changed = await send("UpdateFunctionConfiguration", { FunctionName, Timeout: 20, Environment: { Variables: { WORD: "é" } } });
assert.deepEqual(changed.Environment.Variables, { WORD: "é" });
await send("CreateAlias", { FunctionName, Name: "PROD", FunctionVersion: "1" });
const alias = await send("GetAlias", { FunctionName: made.FunctionArn.slice(0, -2), Name: "PROD" });
assert.equal(alias.FunctionVersion, "1");
const refused = send("UpdateFunctionConfiguration", { FunctionName, RevisionId: made.RevisionId + "x", Timeout: 3 });
await assert.rejects(refused, (error) => error instanceof sdk.PreconditionFailedException && error.$metadata.httpStatusCode === 412);
await assert.rejects(send("GetFunction", { FunctionName: "nobody" }), sdk.ResourceNotFoundException);
const layer = await send("PublishLayerVersion", { LayerName: "tools", Content: { ZipFile } });
assert.equal(layer.Version, 1);
const url = await send("CreateFunctionUrlConfig", { FunctionName, AuthType: "NONE" });
assert.equal(url.FunctionUrl, process.argv[2] + "/functions/cart/");
await send("TagResource", { Resource: alias.AliasArn.replace(/:PROD$/, ""), Tags: { a: "b" } });
assert.deepEqual((await send("GetFunction", { FunctionName })).Tags, { a: "b" });
await send("DeleteFunction", { FunctionName });
assert.deepEqual((await send("ListFunctions", {})).Functions, []);
